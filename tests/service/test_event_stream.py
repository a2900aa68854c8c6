"""Streams of events: whatever the cuts between chunks and lines, the answer is that of a reply that is not streamed."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BadReply, RateLimited, ServiceError
from runner.service.event_stream import as_streaming, is_event_stream
from runner.service.reply_body import read_reply
from runner.types import JudgeResponse, Usage

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(delta: Any = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": reason}]
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "m-1", "choices": choices, **more}


def events(*chunks: Any, end: bytes = DONE, line_end: bytes = b"\n") -> bytes:
    sent = b"".join(b"data: %b\n\n" % (json.dumps(item).encode()) for item in chunks) + end
    return sent.replace(b"\n", line_end)


def read(raw: bytes) -> JudgeResponse:
    return read_reply(raw, {"Content-Type": "text/event-stream"})


WHOLE = (chunk({"role": "assistant"}), chunk({"content": "[[4"}), chunk({"content": "]]"}), chunk({}, "stop"))
COUNTED = (*WHOLE, {"id": "c-1", "model": "m-1", "choices": [], "usage": USAGE})
ANSWER = JudgeResponse("[[4]]", "stop", "c-1", Usage(7, 3, 10), None, "m-1", None)


@pytest.mark.parametrize(
    "raw",
    [
        events(*COUNTED),
        events(*COUNTED, line_end=b"\r\n"),
        events(*COUNTED, line_end=b"\r"),
        b"\xef\xbb\xbf" + events(*COUNTED),
        b": keep-alive\n\n" + events(*COUNTED).replace(b"data: ", b": ping\nid: 7\nevent: message\nretry: 9\ndata:"),
        events(*COUNTED, end=b""),  # no [DONE], but a finish_reason
        events(*COUNTED, end=b"data: [DONE]"),  # without its blank line
        events(*COUNTED).replace(b"\n\n", b"\n"),  # without any blank lines
        events(*({**item, "usage": None} for item in WHOLE), COUNTED[-1]),
        events(*(json.loads(json.dumps(item)) for item in WHOLE[:-1]), chunk({}, "stop", usage=USAGE)),
        events(*WHOLE[:-1], {**WHOLE[-1], "choices": [{**WHOLE[-1]["choices"][0], "usage": USAGE}]}),
        events({"id": "c-1", "choices": [], "prompt_filter_results": []}, *COUNTED),
        events(*COUNTED, {"id": "c-1", "choices": [{"index": 1, "delta": {"content": "of another choice"}}]}),
        events({**COUNTED[-1], "choices": [{"message": {"content": "[[4]]"}, "finish_reason": "stop"}]}),
        events(*COUNTED).replace(b'{"id"', b'{\ndata: "id"'),  # a chunk over two lines
    ],
)
def test_a_whole_answer(raw: bytes) -> None:
    assert is_event_stream(raw)
    assert read(raw) == ANSWER


def test_thoughts_refusals_and_lists_of_parts() -> None:
    thought = read(events(chunk({"reasoning_content": "hm, "}), chunk({"reasoning_content": "4"}), chunk({}, "stop")))
    assert (thought.text, thought.text_from) == ("hm, 4", "reasoning_content")
    both = read(events(chunk({"reasoning_content": "hm"}), chunk({"content": "[[4]]"}), chunk({}, "stop")))
    assert (both.text, both.text_from) == ("[[4]]", None)
    assert read(events(chunk({"refusal": "I ca"}), chunk({"refusal": "n't"}), chunk({}, "stop"))).refusal == "I can't"
    parts = chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "[[1]]?"}]}]})
    assert read(events(parts, chunk({"content": "[[4]]"}), chunk({}, "stop"))).text == "[[4]]"
    assert read(events(chunk({"content": "x"}), chunk({}, "length"))).finish_reason == "length"
    split = events(chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}), chunk({}, "stop"))
    assert read(split).text == "a😀b"


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (events(*WHOLE[:-1], end=b""), BadReply, "broke off before the end"),
        (events(*WHOLE[:-1], end=b'data: {"id": "c-1", "choi'), BadReply, "not JSON"),
        (DONE, BadReply, "without an answer"),
        (b": nothing\n\n", BadReply, "without an answer"),
        (events([1]), BadReply, "not a part of an answer"),
        (events(*WHOLE[:2], {"error": {"code": 502, "message": "upstream died"}}), BadReply, "upstream died"),
        (events({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, end=b""), RateLimited, "slow"),
        (events({"code": "Throttling.User", "message": "slow", "request_id": "r"}, end=b""), RateLimited, "slow"),
        (b'event: error\ndata: {"code": "Throttling", "message": "slow"}\n\n', RateLimited, "slow"),
        (events(*WHOLE[:2], chunk({}, "content_filter")), ServiceError, "content filter"),
    ],
)
def test_a_stream_that_is_no_answer(raw: bytes, kind: type[ServiceError], words: str) -> None:
    with pytest.raises(kind, match=words):
        read(raw)


@given(st.lists(st.text(max_size=8), max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
def test_the_cuts_between_chunks_do_not_matter(pieces: list[str], line_end: bytes, ends_early: bool) -> None:
    text = "".join(pieces)
    streamed = events(*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"), line_end=line_end)
    plain = {"id": "c-1", "model": "m-1", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    expected = read_reply(json.dumps(plain).encode(), {})
    got = read(streamed)
    assert (got.text or "") == (expected.text or "")
    assert got.finish_reason == expected.finish_reason


@given(st.integers(0, 400))
def test_a_stream_that_is_cut_is_never_a_shorter_answer(at: int) -> None:
    whole = events(*COUNTED)
    try:
        response = read(whole[:at])
    except BadReply:
        return
    assert response.text == "[[4]]"


@given(st.binary(max_size=80), st.sampled_from([b"data: ", b"data:{}\n\n", b'data: {"choices":', b"event: error\n"]))
def test_any_stream_is_an_answer_or_a_service_error(raw: bytes, before: bytes) -> None:
    with suppress(ServiceError):
        read(before + raw)


def test_the_body_asks_for_a_stream_and_its_counts() -> None:
    body = json.dumps({"model": "m", "messages": [{"content": 'say "stream_options": {}'}]}).encode()
    assert json.loads(as_streaming(body)) == {
        **json.loads(body),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    own = json.dumps({"model": "m", "stream_options": {"include_usage": False}}).encode()
    assert json.loads(as_streaming(own)) == {**json.loads(own), "stream": True}
