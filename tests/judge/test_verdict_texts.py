"""Texts of our own with the values that a person reads in them: every reader returns that value or, at times, none.

`tests/data/verdict_texts.jsonl` has one text a line: its `kind`, how it is read (`format`, `scale`, `finish_reason`),
and `expected`: a score, a winner, a winner with both scores, or null if the text has no clear verdict. `abstains` marks
a text whose verdict the reader leaves out, although a person can tell it, and `misread` has the wrong value of a known
fault: a pattern of the user's own cannot know that the number it matches is the top of the scale.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import Panel
from runner.judge.verdict import FORMATS
from runner.types import JudgeResponse

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "verdict_texts.jsonl").read_text(encoding="utf-8").splitlines()
]
KINDS = {"quoted", "several", "scale", "tie", "thinking", "false_null", "cut_off", "thought_field"}


@cache
def panel(verdict: str, scale: str) -> Panel:
    """Return the panel of one judge, for a format's name or the keys of `verdict`, both as JSON."""
    name, bounds = json.loads(verdict), json.loads(scale)
    if isinstance(name, str) and name.startswith("pai_"):
        return Panel([JudgeConfig(kind=name)])
    config = VerdictConfig.model_validate({"format": name} if isinstance(name, str) else name)
    return Panel([JudgeConfig(kind="template", user="x", scale=bounds and tuple(bounds), verdict=config)])


def found(row: dict[str, Any]) -> Any:
    reply = JudgeResponse(row["text"], row.get("finish_reason", "stop"), text_from=row.get("text_from"))
    verdict = panel(json.dumps(row["format"]), json.dumps(row.get("scale"))).read_variant(0, reply)
    assert "this is a bug" not in (verdict.detail or ""), row
    if isinstance(row["expected"], list):
        return [verdict.winner, verdict.score1, verdict.score2] if verdict.winner else None
    return verdict.winner or verdict.score


def test_every_text_is_read_rightly() -> None:
    failures = []
    for row in ROWS:
        value, expected = found(row), None if row.get("abstains") else row.get("misread", row["expected"])
        if value != expected and not (row.get("abstains") and value == row["expected"]):
            failures.append(f"{row['kind']}: {value!r} for {row['expected']!r} in {row['format']}: {row['text']!r}")
    assert not failures, "\n".join(failures)


def test_the_texts_cover_all_kinds_and_formats() -> None:
    kinds = Counter(row["kind"] for row in ROWS)
    assert kinds.keys() == KINDS
    formats = {row["format"] if isinstance(row["format"], str) else row["format"].get("format") for row in ROWS}
    assert formats == {*FORMATS, None}
    assert sum(any("一" <= each <= "鿿" for each in row["text"]) for row in ROWS) > 400
    assert [row["format"]["pattern"] for row in ROWS if "misread" in row] == [r"得分[:：]\s*(\d+(?:\.\d+)?)"]
    with_verdict = [row for row in ROWS if row["expected"] is not None]
    assert sum(bool(row.get("abstains")) for row in with_verdict) < 0.12 * len(with_verdict)
