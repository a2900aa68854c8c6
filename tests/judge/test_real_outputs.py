"""Texts that real judges wrote, with the verdict they mean (the shared folder next to the repository)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import reader_for

OUTPUTS = Path(__file__).parents[2] / ".." / "shared" / "judge_outputs"
FILES = {
    "mt_bench_single": ("mt_bench_single*.jsonl", "score", "score"),
    "mt_bench_pair": ("mt_bench_pair*.jsonl search_arena_pair.jsonl", "verdict", "winner"),
}

pytestmark = pytest.mark.skipif(not OUTPUTS.is_dir(), reason="the shared judge outputs are not next to the repository")


@pytest.mark.parametrize("name", FILES)
def test_real_texts(name: str) -> None:
    globs, expected_key, attribute = FILES[name]
    read = reader_for(JudgeConfig(kind="template", user="x", verdict=VerdictConfig.model_validate({"format": name})))
    total = 0
    missed: list[str] = []
    wrong: list[str] = []
    for path in sorted(path for glob in globs.split() for path in OUTPUTS.glob(glob)):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            expected, found = row["expected"][expected_key], getattr(read(row["text"]), attribute)
            total += 1
            if found != expected:
                (missed if found is None else wrong).append(row["id"])
    assert total > 1000
    assert len(missed) + len(wrong) <= 0.003 * total, missed
    assert len(wrong) <= 0.0005 * total, wrong


def test_hard_texts_are_never_read_wrong() -> None:
    """Texts on which the sources' own parsers failed: many are read, the others are unparsed, none is misread."""
    readers = {
        name: reader_for(JudgeConfig(kind="template", user="x", verdict=VerdictConfig.model_validate({"format": name})))
        for name in FILES
    }
    total, right = 0, 0
    for line in (OUTPUTS / "hard.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        name = next((name for name in FILES if row["format"].startswith(name)), None)
        if name is not None:
            _, expected_key, attribute = FILES[name]
            found, expected = getattr(readers[name](row["text"]), attribute), row["expected"][expected_key]
            assert found in (None, expected), row["id"]
            total += 1
            right += found == expected
    assert right >= 0.85 * total
