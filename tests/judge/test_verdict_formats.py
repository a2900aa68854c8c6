"""The formats of MT-Bench, and `verdict.pattern`."""

from __future__ import annotations

from typing import Any

import pytest
from verdict_readers import reader

from runner.config import JudgeConfig, VerdictConfig
from runner.errors import ConfigError
from runner.judge import reader_for
from runner.types import Verdict

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
def test_rating_without_a_verdict(text: str, problem: str) -> None:
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
def test_letter_without_a_verdict(text: str, problem: str) -> None:
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
    ({"pattern": r"Score: (\d)|(\d) points", "kind": "score"}, "4 points", Verdict(score=4, rule="pattern.first")),
    (
        {"pattern": r"(A) wins|(B) wins", "kind": "winner", "map": {"A": "1", "B": "2"}, "pick": "last"},
        "A wins, no: B wins",
        Verdict(winner="2", rule="pattern.last"),
    ),
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


def test_missing_format_is_a_config_error() -> None:
    judge = JudgeConfig(kind="template", user="x", verdict=VerdictConfig())
    with pytest.raises(ConfigError, match="expected one of pai_single"):
        reader_for(judge)
