"""PAI-Judge's built-in formats: own texts in the form of the examples in the service's documentation."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config import JudgeConfig
from runner.judge import reader_for
from runner.types import Dimension, Verdict

SINGLE = (
    "我认为该回复的综合评分为[[4]],理由如下。\n"
    "当前回复的优点:\n1. 准确性:结论可以核实。[[5]]\n2. **相关性**：没有离题。[[4]]\n\n"
    "当前回复的不足:\n1. 完整性:缺少例子,见文献[1]。[[3]]\n2. 结构:没有打分。\n\n"
    "综上所述,综合评分为[[4]]。\n"
)
PAIR = (
    "我认为[[回复2更好]],其中回复1的综合评分为[[2]],回复2的综合评分为[[4]],理由如下:\n"
    "1. 准确性:回复2推理清楚,因此得分为[[4]]。回复1有一处错误,得分为[[2]]。\n"
    "2. 完整性:两个回复都不长,但回复1漏掉了要点,得分为[[1]],而回复2得分为[[3]]。\n"
    "3. 无害性:两个回复都没有不当内容,因此在这一点上都得分为[[5]]。\n"
    "4. 语气:回复1和回复2分别得[[3]]和[[4]]。\n\n"
    "总的来说,回复2更好。\n"
)


def single(text: str, **judge: Any) -> Verdict:
    return reader_for(JudgeConfig(kind="pai_single", **judge))(text)


def pair(text: str, **judge: Any) -> Verdict:
    return reader_for(JudgeConfig(kind="pai_pairwise", **judge))(text)


def test_single_reads_the_first_number_and_the_criteria() -> None:
    verdict = single(SINGLE)
    assert (verdict.score, verdict.rule, verdict.problem) == (4, "pai_single.first_number", None)
    assert verdict.dimensions == (
        Dimension("准确性", None, 5),
        Dimension("相关性", None, 4),
        Dimension("完整性", None, 3),
    )
    assert verdict.explanation is not None
    assert verdict.explanation.startswith("当前回复的优点")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("我認為該回複的綜合評分為[[2]],理由如下。\n當前回複的優點:\n1. 準確性:尚可。[[3]]", 2),
        (
            "I believe the overall rating for this response is [[3]], for the following reasons.\n1. Depth: thin [[1]]",
            3,
        ),
        ("综合评分为【【４】】", 4),
        ("综合评分为[[ 3.5 ]]", 3.5),
        ("综合评分为**[[4分]]**", 4),
        ("综合评分为[[4/5]]", 4),
        ("<think>先给[[1]]</think>综合评分为[[5]]", 5),
        ("不如给[[1]]</think>综合评分为[[5]]", 5),
        ("1. 综合评分为[[4]],理由如下", 4),
    ],
)
def test_single_variants(text: str, score: float) -> None:
    assert single(text).score == score


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("我会给这个回答打3分。", "no_verdict"),
        ("综合评分为[[N/A]],理由如下。\n1. 准确性:好。[[4]]", "no_verdict"),
        ("1. 准确性:好。[[4]]\n2. 完整性:差。[[2]]", "no_verdict"),
        ("<think>综合评分为[[4]]", "no_verdict"),
        ("综合评分为[[3]]或[[4]],理由如下。", "conflict"),
        ("综合评分为[[6]]", "out_of_scale"),
        ("综合评分为[[0]]", "out_of_scale"),
        ("综合评分为[[-3]]", "out_of_scale"),
        ("综合评分为[[4/10]]", "out_of_scale"),
        (f"综合评分为[[{'9' * 5000}]]", "out_of_scale"),
    ],
)
def test_single_without_a_score(text: str, problem: str) -> None:
    verdict = single(text)
    assert (verdict.score, verdict.problem) == (None, problem)
    assert verdict.detail


def test_default_scale_max_score_and_configured_scale() -> None:
    text = "综合评分为[[8]],理由如下"
    assert single(text).problem == "out_of_scale"
    assert single(text, pai={"max_score": "10"}).score == 8
    assert single(text, scale=(0, 9)).score == 8
    assert single(text, pai={"max_score": "10"}, scale=(1, 5)).problem == "out_of_scale"


def test_a_criterion_off_the_scale_is_left_out() -> None:
    assert single("综合评分为[[4]],理由如下。\n1. 甲:[[9]]\n2. 乙:[[2]]").dimensions == (Dimension("乙", None, 2),)


def test_scores_are_assigned_by_name() -> None:
    verdict = pair(PAIR)
    assert (verdict.winner, verdict.score1, verdict.score2) == ("2", 2, 4)
    assert (verdict.contradiction, verdict.rule) == (False, "pai_pairwise.first_verdict")
    assert [(d.name, d.answer, d.score) for d in verdict.dimensions] == [
        ("准确性", 1, 2), ("准确性", 2, 4), ("完整性", 1, 1), ("完整性", 2, 3),
        ("无害性", 1, 5), ("无害性", 2, 5), ("语气", 1, 3), ("语气", 2, 4),
    ]  # fmt: skip
    assert verdict.explanation is not None
    assert verdict.explanation.startswith("1. 准确性")


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        ("其中回复2的综合评分为[[4]],回复1的综合评分为[[3]]", (3, 4)),
        ("其中回复1和回复2的综合评分均为[[4]]", (4, 4)),
        ("其中两个回复的综合评分都为[[3]]", (3, 3)),
        ("其中回复1、回复2的综合评分分别为[[4]]和[[2]]", (4, 2)),
        ("其中回复1的综合评分为[[4]]", (4, None)),
        ("理由如下:\n1. 准确性:回复1得分为[[4]],回复2得分为[[2]]。", (None, None)),
        ("where the overall rating of Response 2 is [[5]] and that of Response 1 is [[4]]", (4, 5)),
        ("\n**Response 1**: [[4]]\n**Response 2**: [[2]]", (4, 2)),
    ],
)
def test_overall_scores(opening: str, expected: tuple[float | None, float | None]) -> None:
    verdict = pair(f"我认为[[回复1更好]],{opening}")
    assert (verdict.score1, verdict.score2) == expected


@pytest.mark.parametrize(
    ("words", "winner"),
    [
        ("回复1更好", "1"),
        ("回複２更好", "2"),
        ("回覆2較好", "2"),
        ("Response 1 is better", "1"),
        ("response 2 wins", "2"),
        ("Assistant 2 is better", "2"),
        ("回复2比回复1更好", "2"),
        ("Response 1 is better than Response 2", "1"),
        ("两个回复相当", "tie"),
        ("平局", "tie"),
        ("两个回复一样好", "tie"),
        ("回复1和回复2不相上下", "tie"),
        ("难分高下", "tie"),
        ("Tie", "tie"),
        ("both responses are equally good", "tie"),
        ("回复1更差", None),
        ("回复1不如回复2", None),
        ("回复1不是更好", None),
        ("Response 1 is worse", None),
        ("回复1", None),
        ("两个回复不一样", None),
        ("both are bad", None),
        ("回复3更好", None),
        ("回复12更好", None),
    ],
)
def test_verdict_words(words: str, winner: str | None) -> None:
    verdict = pair(f"我认为[[{words}]],理由如下")
    assert verdict.winner == winner
    assert verdict.problem == (None if winner else "no_verdict")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("我认为回复1更好,回复1的综合评分为[[4]],回复2的综合评分为[[2]]", "no_verdict"),
        ("我认为[[回复1更好]]还是[[回复2更好]],理由如下", "conflict"),
        ("我认为[[回复1更好]],回复1的综合评分为[[9]],回复2的综合评分为[[2]]", "out_of_scale"),
    ],
)
def test_pair_without_a_winner(text: str, problem: str) -> None:
    verdict = pair(text)
    assert (verdict.winner, verdict.score1, verdict.score2, verdict.problem) == (None, None, None, problem)


@pytest.mark.parametrize(
    ("words", "first", "second", "contradiction"),
    [
        ("回复1更好", 4, 2, False),
        ("回复1更好", 2, 4, True),
        ("回复2更好", 4, 2, True),
        ("回复2更好", 3, 3, False),
        ("平局", 3, 3.5, False),
        ("平局", 3, 4, True),
    ],
)
def test_contradiction(words: str, first: float, second: float, contradiction: bool) -> None:
    verdict = pair(f"我认为[[{words}]],回复1的综合评分为[[{first}]],回复2的综合评分为[[{second}]]")
    assert verdict.contradiction is contradiction
    assert pair(f"我认为[[{words}]],回复1的综合评分为[[{first}]]").contradiction is None
