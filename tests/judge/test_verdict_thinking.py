"""Thinking is removed before a verdict is read: known marks, those of `verdict.thinking`, and marks without an end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from verdict_readers import reader

from runner.config import VerdictConfig, json_schema
from runner.judge.verdict.thinking import may_think, stripper

PAIRS = [
    *(("<think>", "</think>"), ("<Thinking>", "</Thinking>"), ("<thought>", "</thought>"), ("<|think|>", "<|/think|>")),
    *(("<seed:think>", "</seed:think>"), ("<reasoning>", "</reasoning>"), ("[THINK]", "[/THINK]")),
    *(("◁think▷", "◁/think▷"), ("<|begin_of_thought|>", "<|end_of_thought|>")),
    *(("<|START_THINKING|>", "<|END_THINKING|>"), ('<think type="long">', "</think>")),
]
OWN = [["[分析]", "[/分析]"], ["<<", "end>>"]]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_known_marks(opening: str, closing: str) -> None:
    strip = stripper()
    assert strip(f"{opening}Rating: [[2]]{closing} Rating: [[7]]").strip() == "Rating: [[7]]"
    assert strip(f"Rating: [[7]]{opening}or [[2]]") == "Rating: [[7]]"
    assert strip(f"or [[2]]{closing}Rating: [[7]]") == "Rating: [[7]]"
    read = reader(format="mt_bench_single")
    assert read(f"{opening}Rating: [[2]]{closing}\n[[7]]").score == 7
    assert read(f"{opening}Rating: [[2]]").problem == "no_verdict"


@pytest.mark.parametrize(("opening", "closing"), OWN)
def test_configured_marks_are_known_besides_the_others(opening: str, closing: str) -> None:
    read = reader((1, 10), format="first_number", thinking=OWN)
    assert read(f"{opening}maybe 3 {closing}8").score == 8
    assert read("<think>maybe 3</think>8").score == 8
    assert read(f"{opening}maybe 3").problem == "no_verdict"
    assert reader((1, 10), format="first_number")(f"{opening}maybe 3 {closing}8").score == 3


def test_only_the_end_of_the_same_pair_ends_a_block() -> None:
    assert stripper()("[THINK]the tag </think> [[2]][/THINK][[7]]") == "[[7]]"
    assert stripper([("«", "»")])("«<think>» [[7]]").strip() == "[[7]]"


def test_harmony_keeps_the_final_channel() -> None:
    text = "<|channel|>analysis<|message|>[[2]]<|end|><|start|>assistant<|channel|>final<|message|>[[7]]<|return|>"
    assert stripper()(text) == "[[7]]"
    assert stripper()("<|channel|>commentary<|message|>[[2]]<|end|>") == ""
    assert stripper()("analysis: [[2]]assistantfinal[[7]]") == "[[7]]"


@given(st.text(), st.lists(st.sampled_from([*sum(PAIRS, ()), "[[5]]", "a", "<", "[", "◁"]), max_size=12).map("".join))
def test_a_text_without_marks_is_returned_as_it_is(text: str, marks: str) -> None:
    strip = stripper()
    assert may_think(text) or strip(text) == text
    assert strip(strip(marks)) == strip(marks) or may_think(strip(marks))


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ("<x>", 'a list of pairs of marks, such as [["<x>", "</x>"]]'),
        ([["<x>"]], "a list of pairs of marks"),
        ([["<x>", ""]], "pairs of two non-empty texts"),
        ([["<x>", 5]], "pairs of two non-empty texts"),
        ([["|", "|"]], "a pair has the same mark twice"),
    ],
)
def test_wrong_marks_are_refused(marks: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        VerdictConfig.model_validate({"format": "first_number", "thinking": marks})
    assert message in str(refused.value)


def test_the_schema_has_the_key() -> None:
    assert "thinking" in json_schema()["$defs"]["VerdictConfig"]["properties"]
