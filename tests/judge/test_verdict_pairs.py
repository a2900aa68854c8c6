"""Pairwise formats: where the verdict is, its spellings, and texts without a verdict."""

from __future__ import annotations

import pytest
from verdict_readers import reader

LEGEND = "Choose: A is much better [[A>>B]], better [[A>B]], tie [[A=B]], B is better [[B>A]], much better [[B>>A]]."

ARENA = [
    ("My final verdict is tie: [[A=B]]", "tie", "bracket"),
    ("[[A>>B]]", "1", "bracket"),
    ("[[B>A]].", "2", "bracket"),
    ("so **[[ b >> a ]]**", "2", "bracket"),
    ("[[A<<B]]", "2", "bracket"),
    ("[[B<A]]", "1", "bracket"),
    ("[[Ａ＞Ｂ]]", "1", "bracket"),
    ("【【A≫B】】", "1", "bracket"),
    ("[[Assistant A > Assistant B]]", "1", "bracket"),
    ("At first [[A>B]].\nOn second thought:\n[[B>A]]", "2", "bracket"),
    ("[[A>B]], or rather [[A>>B]]", "1", "bracket"),
    (LEGEND + "\nMy final verdict is: [[B>A]]", "2", "bracket"),
    ("My final verdict is: [A>B]", "1", "single_bracket"),
    ("array[B] and [[A>B]]", "1", "bracket"),
    ("My final verdict is: Assistant A is better: A>B.", "1", "bare"),
    ("Both are fine.\n\nA=B", "tie", "bare"),
]


@pytest.mark.parametrize(("text", "winner", "rule"), ARENA)
def test_arena_hard(text: str, winner: str, rule: str) -> None:
    verdict = reader(format="arena_hard")(text)
    assert (verdict.winner, verdict.rule, verdict.problem) == (winner, f"arena_hard.{rule}", None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[A]]", "no_verdict"),
        ("[[A≥B]]", "no_verdict"),
        ("[[A>A]]", "no_verdict"),
        ("array[B]", "no_verdict"),
        ("since A>B in depth, I prefer it", "no_verdict"),
        ("[[A>B]] or [[B>A]]", "conflict"),
        ("[[A>B]] or [[A=B]]", "conflict"),
        (LEGEND, "conflict"),
    ],
)
def test_arena_hard_without_a_verdict(text: str, problem: str) -> None:
    assert (reader(format="arena_hard")(text).problem, reader(format="arena_hard")(text).winner) == (problem, None)


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("1. Key factors: ...\n2. The final decision:\nSo, the final decision is Response 1.", "1"),
        ("the final decision is **Response 2**", "2"),
        ("So, the final decision is Tie", "tie"),
        ("So, the final decision is: response 2", "2"),
        ("所以，最终决定是回应1", "1"),
        ("所以，最终决定是：回应２。", "2"),
        ("所以，最终决定是平局。", "tie"),
        ("the final decision is Response 1\n\nWait: the final decision is Response 2", "2"),
    ],
)
def test_auto_j_pair(text: str, winner: str) -> None:
    verdict = reader(format="auto_j_pair")(text)
    assert (verdict.winner, verdict.rule) == (winner, "auto_j_pair.decision")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Response 1 is better.", "no_verdict"),
        ("the final decision is hard", "no_verdict"),
        ("the final decision is Response 1 and Response 2 are alike", "no_verdict"),
        ("the final decision is not Response 1", "no_verdict"),
        ("the final decision is Response 12", "no_verdict"),
        ("the final decision is Response 1, or the final decision is Tie", "conflict"),
    ],
)
def test_auto_j_pair_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="auto_j_pair")(text)
    assert (verdict.winner, verdict.problem) == (None, problem)


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("1\n\n### Reason: it is right.\n\n### Reference: 2", "1"),
        ("\n 2 \n### Reason: 1 is wrong", "2"),
        ("Tie\n\n### Reason: same", "tie"),
        ("tie.", "tie"),
        ("**1**", "1"),
        ("２", "2"),
        ("Response 2", "2"),
        ("### Evaluation: 1", "1"),
    ],
)
def test_pandalm(text: str, winner: str) -> None:
    verdict = reader(format="pandalm")(text)
    assert (verdict.winner, verdict.rule) == (winner, "pandalm.first_line")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Response 1 is better because it is.", "no_verdict"),
        ("Both responses are good.", "no_verdict"),
        ("### Reason: x\n1", "no_verdict"),
        ("3", "no_verdict"),
        ("12", "no_verdict"),
        ("...", "no_verdict"),
        ("1 or 2", "conflict"),
        ("Tie / 1", "conflict"),
    ],
)
def test_pandalm_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="pandalm")(text)
    assert (verdict.winner, verdict.problem) == (None, problem)


JUDGELM = [
    ("8 7\nBecause.", "1", 8, 7),
    ("\n 6  9 \n\nBecause 1 2.", "2", 6, 9),
    ("8, 8", "tie", 8, 8),
    ("7.5\t8", "2", 7.5, 8),
    ("８　９", "2", 8, 9),
    ("8/10 7/10", "1", 8, 7),
    ("**9 8**", "1", 9, 8),
    ("(10, 1)", "1", 10, 1),
    ("8 and 7", "1", 8, 7),
    ("Scores: 8 7", "1", 8, 7),
    ("Assistant 1: 8, Assistant 2: 9", "2", 8, 9),
    ("Assistant 2: 8; Assistant 1: 9", "1", 9, 8),
]


@pytest.mark.parametrize(("text", "winner", "score1", "score2"), JUDGELM)
def test_judgelm(text: str, winner: str, score1: float, score2: float) -> None:
    verdict = reader(format="judgelm")(text)
    assert (verdict.winner, verdict.score1, verdict.score2, verdict.contradiction) == (winner, score1, score2, None)
    assert verdict.rule in ("judgelm.first_line", "judgelm.named")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("First, the problem.\n8 7", "no_verdict"),
        ("8", "no_verdict"),
        ("8 7 6", "no_verdict"),
        ("8/10", "no_verdict"),
        ("8-7", "no_verdict"),
        ("8 7 because 2 is short", "no_verdict"),
        ("Assistant 1 is better, 8 to 7", "no_verdict"),
        ("Assistant 1: 8", "no_verdict"),
        ("Assistant 1: 8, Assistant 1: 9", "conflict"),
        ("0 9", "out_of_scale"),
        ("-1 -1", "out_of_scale"),
        ("4/5 3/5", "out_of_scale"),
    ],
)
def test_judgelm_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="judgelm")(text)
    assert (verdict.winner, verdict.score1, verdict.score2, verdict.problem) == (None, None, None, problem)
    assert reader((0, 9), format="judgelm")("0 9").score1 == 0


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("Feedback: clear. [RESULT] A", "1"),
        ("[RESULT] **B**.", "2"),
        ("[RESULT]\nB", "2"),
        ("(result) [Result]: Response B", "2"),
        ("[RESULT] A\nNo: [RESULT] B", "2"),
        ("[RESULT] a tie", "tie"),
        ("[RESULT] A tie", "tie"),
        ("[RESULT] A draw, since neither is right", "tie"),
        ("[RESULT] Both are equally good.", "tie"),
        ("[RESULT] 不分伯仲", "tie"),
        ("[RESULT] A is better", "1"),
        ("[RESULT] A because it is right", "1"),
    ],
)
def test_prometheus_pair(text: str, winner: str) -> None:
    verdict = reader(format="prometheus_pair")(text)
    assert (verdict.winner, verdict.rule) == (winner, "prometheus_pair.result")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A", "no_verdict"),
        ("[RESULT] (A or B)", "no_verdict"),
        ("[RESULT] Answer", "no_verdict"),
        ("[RESULT] A close call", "no_verdict"),
        ("[RESULT] A and B", "no_verdict"),
        ("[RESULT] A B", "no_verdict"),
        ("[RESULT] A [RESULT] B", "conflict"),
    ],
)
def test_prometheus_pair_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="prometheus_pair")(text)
    assert (verdict.winner, verdict.problem) == (None, problem)


OUTPUT_AB = [
    ("Output (a)", "1", "end"),
    ("**Output (b)**.", "2", "end"),
    ("It is short. Therefore, Output (b) is better.", "2", "end"),
    ("Output (a) is long.\n\nAnswer: Output (a)", "1", "end"),
    ("Assistant (a) argues that Output (a) is better. It is not. Therefore, Output (b) is better.", "2", "end"),
    ("Output (a) is better. No.\n\nTherefore, Output (b) is better.", "2", "end"),
    ("Therefore, after all, the better output is Output (a).", "1", "end"),
    ("I agree with Assistant (b) that Output (b) is better.", "2", "end"),
    ("I would argue that Output (b) is better", "2", "end"),
    ("While Output (a) is not wrong, Output (b) is clearly better.", "2", "end"),
    ("Output (b) is better. Output (a) is short.", "2", "stated"),
    ("Output (a) (as it is right; Output (b) is not)", "1", "stated"),
    ("Output (b)\n\nI chose it for its style", "2", "stated"),
    ("Therefore, Output (a) is better because it is right. It also", "1", "end"),
    ("Output (a) is better because it is right. It also", "1", "stated"),
    ("Output （a） is better. I liked it.", "1", "stated"),
]


@pytest.mark.parametrize(("text", "winner", "rule"), OUTPUT_AB)
def test_output_ab(text: str, winner: str, rule: str) -> None:
    verdict = reader(format="output_ab")(text)
    assert (verdict.winner, verdict.rule) == (winner, f"output_ab.{rule}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Output (a) is short, and Output (b) is long.", "no_verdict"),
        ("# Output (a):\nOnce upon a time", "no_verdict"),
        ("Both Output (a) and Output (b) are equally good.", "no_verdict"),
        ("It is unclear whether Output (a) is better.", "no_verdict"),
        ("I do not think Output (a) is better.", "no_verdict"),
        ("Output (a) is better written.", "no_verdict"),
        ("Output (a) is no better than Output (b).", "no_verdict"),
        ("Assistant (a) argues that Output (a) is better.", "no_verdict"),
        ("If length counts, Output (a) is better in length", "no_verdict"),
        ("Output (a) is better. Output (b) is better. Who knows?", "conflict"),
        ("Therefore, Output (a) is better.\n\nTherefore, Output (b) is better.", "conflict"),
        ("In style Output (a) is better; in depth Output (b) is better.", "conflict"),
    ],
)
def test_output_ab_without_a_verdict(text: str, problem: str) -> None:
    verdict = reader(format="output_ab")(text)
    assert (verdict.winner, verdict.problem) == (None, problem)
