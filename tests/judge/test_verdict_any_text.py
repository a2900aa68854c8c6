"""Properties of all readers on any text: no exception, linear time, and no verdict from a thinking block."""

from __future__ import annotations

import gc
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_readers import reader

from runner.judge import FORMATS
from runner.judge.verdict.common import Reader
from runner.types import Verdict

KEYS: dict[str, Any] = {"score": "score", "winner": "verdict", "dimensions": "parts", "explanation": "reason"}


OWN = [reader(format=name) for name in FORMATS if name != "json"]
OWN += [reader(format="json", **KEYS), reader(format="json", score="a.score"), reader((1, 5), format="last_number")]
ALL = [*OWN, reader(pattern=r"\[\[(.*?)\]\]", kind="score")]
PIECES = [
    *("[[", "]]", "【【", "】】", "[", "]", "5", "９", "10", "/", "分", "A", "b", "C", "Tie", "回复1", "回复2"),
    *("综合评分为", "Rating", ": ", "：", "\n", "\n\n", "1. ", "理由如下", "<think>", "</think>", "更好", "平局"),
    *("得分为", "。", ". ", "**", " ", "[[A>>B]]", "[[B>A]]", "A=B", "verdict", "[RESULT] ", "[RESULT] 4", "都"),
    *("Output (a)", "Output (b)", " is better", "Therefore, ", "if ", "final decision is ", "最终决定是", "[RESULT] A"),
    *("{", "}", "'", '"', "“", "”", "\\", "\\ud83d", "score", "综合得分", ",", "，", "(", ")", "null", "1e999", "-"),
    *('"score": 4', "'verdict': 'B'", '{"score": 4, "verdict": "A"}', "{'综合得分': 7}", "8 7", "8/10", "7.5"),
    *("out of ", "to ", "Response 1", "both responses"),
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(st.characters(), max_size=4)), max_size=40).map("".join)


def check(verdict: Verdict) -> None:
    numbers = [verdict.score, verdict.score1, verdict.score2, *(d.score for d in verdict.dimensions)]
    assert all(math.isfinite(number) for number in numbers if number is not None)
    read = verdict.score is not None or verdict.winner is not None or verdict.label is not None
    read = read or verdict.score1 is not None
    assert read == (verdict.problem is None)
    assert read or verdict.detail
    assert verdict.rule is not None or not read


@given(st.text(st.characters()))
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in ALL:
        check(read(text))


@given(TEXTS)
def test_no_mixture_of_the_formats_breaks_a_reader(text: str) -> None:
    for read in ALL:
        check(read(text))


@given(st.sampled_from(PIECES), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_thinking_changes_nothing(thinking: str, text: str) -> None:
    if "think" not in thinking + text and text.strip():
        for read in ALL:
            assert read(f"<think>{thinking}</think>{text}") == read(text)


HOSTILE = [
    *("[[", "[[1", "[[ ", "1", " ", "\n", "[", "]]", "[[A]]", "[[5]] ", "[[A]][[B]][[C]]", "[[1" + "1" * 200),
    *("回复1", "回复1和回复2", "回复1得[[4]]", "两个回复", "[[回复1更好]]", "综合评分为", "理由", "\n1. 名:"),
    *("\n1. 名:[[4]]", "Rating: ", "Rating: [", "<think>", "</think>", "【【", "\n- ", "*", "[[A>B]]", "[A>"),
    *("[[A>>B]] [[A>B]] [[A=B]] ", "{", "[{", '{"', '{"a":', '{"a":[', "{'a':{", '{"score":4}', '{"a":"\\', "}{"),
    *("{'综合得分': 7", "综合得分：8", "综合得分 ", "[RESULT]", "[RESULT] 4", "[RESULT] A ", "[RESULT](", "score: 4 "),
    *("final decision is Response 1 ", "最终决定是", "1,", "1,000", "Output (a) is better", "Output (a) ", "not if "),
    *("I argue that Output (b) is better. ", "better output is ", "1 2 3 ", "4/5 ", "[1] ", "1. a\n", "7-8 "),
    *(
        "out of 10 ",
        "1.2.",
        "- -1",
        "Assistant 1: 8 ",
        "Tie or ",
        "８／１０",
        "共10分",
        "Score: 7 ",
        "1=worst, 10=best ",
        "4½ ",
    ),
    *(
        '"Rating: [[10]]" ',
        "'[[A]] ",
        "“[[A]]”的字样",
        "> [[9]]\n",
        "it would be [[9]] ",
        '{"a": "b" x} ',
        "{/* ",
        '{"score": 4 // c\n',
    ),
    *("<thinking>", "[/THINK]", "◁think▷", "<|channel|>", "[RESULT] A tie ", "no: [RESULT] 3\n"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_is_linear(piece: str) -> None:
    """A text ten times as long may take about ten times as long; quadratic time would be a hundred times."""
    prefix = "我认为[[回复1更好]]"
    for read in OWN:
        short, long = (piece * (size // len(piece)) for size in (2_000, 20_000))
        for before, after in ((prefix, ""), ("", "\n" + prefix)):
            limit = 25 * min(cpu_seconds(read, before + short + after) for _ in range(2)) + 0.05
            assert any(cpu_seconds(read, before + long + after) < limit for _ in range(2))


def cpu_seconds(read: Reader, text: str) -> float:
    gc.disable()  # a collection walks the whole test session's heap
    start = time.process_time()
    read(text)
    seconds = time.process_time() - start
    gc.enable()
    return seconds


def test_a_random_megabyte_is_read_within_seconds() -> None:
    text = "".join(random.Random(5).choices(PIECES, k=250_000)).replace("think", "thank")
    assert len(text) > 1_000_000
    for read in ALL:
        start = time.process_time()
        check(read(text))
        assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mt_bench_single", "In R, x[[1]] is the first element. The answer explains"),
        ("mt_bench_single", "`df[['5']]` selects a column"),
        ("mt_bench_pair", 'It uses df[["A"]] and then'),
        ("auto_j_single", "It reads lst[[1]] first"),
        ("arena_hard", "The loop sorts arr[a>b], which"),
        ("arena_hard", "My verdict: A>B or B>A"),
        ("arena_hard", "My verdict is not A>B"),
        ("judgelm", "1. 8\n2. 7"),
        ("judgelm", "1: 8\n2: 7"),
        ("judgelm", "**1** : 8\n**2** : 7"),
        ("judgelm", "1) 8\n2) 7"),
        ("prometheus", "Feedback: good. [RESULT] 4 1/2"),
        ("prometheus", "Feedback: good. [RESULT] 3½"),
        ("prometheus", "Feedback: good. [RESULT] 4 5"),
        ("prometheus_pair", "Feedback: good. [RESULT] A, B"),
        ("prometheus_pair", "Feedback: good. [RESULT] B>A"),
    ],
)
def test_a_text_that_only_looks_like_a_verdict_is_not_one(name: str, text: str) -> None:
    assert reader(format=name)(text).problem == "no_verdict"


@pytest.mark.parametrize(
    ("name", "text", "score"),
    [
        ("mt_bench_single", "x[[1]] is right. Rating[[7]]", 7),
        ("mt_bench_single", "评分[[7]]", 7),
        ("auto_j_single", "x[[1]] is right. Rating: [[7]]", 7),
        ("prometheus", "[RESULT] 4 (2 flaws)", 4),
    ],
)
def test_a_rating_is_read_beside_a_text_that_looks_like_one(name: str, text: str, score: float) -> None:
    assert reader(format=name)(text).score == score


def test_two_bracketed_scores_are_not_a_numbered_list() -> None:
    verdict = reader(format="judgelm")("(8) (7)\nBecause")
    assert (verdict.score1, verdict.score2) == (8, 7)


def test_two_ratings_on_one_line_are_a_conflict() -> None:
    assert reader(format="auto_j_single")("Rating: [[5]] or [[6]]").problem == "conflict"
