"""The human-labelled benchmarks in the shared folder are read completely."""

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
def test_rows_and_labels_match_the_dataset_card(card: Path, read: Callable[..., list[Sample]]) -> None:
    text = card.read_text(encoding="utf-8")
    pairwise = "type: pairwise" in text
    rows = int(re.findall(r"^- rows: (\d+)$", text, re.MULTILINE)[0])
    label, kind = ("label", "winner") if pairwise else ("label_score", "score")
    samples = read(card.parent, human_label=label, keep=["meta"], label_kind=kind)
    assert take_fingerprint(discover(DatasetConfig(path=str(card.parent)))).rows == len(samples) == rows
    assert not [sample.problem for sample in samples if sample.problem]
    assert len({sample.id for sample in samples}) == rows
    if pairwise:
        expected = dict(re.findall(r'"(1|2|tie)": (\d+)', re.findall(r"^- labels: (.*)$", text, re.MULTILINE)[0]))
        counts = Counter(sample.columns["human_winner"] for sample in samples)
        assert counts == {winner: int(count) for winner, count in expected.items()}
    else:
        assert all(sample.columns["human_score"] is not None for sample in samples)
