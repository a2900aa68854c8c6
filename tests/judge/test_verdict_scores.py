"""Score formats: where the score is, its spellings, its scale, and texts without a score."""

from __future__ import annotations

import pytest
from verdict_readers import reader

from runner.types import Dimension

DICT = "好。\n{'事实正确性': 9, '满足用户需求': 6, '清晰度': 11, '综合得分': 7}"


def test_alignbench_reads_the_total_and_its_dimensions() -> None:
    verdict = reader(format="alignbench")(DICT)
    assert (verdict.score, verdict.rule) == (7, "alignbench.dict")
    assert verdict.dimensions == (Dimension("事实正确性", None, 9), Dimension("满足用户需求", None, 6))


@pytest.mark.parametrize(
    ("text", "score", "rule"),
    [
        ('```json\n{\n  "事实正确性": 9,\n  "综合得分": 7.5,\n}\n```', 7.5, "dict"),
        ("{“事实正确性”：９，“综合得分”：８}", 8, "dict"),
        ("{'综合得分': '8/10'}", 8, "dict"),
        ("{'综合得分': '8分'}", 8, "dict"),
        ("{'事实正确性':3,'综合得分':4}\n{'事实正确性':5,'综合得分':6}", 6, "dict"),
        ("{'综合得分': [一个数字]}\n{'综合得分': 6}", 6, "dict"),
        ("综合得分：8", 8, "total"),
        ("**综合得分**: 7.5分", 7.5, "total"),
        ("'事实正确性': 9, '综合得分': 7", 7, "total"),
        ("综合得分：3\n综合得分：8", 8, "total"),
    ],
)
def test_alignbench(text: str, score: float, rule: str) -> None:
    verdict = reader(format="alignbench")(text)
    assert (verdict.score, verdict.rule) == (score, f"alignbench.{rule}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{'事实正确性': 9}", "no_verdict"),
        ("{'综合得分': '好'}", "no_verdict"),
        ("{'综合得分': true}", "no_verdict"),
        ("综合得分：7-8", "no_verdict"),
        ("{'综合得分': 7, '综合得分': 8}", "conflict"),
        ("综合得分：3，不，综合得分：8", "conflict"),
        ("{'综合得分': 11}", "out_of_scale"),
        ("综合得分：4/5", "out_of_scale"),
    ],
)
def test_alignbench_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="alignbench")(text)
    assert (verdict.score, verdict.dimensions, verdict.problem) == (None, (), problem)


@pytest.mark.parametrize(
    ("text", "score", "rule"),
    [
        ("It is fine. Rating: [[5]]", 5, "rating"),
        ("评分:[[7]]", 7, "rating"),
        ("打分：[[ 7.5 ]]", 7.5, "rating"),
        ("Depth rating: [[3]]\n\nOverall rating: [[6]]", 6, "rating"),
        ("Rating: [[6]]\nas in [[6]] other texts", 6, "rating"),
        ("as [1] says\n[[4]]", 4, "bracket"),
    ],
)
def test_auto_j_single(text: str, score: float, rule: str) -> None:
    verdict = reader(format="auto_j_single")(text)
    assert (verdict.score, verdict.rule) == (score, f"auto_j_single.{rule}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Rating: 5", "no_verdict"),
        ("Rating: [[5, 6]]", "no_verdict"),
        ("Rating: [[0]]", "out_of_scale"),
        ("Rating: [[5]] or Rating: [[6]]", "conflict"),
        ("[[5]] [[6]]", "conflict"),
        ("Rating: [[6]]\nas in [[9]] other texts", "conflict"),
    ],
)
def test_auto_j_single_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="auto_j_single")(text)
    assert (verdict.score, verdict.problem) == (None, problem)


@pytest.mark.parametrize(
    ("text", "score", "rule"),
    [
        ("Feedback: good. [RESULT] 4", 4, "result"),
        ("[RESULT] 4.", 4, "result"),
        ("[RESULT] **4**", 4, "result"),
        ("[RESULT]\n(4)", 4, "result"),
        ("[SCORE] 3/5", 3, "result"),
        ("[RESULT] 3/5 because it is dull", 3, "result"),
        ("[Result] Score: 3 out of 5", 3, "result"),
        ("[RESULT] 2.5", 2.5, "result"),
        ("[RESULT] 4 is what it deserves, not 5.", 4, "result"),
        ("[RESULT] 2\nno: [RESULT] 3", 3, "result"),
        ("【RESULT】 ４", 4, "result"),
        ("Feedback: good.\nScore: 4", 4, "label"),
        ("so the overall score is 4.", 4, "label"),
    ],
)
def test_prometheus(text: str, score: float, rule: str) -> None:
    verdict = reader(format="prometheus")(text)
    assert (verdict.score, verdict.rule) == (score, f"prometheus.{rule}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("4", "no_verdict"),
        ("[RESULT] (an integer number between 1 and 5)", "no_verdict"),
        ("[RESULT] 3-4", "no_verdict"),
        ("[RESULT] 3 or 4", "no_verdict"),
        ("score 4 in style\nand that is all", "no_verdict"),
        ("[RESULT] 3 [RESULT] 4", "conflict"),
        ("[RESULT] 6", "out_of_scale"),
        ("[RESULT] 4/10", "out_of_scale"),
    ],
)
def test_prometheus_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="prometheus")(text)
    assert (verdict.score, verdict.problem) == (None, problem)


NUMBERS = [
    ("8", 8, 8),
    (" **8**\n", 8, 8),
    ("8.", 8, 8),
    ("_8_", 8, 8),
    ("7.5", 7.5, 7.5),
    ("９", 9, 9),
    ("8/10", 8, 8),
    ("8 out of 10", 8, 8),
    ("I give 8/10 because it is right", 8, 8),
    ("8/10分。", 8, 8),
    ("- Coherence: 4", 4, 4),
    ("打3分", 3, 3),
    ("-2", -2, -2),
    ("1,000", 1000, 1000),
    ("[[8]]", 8, 8),
    ("Rating: [8]", 8, 8),
    ("[8]", 8, 8),
    ("as [1, 2] and [3] say: 8", 8, 8),
    ("GPT-4 and e5 and x_2 give 6", 6, 6),
    ("满分10分，得8分", 8, 8),
    ("On a scale of 1 to 10: 8", 8, 8),
    ("Score: 8 (out of 10)", 8, 8),
    ("6 at first, later 7", 6, 7),
]


@pytest.mark.parametrize(("text", "first", "last"), NUMBERS)
def test_plain_numbers(text: str, first: float, last: float) -> None:
    assert reader(format="first_number")(text).score == first
    assert reader(format="last_number")(text).score == last


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("none", "no_verdict", "no_verdict"),
        ("e5", "no_verdict", "no_verdict"),
        ("as [1] says", "no_verdict", "no_verdict"),
        ("out of 10", "no_verdict", "no_verdict"),
        ("7-8", "conflict", "conflict"),
        ("7 or 8", "conflict", "conflict"),
        ("7, 8", "conflict", "conflict"),
        ("11", "out_of_scale", "out_of_scale"),
        ("4/5", "out_of_scale", "out_of_scale"),
        ("9" * 400, "out_of_scale", "out_of_scale"),
        ("1. It is right.\n2. It is clear.", "no_verdict", "no_verdict"),
        ("1. It is right.\nScore: 8", "no_verdict", None),
        ("8\n1. It is right.", None, None),
    ],
)
def test_plain_number_without_a_verdict(text: str, first: str | None, last: str | None) -> None:
    for name, problem in (("first_number", first), ("last_number", last)):
        verdict = reader((1, 10), format=name)(text)
        assert (verdict.problem, verdict.score) == (problem, None if problem else 8)


def test_explanation_of_formats_that_have_one() -> None:
    for name, text, expected in (
        ("prometheus", "Feedback: It is\nright. [RESULT] 4", "It is\nright."),
        ("prometheus", "Score: 4", None),
        ("prometheus_pair", "**Feedback:** B is. \n[RESULT] B", "B is."),
        ("judgelm", "8 7\nThe first\nis better.", "The first\nis better."),
        ("judgelm", "8 7", None),
        ("pandalm", "1\n\n### Reason: It is\nright.\n\n### Reference: 2", "It is\nright."),
        ("pandalm", "1", None),
    ):
        assert reader(format=name)(text).explanation == expected


def test_a_dimension_judge_gives_no_overall_verdict() -> None:
    verdict = reader(dimension="tone", format="alignbench")(DICT)
    assert (verdict.score, verdict.problem) == (None, None)
    assert verdict.dimensions[:2] == (Dimension("tone", None, 7), Dimension("事实正确性", None, 9))
    verdict = reader(dimension="tone", format="judgelm")("8 7")
    assert (verdict.winner, verdict.score1) == (None, None)
    assert verdict.dimensions == (Dimension("tone", 1, 8), Dimension("tone", 2, 7))
    assert reader(dimension="tone", format="judgelm")("8").problem == "no_verdict"
    verdict = reader(dimension="事实正确性", format="alignbench")(DICT)
    assert [item.score for item in verdict.dimensions if item.name == "事实正确性"] == [7]
