"""The human-labelled benchmarks in the shared folder are read whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import DatasetConfig
from runner.dataset import discover, take_fingerprint
from runner.types import Sample

SHARED = Path(__file__).parents[2] / ".." / "shared" / "datasets"
CARDS = sorted(SHARED.glob("*/CARD.md"))


@pytest.mark.skipif(not CARDS, reason="the shared datasets are not beside this repository")
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_rows_and_labels_are_those_of_the_card(card: Path, read: Callable[..., list[Sample]]) -> None:
    text = card.read_text(encoding="utf-8")
    pairwise = "type: pairwise" in text
    rows = int(re.findall(r"^- rows: (\d+)$", text, re.MULTILINE)[0])
    samples = read(card.parent, human_label="label" if pairwise else "label_score", keep=["meta"], pairwise=pairwise)
    assert take_fingerprint(discover(DatasetConfig(path=str(card.parent)))).rows == len(samples) == rows
    assert not [sample.problem for sample in samples if sample.problem]
    assert len({sample.id for sample in samples}) == rows
    if pairwise:
        told = dict(re.findall(r'"(1|2|tie)": (\d+)', re.findall(r"^- labels: (.*)$", text, re.MULTILINE)[0]))
        seen = Counter(sample.columns["human_winner"] for sample in samples)
        assert seen == {winner: int(count) for winner, count in told.items()}
    else:
        assert all(sample.columns["human_score"] is not None for sample in samples)
