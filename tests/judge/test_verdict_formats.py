"""MT-Bench, patterns, and what no text may do to any reader."""

from __future__ import annotations

import gc
import math
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import JudgeConfig, VerdictConfig
from runner.errors import ConfigError
from runner.judge import FORMATS, reader_for
from runner.judge.verdict.reading import Reader
from runner.types import Verdict


def reader(scale: tuple[float, float] | None = None, **verdict: Any) -> Reader:
    return reader_for(JudgeConfig(kind="template", user="x", scale=scale, verdict=VerdictConfig(**verdict)))


RATING = reader(format="mt_bench_single")
LETTER = reader(format="mt_bench_pair")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Clear and right. Rating: [[7]]", 7),
        ("Rating: [[7]]\n\nIt is clear.", 7),
        ("[[ 8 ]]", 8),
        ("[[8/10]]", 8),
        ("[[4分]]", 4),
        ("【【７】】", 7),
        ("[[rating: 6]]", 6),
        ("[[Rating: [6]]]", 6),
        ("[[7.5]]", 7.5),
        ("**Rating:** **[[9]]**", 9),
        ("as given in [1] and [2]. [[9]]", 9),
        ("see [1] ... Rating: 7", 7),
        ("**Rating: 8**", 8),
        ("[[rating]]: 5", 5),
        ("Rating: [5]", 5),
        ("评分：8分", 8),
        ('in the form "[[rating]]", for example: "Rating: [[5]]".\n\nRating: [[8]]', 8),
        ("depth [[6]], style [[9]].\nRating: [[7]]", 7),
        ("Depth rating: [[6]]\nStyle rating: [[9]]\nOverall rating: [[8]]", 8),
        ("准确性评分:[[6]] 总分:[[9]]", 9),
        ("[[7]] ... [[7]]", 7),
    ],
)
def test_rating(text: str, score: float) -> None:
    verdict = RATING(text)
    assert (verdict.score, verdict.problem) == (score, None)
    assert verdict.rule is not None
    assert verdict.rule.startswith("mt_bench_single.")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see [1] and [7]", "no_verdict"),
        ("[[rating]]", "no_verdict"),
        ("Rating: [[5, 1, 3]]", "no_verdict"),
        ("Rating: [[5], [1], [2]]", "no_verdict"),
        ("Rating: 7-8", "no_verdict"),
        ("a score: 5 of the tests passed", "no_verdict"),
        ('for example: "Rating: [[5]]"', "no_verdict"),
        ("depth [[6]], style [[9]]", "conflict"),
        ("Rating: [[6]] no, Rating: [[9]]", "conflict"),
        ("Rating: [[11]]", "out_of_scale"),
        ("Rating: [[0]]", "out_of_scale"),
        ("Rating: [[4/5]]", "out_of_scale"),
    ],
)
def test_no_rating(text: str, problem: str) -> None:
    verdict = RATING(text)
    assert (verdict.score, verdict.problem) == (None, problem)
    assert verdict.detail


def test_rating_on_another_scale() -> None:
    assert reader((0, 5), format="mt_bench_single")("[[0]]").score == 0
    assert reader((0, 5), format="mt_bench_single")("[[4/5]]").score == 4


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("[[A]]", "1"),
        ("so [[b]] it is", "2"),
        ("[[C]]", "tie"),
        ("[[Tie]]", "tie"),
        ("[[ Ｂ ]]", "2"),
        ("【【A】】", "1"),
        ('[["A"]]', "1"),
        ("[[Assistant B]]", "2"),
        ("[[A]] is wrong; final [[B]]", "2"),
        ('Say "[[A]]" if A is better, "[[B]]" if B is better, "[[C]]" for a tie.\n\nA is wrong, so [[B]].', "2"),
        ("At first [[A]] seems right.\n\n**[[B]]**\n", "2"),
    ],
)
def test_letter(text: str, winner: str) -> None:
    assert (LETTER(text).winner, LETTER(text).problem) == (winner, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Assistant A is better.", "no_verdict"),
        ("[A]", "no_verdict"),
        ("[[D]]", "no_verdict"),
        ("[[A>B]]", "no_verdict"),
        ("[[A]] for style but [[B]] for depth", "conflict"),
        ("[[A]]\n[[B]]", "conflict"),
        ("Final verdict: [[A]]. Final verdict: [[B]].", "conflict"),
        ('"[[A]]", "[[B]]" or "[[C]]"', "conflict"),
    ],
)
def test_no_letter(text: str, problem: str) -> None:
    assert (LETTER(text).winner, LETTER(text).problem) == (None, problem)


PATTERNS: list[tuple[dict[str, Any], str, Verdict]] = [
    ({"pattern": r"(\d+)分", "kind": "score"}, "打3分, 或4分", Verdict(score=3, rule="pattern.first")),
    ({"pattern": r"(\d+)分", "kind": "score", "pick": "last"}, "打3分, 或４分", Verdict(score=4, rule="pattern.last")),
    (
        {"pattern": r"good|bad", "kind": "score", "map": {"good": "1", "bad": "0"}},
        "bad",
        Verdict(score=0, rule="pattern.first"),
    ),
    (
        {"pattern": r"[XY]$", "kind": "winner", "map": {"X": "1", "Y": "2"}},
        "so Y",
        Verdict(winner="2", rule="pattern.first"),
    ),
    ({"pattern": r"better: (\w+)", "kind": "winner"}, "better: Tie", Verdict(winner="tie", rule="pattern.first")),
    ({"pattern": r"(?i)verdict: (\w+)", "kind": "label"}, "Verdict: Safe", Verdict(label="Safe", rule="pattern.first")),
    ({"pattern": r"\w+", "kind": "label", "map": {"YES": "y"}}, "yes", Verdict(label="y", rule="pattern.first")),
]


@pytest.mark.parametrize(("verdict", "text", "expected"), PATTERNS)
def test_pattern(verdict: dict[str, Any], text: str, expected: Verdict) -> None:
    assert reader(**verdict)(text) == expected


@pytest.mark.parametrize(
    ("verdict", "text", "problem"),
    [
        ({"pattern": r"(\d+)分", "kind": "score"}, "none", "no_verdict"),
        ({"pattern": r"(\d+)?分", "kind": "score"}, "分", "no_verdict"),
        ({"pattern": r"\w+", "kind": "score"}, "word", "no_verdict"),
        ({"pattern": r"\w+", "kind": "winner", "map": {"A": "1"}}, "B", "no_verdict"),
        ({"pattern": r"\w+", "kind": "label", "map": {"A": "a"}}, "B", "no_verdict"),
        ({"pattern": r"\d+", "kind": "score"}, "7", "out_of_scale"),
        ({"pattern": r"\d+", "kind": "score"}, "9" * 500, "out_of_scale"),
    ],
)
def test_pattern_without_a_verdict(verdict: dict[str, Any], text: str, problem: str) -> None:
    read = reader((1, 5), **verdict)(text)
    assert (read.problem, read.score, read.winner, read.label) == (problem, None, None, None)


def test_a_format_that_there_is_not() -> None:
    judge = JudgeConfig(kind="template", user="x", verdict=VerdictConfig())
    with pytest.raises(ConfigError, match="expected one of pai_single"):
        reader_for(judge)


ALL = [*(reader(format=name) for name in FORMATS), reader(pattern=r"\[\[(.*?)\]\]", kind="score")]
PIECES = [
    *(
        "[[",
        "]]",
        "【【",
        "】】",
        "[",
        "]",
        "5",
        "９",
        "10",
        "/",
        "分",
        "A",
        "b",
        "C",
        "Tie",
        "回复1",
        "回复2",
        "更好",
        "平局",
    ),
    *(
        "综合评分为",
        "Rating",
        ": ",
        "：",
        "\n",
        "\n\n",
        "1. ",
        "理由如下",
        "<think>",
        "</think>",
        "both responses",
        "都",
    ),
    *("得分为", "。", ". ", "**", " "),
]


def check(verdict: Verdict) -> None:
    numbers = [verdict.score, verdict.score1, verdict.score2, *(d.score for d in verdict.dimensions)]
    assert all(math.isfinite(number) for number in numbers if number is not None)
    read = verdict.score is not None or verdict.winner is not None or verdict.label is not None
    assert read == (verdict.problem is None)
    assert read or verdict.detail


@given(st.text(st.characters()))
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in ALL:
        check(read(text))


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_no_mixture_of_the_grammars_breaks_a_reader(text: str) -> None:
    for read in ALL:
        check(read(text))


@given(st.sampled_from(PIECES), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_thought_changes_nothing(thought: str, said: str) -> None:
    if "think" not in thought + said:
        for read in ALL:
            assert read(f"<think>{thought}</think>{said}") == read(said)


HOSTILE = [
    *("[[", "[[1", "[[ ", "1", " ", "\n", "[", "]]", "[[A]]", "[[5]] ", "[[A]][[B]][[C]]", "[[1" + "1" * 200),
    *(
        "回复1",
        "回复1和回复2",
        "回复1得[[4]]",
        "两个回复",
        "[[回复1更好]]",
        "综合评分为",
        "理由",
        "\n1. 名:",
        "\n1. 名:[[4]]",
    ),
    *("Rating: ", "Rating: [", "<think>", "</think>", "【【", "\n- ", "*"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_is_linear(piece: str) -> None:
    """Eight times the text may take no more than about eight times as long; a square would take 64 times."""
    prefix = "我认为[[回复1更好]]"
    for read in ALL[:-1]:
        short, long = (piece * (size // len(piece)) for size in (25_000, 200_000))
        assert best_of(read, prefix + long) < 24 * best_of(read, prefix + short) + 0.05


def best_of(read: Reader, text: str) -> float:
    times = []
    gc.disable()  # a collection walks the whole test session's heap
    for _ in range(3):
        start = time.process_time()
        read(text)
        times.append(time.process_time() - start)
    gc.enable()
    return min(times)


def test_a_random_megabyte_is_read_at_once() -> None:
    text = "".join(random.Random(5).choices(PIECES, k=350_000))
    for read in ALL:
        start = time.process_time()
        check(read(text.replace("think", "thank")))
        assert time.process_time() - start < 5
