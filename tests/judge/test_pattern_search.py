"""A user's own pattern means what Python's `re` means, and a text on which it would never end costs its row only."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_readers import reader

from runner.judge.verdict.formats import pattern as patterns

PATTERNS = [
    r"(\d+)",
    r"Score:\s*(\d+(?:\.\d+)?)",
    r"得分[：:]\s*(\d)",
    r"\b([12])\b",
    r"(?i)verdict\W+(\w+)",
    r"(?m)^answer (.*)$",
    r"\[\[(A|B|C)\]\]\s*\Z",
    r"(?<!\d)(\d)(?!\d)",
    r"(?P<q>['\"])(\w+)(?P=q)",
    r"(\w+)\s*$",
    r"[^\W\d_]+|(\d)",
    r"(?:is|was) (?:a )?(win|loss|tie)\b",
]
PIECES = [  # without characters such as ², which are letters for `re` alone
    "Score: ",
    "得分：",
    "verdict ",
    "answer ",
    "[[A]]",
    " is a win",
    "\n",
    "\u2028",
    "٣",
    "５",
    "_",
    "'a'",
    " 1 ",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(categories=("L", "Nd", "P", "Z")), max_size=20).map("".join)


def found_by_re(expression: str, text: str, pick: str) -> str | None:
    """Return what Python's `re` finds."""
    found = list(re.finditer(expression, text))
    if not found:
        return None
    match = found[0] if pick == "first" else found[-1]
    if not match.re.groups:
        return match[0]
    return next((group for group in match.groups() if group is not None), None)


@pytest.mark.parametrize("pick", ["first", "last"])
@pytest.mark.parametrize("expression", PATTERNS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_a_pattern_means_what_re_means(expression: str, pick: str, text: str) -> None:
    label = reader(pattern=expression, kind="label", pick=pick)(text).label
    expected = found_by_re(expression, text, pick)
    assert label == (None if expected is None else expected.strip())


def test_a_search_without_an_end_costs_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCH_SECONDS", 0.2)
    monkeypatch.setattr(patterns, "SHORT_SEARCH_SECONDS", 0.02)
    read = reader(pattern=r"(?:(?:a|aa|a?b?)+)+c(\d)", kind="score")
    start = time.perf_counter()
    for _ in range(patterns.MAX_LONG_SEARCHES + 10):
        verdict = read("a" * 60 + "c!")
        assert (verdict.problem, verdict.score) == ("no_verdict", None)
        assert "takes too long" in (verdict.detail or "")
    assert time.perf_counter() - start < 10
    assert read("aac7").problem is None


@pytest.mark.parametrize("expression", [r"(?:a+)+(\d)", r"(.*)*x(\d)", r"(\w+\s?)*!(\d)"])
def test_the_known_traps_end(expression: str) -> None:
    verdict = reader(pattern=expression, kind="score")("a" * 5000 + "!")
    assert verdict.problem == "no_verdict"
