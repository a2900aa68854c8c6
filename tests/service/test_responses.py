"""Parsing of responses: status, headers and body to an answer or an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import BadReply, Fatal, RateLimited, Refused, ServerFault, ServiceError
from runner.service import body_excerpt, error_from_response, read_completion
from runner.service.responses import retry_after
from runner.types import JudgeResponse, Usage

OPENAI = b'{"error": {"message": "no such thing", "type": "invalid_request_error", "param": null, "code": null}}'
FLAT = b'{"code": "InternalError", "message": "broken", "request_id": "r-1"}'
NUMBER = b'{"code": 40012, "message": "odd", "request_id": "r-1"}'
DETAIL = b'{"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}'
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"


def flat_error(code: str, message: str = "why") -> bytes:
    return json.dumps({"code": code, "message": message, "request_id": "r-1"}).encode()


def openai_error(code: str | None, kind: str | None = None, message: str = "why") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()


def completion(message: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "message": message or {"role": "assistant", "content": "[[4]]"}, "finish_reason": "stop"}
    return json.dumps({"id": "c-1", "object": "chat.completion", "choices": [choice], **more}).encode()


@pytest.mark.parametrize(
    ("status", "raw", "kind", "word", "message"),
    [
        (400, OPENAI, Refused, "bad_request", "HTTP 400: no such thing (invalid_request_error)"),
        (422, DETAIL, Refused, "bad_request", "field required"),
        (413, HTML, Refused, "bad_request", "502 Bad Gateway nginx"),
        (400, NUMBER, Refused, "bad_request", "odd (40012)"),
        (400, b"", Refused, "bad_request", "HTTP 400: an empty body"),
        (400, b'{"error": "plain words"}', Refused, "bad_request", "plain words"),
        (418, b"[1, 2]", Refused, "bad_request", "[1, 2]"),
        (400, openai_error("data_inspection_failed"), Refused, "content_filter", "why (data_inspection_failed)"),
        (400, flat_error("DataInspectionFailed"), Refused, "content_filter", "why (DataInspectionFailed)"),
        (400, openai_error(None, "content_filter"), Refused, "content_filter", "why"),
        (400, openai_error("content_filter", "invalid_request_error"), Refused, "content_filter", "why"),
        (400, openai_error("x1", "DataInspectionFailed"), Refused, "content_filter", "why"),
        (200, flat_error("DataInspectionFailed"), Refused, "content_filter", "why"),
        (500, flat_error("DataInspectionFailed"), Refused, "content_filter", "why"),
        (401, flat_error("InvalidApiKey"), Fatal, "authentication", "why (InvalidApiKey)"),
        (400, flat_error("InvalidApiKey"), Fatal, "authentication", "why"),
        (403, HTML, Fatal, "authentication", "HTTP 403"),
        (407, HTML, Fatal, "authentication", "HTTP 407"),
        (402, b"{}", Fatal, "quota", "HTTP 402"),
        (429, flat_error("PrepaidBillOverdue"), Fatal, "quota", "why"),
        (429, flat_error("PostpaidBillOverdue"), Fatal, "quota", "why"),
        (429, flat_error("CommodityNotPurchased"), Fatal, "quota", "why"),
        (400, openai_error("Arrearage", "Arrearage"), Fatal, "quota", "why"),
        (404, OPENAI, Fatal, "address", "no such thing"),
        (405, b"", Fatal, "address", "HTTP 405"),
        (301, b"", Fatal, "address", "HTTP 301"),
        (307, b"", Fatal, "address", "HTTP 307"),
        (429, b"", RateLimited, "server_error", "HTTP 429"),
        (429, flat_error("Throttling.RateQuota"), RateLimited, "server_error", "why"),
        (429, openai_error("insufficient_quota", "insufficient_quota"), RateLimited, "server_error", "why"),
        (429, flat_error("Throttling.AllocationQuota"), RateLimited, "server_error", "why"),
        (429, openai_error("limit_burst_rate"), RateLimited, "server_error", "why"),
        (429, HTML, RateLimited, "server_error", "HTTP 429"),
        (400, flat_error("Throttling"), RateLimited, "server_error", "why"),
        (503, openai_error("rate_limit_exceeded"), RateLimited, "server_error", "why"),
        (500, FLAT, ServerFault, "server_error", "broken (InternalError)"),
        (501, b"", ServerFault, "server_error", "HTTP 501"),
        (502, HTML, ServerFault, "server_error", "502 Bad Gateway nginx"),
        (503, b"\xff\xfe\x00", ServerFault, "server_error", "HTTP 503"),
        (599, b"null", ServerFault, "server_error", "HTTP 599: null"),
        (408, b"", ServerFault, "server_error", "HTTP 408"),
        (409, b"", ServerFault, "server_error", "HTTP 409"),
        (425, b"", ServerFault, "server_error", "HTTP 425"),
        (450, b"", ServerFault, "server_error", "HTTP 450"),
        (200, NUMBER, BadReply, "bad_reply", "odd (40012)"),
    ],
)
def test_status_and_code_decide_the_error(
    status: int, raw: bytes, kind: type[ServiceError], word: str, message: str
) -> None:
    error = error_from_response(status, {}, raw)
    assert type(error) is kind
    assert (error.reason if isinstance(error, Fatal) else error.error_type) == word
    assert error.status == status
    assert message in str(error)
    assert "\n" not in str(error)
    assert "<" not in str(error)


@pytest.mark.parametrize(
    ("status", "raw", "is_certain"),
    [
        (401, flat_error("InvalidApiKey"), True),
        (401, openai_error("invalid_api_key", "invalid_request_error"), True),
        (400, b'[{"error": {"code": 400, "message": "no", "details": [{"reason": "API_KEY_INVALID"}, 3]}}]', True),
        (402, b"", True),
        (401, b"", False),
        (403, openai_error("forbidden", message="your account was flagged"), False),
        (404, HTML, False),
        (405, b"", False),
        (308, b"", False),
        (407, b"", False),
    ],
)
def test_a_status_alone_is_not_certain(status: int, raw: bytes, is_certain: bool) -> None:
    error = error_from_response(status, {}, raw)
    assert isinstance(error, Fatal)
    assert error.is_certain is is_certain


@pytest.mark.parametrize(
    ("status", "message", "error_type", "is_own"),
    [
        (403, 'this model requires moderation; the input was flagged for "violence"', "content_filter", True),
        (400, "blocked by our content management policy", "content_filter", True),
        (422, "The text may contain inappropriate content.", "content_filter", True),
        (400, "输入内容涉及敏感信息", "content_filter", True),
        (400, "This model's maximum context length is 8192 tokens, you asked for 9000", "bad_request", True),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", "bad_request", True),
        (400, "Range of input length should be [1, 30720]", "bad_request", True),
        (413, "Payload", "bad_request", True),
        (400, "Request header too large", "bad_request", False),
        (400, "max_tokens is too large: 100000", "bad_request", False),
        (400, "gpt-x is not a valid model ID", "bad_request", False),
    ],
)
def test_words_tell_what_is_this_requests_own(status: int, message: str, error_type: str, is_own: bool) -> None:
    error = error_from_response(status, {}, openai_error(None, "x", message))
    assert isinstance(error, Refused)
    assert (error.error_type, error.is_own) == (error_type, is_own)


QUOTA_WORDS = [
    "Rate limit reached for gpt-4 in organization o-1 on tokens per min (TPM): Limit {limit}, Used {used}, "
    "Requested {requested}. Please try again in 6s.",
    "Request too large for m-7b on tokens per minute (TPM): Limit {limit:,}, Requested {requested:,}, please reduce it",
    "token limit: {limit} / min, requested tokens: {requested}",
    "requested {requested} tokens, but the limit is {limit}",
]


@given(
    st.sampled_from(QUOTA_WORDS),
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.integers(1, 10**9),
    st.sampled_from([413, 429]),
)
@example(QUOTA_WORDS[0], 30000, 29000, 2000, 429)  # an ordinary 429: it has to wait
@example(QUOTA_WORDS[1], 30000, 0, 41210, 429)
def test_one_request_larger_than_the_quota_is_refused(
    words: str, limit: int, used: int, requested: int, status: int
) -> None:
    message = words.format(limit=limit, used=used, requested=requested)
    error = error_from_response(status, {}, openai_error("rate_limit_exceeded", "tokens", message))
    too_large = isinstance(error, Refused) and error.error_type == "too_long"
    assert too_large is (requested > limit)
    if status == 429 and not too_large:
        assert isinstance(error, RateLimited)


def test_the_error_in_a_list_is_read() -> None:
    raw = b'[{"error": {"code": 400, "message": "not  a field", "status": "INVALID_ARGUMENT"}}]'
    assert str(error_from_response(400, {}, raw)) == "HTTP 400: not a field (400)"
    assert isinstance(error_from_response(429, {}, b'[{"error": {"code": 429}}]'), RateLimited)


def test_the_meaning_of_insufficient_quota_depends_on_the_dialect() -> None:
    raw = openai_error(None, "insufficient_quota")
    assert isinstance(error_from_response(429, {}, raw, "pai"), RateLimited)
    assert isinstance(error_from_response(429, {}, raw, "dashscope"), RateLimited)
    at_openai = error_from_response(429, {}, raw, "openai")
    assert isinstance(at_openai, Fatal)
    assert at_openai.reason == "quota"
    assert isinstance(
        error_from_response(429, {}, openai_error("rate_limit_exceeded", "requests"), "openai"), RateLimited
    )


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_transient_errors_have_the_retry_hint(status: int) -> None:
    error = error_from_response(status, {"Retry-After": "7"}, b"")
    assert error.retry_after == 7


_TOKENS_EXHAUSTED = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-remaining-tokens": "0"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12),
        ({"retry-after": "0"}, 0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1" + "0" * 400}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "86400000"}, 86_400_000),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:10 GMT"}, 30),
        ({"Retry-After": "Thursday, 01-Jan-70 00:17:10 GMT"}, 30),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0),
        ({"Retry-After": "Thu, 99 Foo 1970 00:00:10 GMT"}, None),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"retry-after-ms": "x", "Retry-After": "9"}, 9),
        ({"retry-after-ms": "-1"}, None),
        ({"x-ratelimit-reset-requests": "1s"}, 1),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "1h0m2.5s"}, 0.12),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "20s", **_TOKENS_EXHAUSTED}, 20),
        ({"x-ratelimit-reset-requests": "60", "x-ratelimit-remaining-requests": "0"}, 60),
        ({"x-ratelimit-reset-requests": "1s", "Retry-After": "7"}, 7),
        ({"x-ratelimit-reset-requests": "2026-01-01T00:00:00Z"}, None),
        ({"x-ratelimit-reset-requests": "s"}, None),
        ({"x-ratelimit-reset-requests": "9" * 400 + "h"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1000.0) == seconds


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (completion(), JudgeResponse("[[4]]", "stop", "c-1")),
        (b"\xef\xbb\xbf" + completion(), JudgeResponse("[[4]]", "stop", "c-1")),
        (b" \n" + completion() + b"\n", JudgeResponse("[[4]]", "stop", "c-1")),
        (completion({"role": "assistant", "content": None}), JudgeResponse(None, "stop", "c-1")),
        (completion({"role": "assistant"}), JudgeResponse(None, "stop", "c-1")),
        (completion({"content": None, "refusal": "no"}), JudgeResponse(None, "stop", "c-1", refusal="no")),
        (completion({"content": "x", "refusal": ""}), JudgeResponse("x", "stop", "c-1")),
        (
            completion(
                {"content": [{"type": "text", "text": "[[4"}, {"type": "image"}, {"type": "text", "text": "]]"}]}
            ),
            JudgeResponse("[[4]]", "stop", "c-1"),
        ),
        (completion({"content": []}), JudgeResponse(None, "stop", "c-1")),
        (completion({"content": {"score": 4}}), JudgeResponse('{"score": 4}', "stop", "c-1")),
        (completion({"content": 4}), JudgeResponse("4", "stop", "c-1")),
        (completion(id=17), JudgeResponse("[[4]]", "stop", "17")),
        (completion(id=None), JudgeResponse("[[4]]", "stop", None)),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": null}]}', JudgeResponse("x")),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": 3}]}', JudgeResponse("x", "3")),
    ],
)
def test_complete_answers(raw: bytes, expected: JudgeResponse) -> None:
    assert read_completion(raw) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ([], Usage()),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, Usage(7, 3, 10)),
        ({"prompt_tokens": 7.0, "completion_tokens": 3.0, "total_tokens": 10.5}, Usage(7, 3, None)),
        ({"prompt_tokens": -1, "completion_tokens": 10**30, "total_tokens": None}, Usage()),
        ({"prompt_tokens": "7", "completion_tokens": [], "total_tokens": 2**31}, Usage()),
        ({"prompt_tokens": 1e300, "completion_tokens": 0, "details": {"cached": 1}}, Usage()),
    ],
)
def test_invalid_usage_is_left_out(usage: Any, expected: Usage) -> None:
    response = read_completion(completion(usage=usage))
    assert response.text == "[[4]]"
    assert response.usage == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"true",
        completion()[:-9],
        HTML,
        b"data: {}\n\n",
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [null]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": "x"}]}',
        b'{"choices": {"0": {"message": {"content": "x"}}}}',
        b'{"request_id": "r", "code": "OK", "message": "fine"}',
        b'{"error": null}',
        b"\xff\xfe{\x00}\x00",
        b'{"choices": [{"message": {"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}",
        b'{"choices": [{"message": {"content": "x"}}], "x": ' + b"[" * 100_000,
    ],
)
def test_a_200_without_an_answer_is_transient(raw: bytes) -> None:
    with pytest.raises(BadReply) as caught:
        read_completion(raw)
    assert caught.value.status == 200
    assert len(str(caught.value)) < 500


def test_a_200_with_empty_choices_and_an_error_code() -> None:
    raw = b'{"choices": [], "code": "DataInspectionFailed", "message": "no"}'
    with pytest.raises(Refused) as caught:
        read_completion(raw)
    assert caught.value.error_type == "content_filter"


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    raw = rb"""{"id": "i\ud800", "choices": [{"finish_reason": "s\ud800",
        "message": {"content": "a\ud83d\ude00b\ud83dc\udc00", "refusal": "\udfff"}}]}"""
    response = read_completion(raw)
    assert response == JudgeResponse("a😀b\ufffdc\ufffd", "s\ufffd", "i\ufffd", Usage(), "\ufffd")
    assert (
        str(error_from_response(400, {}, rb'{"code": "c\ud800", "message": "m\udc00"}'))
        == "HTTP 400: m\ufffd (c\ufffd)"
    )


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("depth", [100, 300, 400, 480, 600, 900, 960, 980, 50_000])
def test_deep_nesting(depth: int) -> None:
    for raw in (
        b'{"detail": ' + nested(depth) + b"}",
        b'{"error": {"code": ' + nested(depth) + b', "message": "x"}}',
    ):
        assert isinstance(error_from_response(400, {}, raw), Refused)
    for raw in (
        b'{"choices": [{"message": {"content": {"a": ' + nested(depth) + b"}}}]}",
        b'{"choices": [{"message": {"content": "x"}}], "id": ' + nested(depth) + b"}",
    ):
        try:
            assert read_completion(raw).text
        except BadReply as error:
            assert "not JSON" in str(error)


def test_the_excerpt_of_a_body_is_one_short_line() -> None:
    assert body_excerpt(b"") == "an empty body"
    assert body_excerpt(b"a\n\n b\t<b>c</b>") == "a b c"
    assert body_excerpt("好".encode() * 1000) == "好" * 160 + "…"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(["choices", "message", "content", "error", "code", "type", "usage", "id", "detail", "refusal"])
near_misses = st.recursive(
    json_values,
    lambda inner: st.dictionaries(words, inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=10,
)
bodies = st.binary(max_size=300) | near_misses.map(lambda value: json.dumps(value).encode())


def can_encode(*texts: str | None) -> bool:
    return all(text is None or text.encode("utf-8") is not None for text in texts)


@given(raw=bodies)
@example(raw=b'{"choices": [{"message": {"content": "\\ud800"}}]}')
def test_any_body_is_an_answer_or_a_service_error(raw: bytes) -> None:
    try:
        response = read_completion(raw)
    except ServiceError as error:
        assert can_encode(str(error))
    else:
        assert can_encode(response.text, response.finish_reason, response.response_id, response.refusal)
        assert all(n is None or 0 <= n < 2**31 for n in (response.usage.prompt, response.usage.total))


@given(message=near_misses, choices=st.lists(near_misses, max_size=2), rest=near_misses)
def test_any_json_in_place_of_a_message(message: Any, choices: list[Any], rest: Any) -> None:
    data = {"choices": [{"message": message, "finish_reason": rest}, *choices], "usage": rest, "id": message}
    try:
        response = read_completion(json.dumps(data).encode())
    except ServiceError as error:
        assert can_encode(str(error))
    else:
        assert can_encode(response.text, response.finish_reason, response.response_id, response.refusal)


@given(status=st.integers(100, 599), raw=bodies, hint=st.text(max_size=40), dialect=st.sampled_from(["pai", "openai"]))
def test_any_failure_is_a_service_error(status: int, raw: bytes, hint: str, dialect: str) -> None:
    error = error_from_response(status, {"Retry-After": hint, "retry-after-ms": hint}, raw, dialect)
    assert isinstance(error, ServiceError)
    assert can_encode(str(error))
    assert "\n" not in str(error)
    assert error.retry_after is None or error.retry_after >= 0
