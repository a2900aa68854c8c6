"""Answers that are not whole, texts in unusual places, and what a reply says about model and cache."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import ending_of
from runner.errors import BadReply, RateLimited, Refused, ServiceError
from runner.service import read_completion
from runner.service.completions import NAME_MAX_CHARS, USAGE_MAX_TOKENS
from runner.types import MAX_TOKENS, JudgeResponse, Usage

COUNTS = {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79}


def body(content: Any = "It fits. 4", reason: Any = "stop", /, choice: Any = None, **more: Any) -> bytes:
    message = content if isinstance(content, dict) else {"role": "assistant", "content": content}
    return json.dumps(
        {"id": "r-1", "choices": [{"message": message, "finish_reason": reason, **(choice or {})}], **more}
    ).encode()


def failure(raw: bytes) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read_completion(raw)
    return caught.value


@pytest.mark.parametrize(
    "reason",
    [
        *("error", "ERROR", "insufficient_system_resource", "abort", "aborted", "network_error", "model-error"),
        *("cancelled", "timeout", "engine_overloaded", "upstream_disconnected", "malformed_function_call"),
    ],
)
def test_an_answer_that_broke_off_is_a_failed_call(reason: str) -> None:
    error = failure(body("It covers 2 of the 3 steps, and", reason, usage=COUNTS))
    assert isinstance(error, BadReply)
    assert f"the answer broke off (finish_reason {reason})" == str(error)
    assert error.usage == Usage(70, 9, 79)


@pytest.mark.parametrize(
    "reason",
    [
        "content_filter",
        "contentFilter",
        "SAFETY",
        "sensitive",
        "RECITATION",
        "guardrail_intervened",
        "refusal",
        "ERROR_TOXIC",
    ],
)
@pytest.mark.parametrize("text", ["It covers 2 of", "", None])
def test_what_a_filter_stopped_is_refused_for_good(reason: str, text: str | None) -> None:
    error = failure(body(text, reason))
    assert isinstance(error, Refused)
    assert error.error_type == "content_filter"
    assert reason in str(error)
    assert error.usage is None


@pytest.mark.parametrize(
    "reason", ["stop", "length", "STOP", "end_turn", "eos", "tool_calls", "", None, "MAX_TOKENS", 7]
)
def test_other_reasons_leave_the_answer_whole(reason: Any) -> None:
    assert read_completion(body("4", reason)).text == "4"


@pytest.mark.parametrize(
    "reason",
    ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "model_context_window_exceeded"],
)
def test_words_for_the_token_limit(reason: str) -> None:
    assert ending_of(reason) == "cut"


@pytest.mark.parametrize(
    ("found", "kind", "said"),
    [
        ({"code": 502, "message": "the provider\nhung up"}, BadReply, "the provider hung up (502)"),
        ("no capacity", BadReply, "no capacity"),
        ({"code": "rate_limit_exceeded", "message": "slowly"}, RateLimited, "slowly"),
        ({"code": "data_inspection_failed", "message": "bad words"}, Refused, "bad words"),
        ([1, 2], BadReply, "[1, 2]"),
        (True, BadReply, "true"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_an_error_beside_the_answer(found: Any, kind: type[ServiceError], said: str, inside: bool) -> None:
    raw = body("4", "stop", choice={"error": found}) if inside else body("4", "stop", error=found)
    error = failure(raw)
    assert type(error) is kind
    assert said in str(error)


@pytest.mark.parametrize("empty", [None, {}, "", [], False, {"code": "", "message": None}, {"code": 0, "message": ""}])
def test_an_empty_error_is_none(empty: Any) -> None:
    assert read_completion(body("4", "stop", error=empty, choice={"error": empty})).text == "4"


@pytest.mark.parametrize(
    ("message", "text", "text_from"),
    [
        ({"content": None, "reasoning_content": "So: 4"}, "So: 4", "reasoning_content"),
        ({"content": "", "reasoning": "So: 4"}, "So: 4", "reasoning"),
        ({"content": "\n", "thinking": "So: 4"}, "So: 4", "thinking"),
        ({"content": "4", "reasoning_content": "thought"}, "4", None),
        ({"content": None, "reasoning_content": " "}, None, None),
        ({"content": "\n", "reasoning_content": None}, "\n", None),
        ({"content": None, "reasoning_content": [{"type": "text", "text": "So: 4"}]}, "So: 4", "reasoning_content"),
        ({"content": ["It is ", "4"]}, "It is 4", None),
        ({"content": [{"type": "text", "text": "It is "}, "4"]}, "It is 4", None),
        ({"content": [{"type": "output_text", "text": {"value": "4"}}]}, "4", None),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "4"}]}, "4", None),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm 4"}]}]}, "hm 4", "content"),
        ({"content": {"type": "text", "text": "4"}}, "4", None),
        ({"content": {"score": 4}}, '{"score": 4}', None),
        ({"content": []}, None, None),
        ({"content": [5, None, {"type": "image"}]}, None, None),
    ],
)
def test_where_the_text_is(message: dict[str, Any], text: str | None, text_from: str | None) -> None:
    found = read_completion(body(message))
    assert (found.text, found.text_from) == (text, text_from)


def test_parts_may_hold_a_refusal() -> None:
    found = read_completion(body({"content": [{"type": "refusal", "refusal": "I won't."}]}))
    assert (found.text, found.refusal) == (None, "I won't.")


def test_a_thought_that_was_cut_off_is_kept_as_a_thought() -> None:
    found = read_completion(body({"content": None, "reasoning_content": "Maybe 3"}, "length"))
    assert (found.text, found.text_from) == ("<think>\nMaybe 3", "reasoning_content")


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 64}}, 64),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}}, 0),
        ({**COUNTS, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 6}, 64),
        ({**COUNTS, "cached_tokens": 64}, 64),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 64.0}}, 64),
        ({**COUNTS, "prompt_tokens_details": {}}, None),
        ({**COUNTS, "prompt_tokens_details": None}, None),
        ({**COUNTS, "prompt_tokens_details": [1]}, None),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": -1}}, None),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": "many"}}, None),
        (COUNTS, None),
    ],
)
def test_cached_tokens(usage: dict[str, Any], cached: int | None) -> None:
    assert read_completion(body(usage=usage)).usage == Usage(70, 9, 79, cached)


def said(prompt: Any = 70, completion: Any = 9, total: Any = 79, thinking: Any = None) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return counts if thinking is None else {**counts, "completion_tokens_details": {"reasoning_tokens": thinking}}


@pytest.mark.parametrize(
    ("usage", "text", "expected"),
    [
        (said(), "4", Usage(70, 9, 79)),
        (said(thinking=5), "4", Usage(70, 9, 79)),
        (said(total=1079), "4", Usage(70, 1009, 1079)),  # thinking is in the total only
        (said(total=1079, thinking=1000), "4", Usage(70, 1009, 1079)),
        (said(total=79, thinking=1000), "4", Usage(70, 1009, 1079)),  # it is in neither
        (said(total=1040, thinking=1000), "4", Usage(70, 1009, 1079)),  # it disagrees with itself: the larger one
        (said(completion=None, total=1079), "4", Usage(70, 1009, 1079)),
        (said(completion=0, total=1070), "4", Usage(70, 1000, 1070)),
        (said(total=None), "4", Usage(70, 9)),
        (said(total=3), "4", Usage(70, 9, 79)),
        (said(0, 0, 0), "4", Usage()),
        (said(70, 0, 70), "4", Usage(70, None, 70)),  # no text has 0 tokens
        (said(70, 0, 70), "", Usage(70, 0, 70)),
        (said(0, 9, 9), "4", Usage(None, 9, 9)),  # no prompt is empty
        (said(0, 0, 900), "4", Usage(None, None, 900)),
        (said(-1, 9, 8), "4", Usage(None, 9, 8)),
        (said(70, -9, 61), "4", Usage(70, None, 61)),
        (said(70.0, 9.0, 79.0), "4", Usage(70, 9, 79)),
        (said(70.5, 9, 79), "4", Usage(None, 9, 79)),
        (said(True, True, True), "4", Usage()),
        (said("70", "9", "79"), "4", Usage()),
        (said(10**9, 9, 10**9), "4", Usage(None, 9)),
        (said(70, 10**300, 79), "4", Usage(70, 9, 79)),
        (said(thinking=10**12), "4", Usage(70, 9, 79)),
        (said(thinking="many"), "4", Usage(70, 9, 79)),
    ],
)
def test_what_cannot_be_a_count_is_none(usage: dict[str, Any], text: str, expected: Usage) -> None:
    assert read_completion(body(text, usage=usage)).usage == expected


numbers = st.none() | st.integers(-5, 50) | st.integers() | st.floats() | st.booleans() | st.text(max_size=3)


@given(usage=st.builds(said, numbers, numbers, numbers, numbers), text=st.sampled_from(["4", ""]))
def test_no_count_of_the_service_is_larger_than_what_is_read(usage: dict[str, Any], text: str) -> None:
    found = read_completion(body(text, usage=usage)).usage
    parts = (found.prompt, found.completion, found.total)
    assert all(part is None or 0 <= part <= 3 * USAGE_MAX_TOKENS for part in parts)
    assert found.prompt != 0 and found.total != 0
    assert found.completion != 0 or text == ""
    if None not in parts:
        assert found.total == (found.prompt or 0) + (found.completion or 0)
    given_total = usage["total_tokens"]
    if type(given_total) is int and 0 < given_total <= USAGE_MAX_TOKENS:
        assert found.total is not None and found.total >= given_total


def test_the_usage_inside_a_choice() -> None:
    assert read_completion(body(choice={"usage": COUNTS})).usage == Usage(70, 9, 79)
    assert read_completion(body(id=7, choice={"usage": COUNTS})).usage == Usage(70, 9, 79)


@pytest.mark.parametrize(
    ("named", "model"),
    [("m-2", "m-2"), (None, None), ("", None), (7, "7"), ("x" * 5000, "x" * NAME_MAX_CHARS), ("\ud800", "\ufffd")],
)
def test_the_model_that_the_reply_names(named: Any, model: str | None) -> None:
    assert read_completion(body(model=named)).model == model


def test_sums_over_attempts_stay_within_the_columns() -> None:
    most = Usage(MAX_TOKENS, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS)
    assert most + most == most
    assert Usage(1) + Usage(2, None, None, 3) == Usage(3, None, None, 3)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "thinking", "value", "refusal", "error", "code", "message", "cached_tokens"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("content", "reasoning_content", "reasoning", "refusal"), junk)),
    junk,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("usage", "model", "error"), junk),
            "choice": st.just({}) | st.builds(dict, error=junk),
        },
    ),
)
def test_any_reply_is_an_answer_or_a_service_error(message: dict[str, Any], reason: Any, more: dict[str, Any]) -> None:
    try:
        found = read_completion(body(message, reason, **more))
    except ServiceError as error:
        assert error.usage is None or isinstance(error.usage, Usage)
        assert str(error)
    else:
        assert isinstance(found, JudgeResponse)
        assert found.text is None or isinstance(found.text, str)
        assert ending_of(found.finish_reason) in ("whole", "cut")
        for text in (found.text, found.model, found.finish_reason):
            assert text is None or text.encode() is not None  # no lone surrogates


@given(st.none() | st.text())
def test_any_finish_reason_means_something(reason: str | None) -> None:
    assert ending_of(reason) in ("whole", "cut", "filtered", "broken")
