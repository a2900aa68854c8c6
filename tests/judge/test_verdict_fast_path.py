"""The fast path of the pairwise reader returns what the general path returns, or None."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.emulator.answers.pai_texts import pair_text
from runner.emulator.answers.scoring import VerdictBias, compare
from runner.judge.verdict.answer_scores import scores
from runner.judge.verdict.common import fitting
from runner.judge.verdict.criteria_list import items
from runner.judge.verdict.formats.pai_fast_path import fast_criteria

SEED = Path(__file__).parents[2] / ".." / "shared" / "seed"
PIECES = [
    *("[[", "]]", "[", "]", "[[4]]", "[[2]]", "[[３]]", "[[12]]", "[[4/5]]", "[[ 3 ]]", "[[\n5\n\n]]", "[[N/A]]"),
    *("回复1", "回复2", "回複１", "回答 2", "答案1", "助手2", "模型12", "Response 1", "Response 2", "**Reply 2**"),
    *("\n", "\n\n", "\n \t\n", "\n1. 准确性:", "\n2. **Relevance**: ", "\n- 回复1:", "\n回复1和回复2:", "\n综合评分:"),
    *("两个回复", "两份回答", "两者", "都", "均为", "两", "both", "Both responses"),
    *("both responses", "They both", "Two answers "),
    *("和", "、", " and ", " and the ", "与", "。", "；", ". ", ",", "，", "得分为", "理由", "1", "2", " ", "*", "x"),
]  # fmt: skip
MIXTURES = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
EMULATED = st.builds(
    lambda quality1, quality2, variation, chinese: pair_text(
        compare(quality1, quality2, 5, variation, VerdictBias()), chinese
    ),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


def general(text: str) -> list[tuple[str, int, float]]:
    """Return the criteria by the general path."""
    return [
        (name, answer, value)
        for name, start, end in items(text, 0)
        for answer, match in sorted(scores(text, start, end).items())
        if (value := fitting(match, None)) is not None
    ]


@given(st.one_of(MIXTURES, st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5))).map("".join)))
@settings(max_examples=500)
def test_any_text(text: str) -> None:
    text = f"\n1. 甲:{text}"
    assert fast_criteria(text, 0) in (None, general(text))


@given(EMULATED, st.integers(0), st.integers(0, 20), MIXTURES)
def test_a_text_with_a_change(text: str, position: int, removed: int, inserted: str) -> None:
    position %= len(text)
    text = text[:position] + inserted[:40] + text[position + removed :]
    assert fast_criteria(text, 0) in (None, general(text))


@given(EMULATED)
def test_emulated_texts_take_the_fast_path(text: str) -> None:
    text = text[text.index("\n") :]
    assert fast_criteria(text, 0) == general(text) != []


@pytest.mark.skipif(not SEED.is_dir(), reason="no shared page beside the repository")
def test_the_documented_example() -> None:
    page = "".join(path.read_text(encoding="utf-8") for path in SEED.glob("*.txt"))
    texts = [json.loads(content) for content in re.findall(r'"content": ("我认为\[\[.*"),\n', page)]
    assert texts
    for text in texts:
        start = text.index("\n")
        assert fast_criteria(text[start:], 0) == general(text[start:]) != []
