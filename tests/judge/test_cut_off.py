"""Replies that the token limit cut off: the verdict counts only if nothing that may have followed can change it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import Panel
from runner.judge.verdict import FORMATS
from runner.judge.verdict.cut_off import OPENING_FORMATS
from runner.types import JudgeResponse, Verdict

# A text of each format with a verdict that is no verdict if the text was cut off.
END_FORMATS = {
    "mt_bench_single": "Step 2 is right. Rating: [[7]]\nYet",
    "mt_bench_pair": "[[A]] was my first thought, but",
    "arena_hard": "At first sight [[A>B]], but on",
    "alignbench": "{'事实正确性': 9, '综合得分': 7} 不过",
    "auto_j_single": "Rating: [[5]] is for style alone;",
    "auto_j_pair": "So, the final decision is Response 1. But",
    "prometheus": "Feedback: fine. [RESULT] 4",
    "prometheus_pair": "Feedback: fine. [RESULT] A",
    "output_ab": "Output (a) is better. However, it",
    "json": '{"overall": 4} is my draft; the final',
    "last_number": "The answer covers 2 of the 3 steps. Step 2 is correct, and",
}
OTHER_FORMATS = {
    "pai_single": "综合评分为[[4]],理由如下。\n1. 准确性: 评分为[[5]], 因为",
    "pai_pairwise": "我认为[[回复1更好]],其中回复1的综合评分为[[4]],回复2的综合评分为[[3]],理由如下。\n1. 准确性:",
    "pandalm": "1\n### Reason: the first",
    "judgelm": "8 7\nThe first answer",
    "first_number": "Score: 4. The answer covers",
}


def read(name: str, text: str, finish_reason: str = "length", **more: Any) -> Verdict:
    if name.startswith("pai_"):
        judge = JudgeConfig(kind=name)
    else:
        verdict = {"score": "overall"} if name == "json" else {}
        judge = JudgeConfig(kind="template", user="{question}", verdict=VerdictConfig(format=name, **verdict), **more)
    return Panel([judge]).read_variant(0, JudgeResponse(text, finish_reason))


def meaning(verdict: Verdict) -> tuple[Any, ...]:
    return verdict.score, verdict.winner, verdict.score1, verdict.score2, verdict.label


def test_every_format_is_tried() -> None:
    assert END_FORMATS.keys() | OTHER_FORMATS.keys() == FORMATS.keys()
    assert OTHER_FORMATS.keys() == OPENING_FORMATS


@pytest.mark.parametrize("name", END_FORMATS)
@pytest.mark.parametrize("reason", ["length", "max_tokens"])
def test_a_verdict_at_the_end_or_anywhere_does_not_count(name: str, reason: str) -> None:
    text = END_FORMATS[name]
    whole, cut = read(name, text, "stop"), read(name, text, reason)
    assert any(meaning(whole))
    assert (cut.problem, *meaning(cut), cut.dimensions) == ("truncated", None, None, None, None, None, ())
    assert "token limit" in (cut.detail or "")


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_a_verdict_that_opens_the_text_counts(name: str) -> None:
    text = OTHER_FORMATS[name]
    assert meaning(read(name, text)) == meaning(read(name, text, "stop"))
    assert read(name, text).problem is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("first_number", "Score: 1"),
        ("first_number", "Score: 7 or"),
        ("first_number", "Score: 7-"),
        ("pandalm", "1"),
        ("judgelm", "8 7"),
        ("pai_single", "综合评分为[[3]]"),
        ("pai_pairwise", "我认为[[回复1更好]]"),
        ("pai_pairwise", "我认为[[回复1更好]],其中回复1的综合评分为[[4]]"),
        ("pai_single", "综合评分为[["),
        ("first_number", ""),
        ("first_number", "<think>Maybe 3. Then"),
    ],
)
def test_a_place_that_is_not_complete_has_no_verdict(name: str, text: str) -> None:
    verdict = read(name, text)
    assert (verdict.problem, *meaning(verdict)) == ("truncated", None, None, None, None, None)


@pytest.mark.parametrize(("pick", "problem"), [("first", None), ("last", "truncated")])
def test_patterns(pick: str, problem: str | None) -> None:
    verdict = VerdictConfig(pattern=r"Verdict: (\w+)", kind="label", pick=pick)
    panel = Panel([JudgeConfig(kind="template", user="{question}", verdict=verdict)])
    assert panel.read_variant(0, JudgeResponse("Verdict: good. It", "length")).problem == problem
    assert panel.read_variant(0, JudgeResponse("Verdict: good", "length")).problem == "truncated"


@pytest.mark.parametrize("reason", ["error", "content_filter", "insufficient_system_resource"])
def test_a_stored_answer_that_broke_off_gives_no_verdict_when_it_is_read_again(reason: str) -> None:
    verdict = read("last_number", "It covers 2 of", reason)
    assert (verdict.problem, verdict.score) == ("truncated", None)
    assert reason in (verdict.detail or "")


def test_a_text_that_is_only_thought_is_no_answer() -> None:
    panel = Panel([JudgeConfig()])
    thought = JudgeResponse("综合评分为[[4]],理由如下。", "stop", text_from="reasoning_content")
    verdict = panel.read_variant(0, thought)
    assert (verdict.problem, verdict.score) == ("no_verdict", None)
    assert "its reasoning_content has 16 characters" in (verdict.detail or "")
    assert panel.read_variant(0, JudgeResponse(thought.text, "stop")).score == 4  # as `rescore` reads it


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.sampled_from(sorted({*END_FORMATS.values(), *OTHER_FORMATS.values()})), max_size=2).map("\n".join),
    st.integers(0, 80),
)
def test_a_cut_text_never_says_more_than_the_whole_one(name: str, text: str, end: int) -> None:
    cut, whole = read(name, text[:end]), read(name, text, "stop")
    if cut.problem is None and not (
        name == "pai_single" and whole.problem == "conflict"
    ):  # a different total at the end
        assert meaning(cut) == meaning(whole)
