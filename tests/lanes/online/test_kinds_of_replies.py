"""Each kind of reply in the table of docs/services.md, in whole runs against a server that sends raw bytes.

One run has all kinds that concern one request: every second sample gets one of them, the others get answers.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_service import READABLE, configure, rows_by_ordinal
from raw_server import Call, response, serving

from runner import RunOptions, RunSummary, arun, load_config

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_probes")]

ROOT = Path(__file__).parents[3]
COUNTS = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def completion(message: Any = None, finish: Any = "stop", choice: Any = None, **more: Any) -> bytes:
    said = {"role": "assistant", "content": READABLE} if message is None else message
    first = {"index": 0, "message": said, "finish_reason": finish, **(choice or {})}
    return json.dumps({"id": "c-1", "choices": [first], "usage": COUNTS, **more}).encode()


def error(**said: Any) -> bytes:
    return json.dumps({"error": said}).encode()


OK = response(200, completion())
HTML = b"<!doctype html><html><head><title>Console</title></head><body></body></html>"
EVENTS = b'data: {"choices": [{"delta": {"content": "%b"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
HALF = {"role": "assistant", "content": "It covers 2 of 3 [[1]], and"}
LONG = "Limit 30000, Requested 41210 tokens per min; reduce it"


class Row(NamedTuple):
    """What becomes of the row: its `error_type` (None: it is ok), its calls (None: any number), its total tokens."""

    error_type: str | None = None
    calls: int | None = 1
    total: int | None = 12


ANSWERED, AGAIN = Row(), Row(calls=2)
NO_USAGE = Row(total=None)

# Each kind that concerns one request: replies to it, in turn (the last one is repeated), and its row.
ONE: list[tuple[str, Sequence[bytes], Row]] = [
    ("200, 201 or another 2xx", [response(201, completion())], ANSWERED),
    ("200, 201 or another 2xx", [response(206, completion())], ANSWERED),
    ("white space before the JSON", [response(200, b"\n" * 40 + completion())], ANSWERED),
    ("white space before the JSON", [response(200, completion(id=17, created=1.5, x={"y": [None]}))], ANSWERED),
    ("a `content` that is a list", [response(200, completion({"content": [READABLE]}))], ANSWERED),
    (
        "thoughts beside the text",
        [
            response(
                200, completion({"content": [{"type": "thinking", "thinking": "评分为[[1]]?"}, {"text": READABLE}]})
            )
        ],
        ANSWERED,
    ),
    (
        "thoughts beside the text",
        [response(200, completion({"content": f"[THINK]评分为[[1]]?[/THINK]{READABLE}"}))],
        ANSWERED,
    ),
    (
        "a text in `reasoning_content`",
        [response(200, completion({"content": None, "reasoning_content": READABLE}))],
        Row("no_verdict", 2, 24),
    ),
    ("an event stream", [response(200, EVENTS % READABLE.encode(), "Content-Type: text/event-stream")], NO_USAGE),
    ("gzip, long headers", [response(200, gzip.compress(completion()), "Content-Encoding: gzip")], ANSWERED),
    ("gzip, long headers", [response(200, completion(), *(f"X-{n}: {'v' * 200}" for n in range(120)))], ANSWERED),
    ("gzip, long headers", [response(200, completion(), f"X-Policy: {'v' * 9000}").replace(b"\r\n", b"\n")], ANSWERED),
    (
        "`usage` that counts thinking",
        [
            response(
                200,
                completion(
                    usage={**COUNTS, "total_tokens": 1012, "completion_tokens_details": {"reasoning_tokens": 1000}}
                ),
            )
        ],
        Row(total=1012),
    ),
    ("`usage` that counts thinking", [response(200, completion(usage=None, choice={"usage": COUNTS}))], ANSWERED),
    ("`usage` that counts thinking", [response(200, completion(usage=dict.fromkeys(COUNTS, 0)))], NO_USAGE),
    ("`usage` that counts thinking", [response(200, completion(usage=None))], NO_USAGE),
    ("a reply after which the connection ends", [response(200, completion(), "X-Ends: here")], ANSWERED),
    ("an answer that broke off", [response(200, completion(HALF, "abort", usage=None)), OK], AGAIN),
    (
        "an answer that broke off",
        [response(200, completion(HALF, "error", {"error": {"code": 502, "message": "Upstream"}}, usage=None)), OK],
        AGAIN,
    ),
    ("an answer that a content filter", [response(200, completion(HALF, "content_filter"))], Row("content_filter")),
    (
        "an answer that a content filter",
        [response(200, completion({"content": None}, "sensitive"))],
        Row("content_filter"),
    ),
    ("202, 204 or another 2xx", [response(202, b"", "Status: pending"), OK], AGAIN),
    ("202, 204 or another 2xx", [response(204), OK], AGAIN),
    (
        "200 with an error inside that means 429",
        [response(200, error(code=429, message="slow"))] * 4 + [OK],
        Row(calls=5),
    ),
    (
        "200 with an error inside that means 429",
        [response(200, b'{"choices": null, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}')] * 4
        + [OK],
        Row(calls=5),
    ),
    ("200 with an error inside that means 5xx", [response(200, error(code=502, message="Upstream")), OK], AGAIN),
    (
        "200 with an error inside that means 4xx",
        [response(200, error(code=400, message="odd"))],
        Row("bad_request", 1, None),
    ),
    ("200 with a body that cannot be read", [response(200, completion()[:-20]), OK], AGAIN),
    (
        "200 with a body that cannot be read",
        [response(200, completion().replace(b'"stop"', b'"s\xe4\xbd"')), OK],
        AGAIN,
    ),
    (
        "200 with a body that cannot be read",
        [response(200, b"\x0b\x02", "Content-Encoding: br")],
        Row("bad_reply", None, None),
    ),
    ("200 with something else", [response(200, HTML, "Content-Type: text/html"), OK], AGAIN),
    ("200 with something else", [response(200, b'{"choices": [{"text": "[[4]]"}]}')], Row("bad_reply", None, None)),
    (
        "403 or 405 for one request",
        [response(403, error(message="the input was flagged"))],
        Row("content_filter", 1, None),
    ),
    ("403 or 405 for one request", [response(403, HTML)], Row("bad_request", 1, None)),
    ("403 or 405 for one request", [response(405, HTML)], Row("bad_request", 1, None)),
    ("401 or 404 for one request", [response(401, error(message="who?")), OK], AGAIN),
    ("401 or 404 for one request", [response(404), OK], AGAIN),
    ("400 for one request", [response(400, error(message="odd"))], Row("bad_request", 1, None)),
    ("429 in any form", [response(429, b'[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]'), OK], AGAIN),
    ("429 in any form", [response(429, HTML, "Retry-After: 0.01"), OK], AGAIN),
    ("429 or 413 for a request", [response(429, error(message=LONG, type="tokens"))], Row("too_long", 1, None)),
    ("429 or 413 for a request", [response(413, error(message=LONG, code="x"))], Row("too_long", 1, None)),
    ("500, 502, 503, 504", [response(529, error(type="overloaded_error")), OK], AGAIN),
    ("500, 502, 503, 504", [response(524, HTML), OK], AGAIN),
    ("5xx for one text", [response(500, error(message="EngineCore"))], Row("server_error", None, None)),
]


class Scripted:
    """Sends the replies of each sample in turn."""

    def __init__(self, replies: dict[int, Sequence[bytes]], others: Sequence[bytes] = (OK,)) -> None:
        self.calls: Counter[int] = Counter()
        self._replies, self._others = replies, others

    async def __call__(self, call: Call, writer: asyncio.StreamWriter) -> None:
        found = re.search(rb"question (\d+)", call.body)
        ordinal = int(found[1]) if found else -1
        replies = self._replies.get(ordinal, self._others)
        reply = replies[min(self.calls[ordinal], len(replies) - 1)]
        writer.write(reply)
        self.calls[ordinal] += 1
        if b"X-Ends" in reply:
            writer.close()


async def judged(folder: Path, script: Scripted, rows: int, path: str = "/v1", **sections: Any) -> RunSummary:
    async with serving(script) as server:
        url = server.url.removesuffix("/v1") + path
        return await arun(load_config(configure(folder, url, rows, **sections)), RunOptions(quiet=True))


async def test_kinds_that_concern_one_request(tmp_path: Path) -> None:
    script = Scripted({2 * number + 1: replies for number, (_, replies, _) in enumerate(ONE)})
    summary = await judged(tmp_path, script, 2 * len(ONE) + 1, breaker={"share": 1})
    assert summary.exit_code == 1, summary.message
    rows = rows_by_ordinal(tmp_path)
    assert len(rows) == 2 * len(ONE) + 1
    for number, (kind, _, expected) in enumerate(ONE):
        row = rows[2 * number + 1]
        context = (number, kind, row)
        assert row["error_type"] == expected.error_type, context
        status = {None: "ok", "no_verdict": "unparsed"}.get(expected.error_type, "failed")
        assert row["status"] == status, context
        assert expected.calls in (None, row["attempts"]), context
        assert row["attempts"] == script.calls[2 * number + 1], context
        assert row["total_tokens"] == expected.total, context
        assert row["score"] == (None if expected.error_type else 4), context
        assert rows[2 * number]["status"] == "ok"


MONEY = error(message="Your credit balance is too low to go on", type="invalid_request_error")
SUSPENDED = error(
    message="Your account o-1 is suspended due to insufficient balance", type="exceeded_current_quota_error"
)
LOGIN = b'{"choices": null, "base_resp": {"status_code": 1004, "status_msg": "login fail: no secret key"}}'
LEGACY = b'{"id": "c", "choices": [{"index": 0, "text": "[[4]]", "finish_reason": "stop"}]}'
KEY = b'[{"error": {"code": 400, "message": "API key not valid", "details": [{"reason": "API_KEY_INVALID"}]}}]'
AT = "(POST http://127.0.0.1:"

# Each kind that every request gets, after the first answers: the reply, stop reason, words of the message, answers.
ALL: list[tuple[str, bytes, str, str, int]] = [
    ("200 with something else", response(200, HTML, "Content-Type: text/html"), "address", "/v1 is missing?", 0),
    ("200 with something else", response(200, LEGACY), "address", "no reply could be used so far", 0),
    ("401, 403, 404, 405 for every", response(200, LOGIN), "authentication", "login fail: no secret key (1004)", 0),
    ("401, 403, 404, 405 for every", response(400, KEY), "authentication", "API key not valid", 0),
    ("a reply that says that", response(400, MONEY), "quota", "credit balance is too low", 3),
    ("a reply that says that", response(429, SUSPENDED), "quota", "check the account", 3),
    ("a reply that says that", response(200, error(code=402, message="No credits")), "quota", "with 402 inside", 3),
    (
        "a redirect",
        response(308, b"", "Location: https://judge.example/v1/chat/completions"),
        "address",
        "judge.example",
        0,
    ),
]


@pytest.mark.parametrize(("kind", "reply", "reason", "words", "answers"), ALL, ids=[f"{c[2]}-{c[3]}" for c in ALL])
async def test_kinds_that_every_request_gets(
    tmp_path: Path, kind: str, reply: bytes, reason: str, words: str, answers: int
) -> None:
    script = Scripted({number: [OK] for number in range(answers)}, [reply])
    path = "" if "missing" in words else "/v1"
    summary = await judged(tmp_path, script, 24, path, service={"batch": False, "limits": {"concurrency": 2}})
    assert (summary.exit_code, summary.stop_reason) == (3, reason), summary.message
    assert words in (summary.message or "") and AT in (summary.message or ""), kind
    assert (summary.counts.ok, summary.counts.failed) == (answers, 0)
    assert sum(script.calls.values()) <= answers + 8


async def test_where_one_account_is_empty_another_service_takes_over(tmp_path: Path) -> None:
    async with serving(Scripted({}, [response(429, SUSPENDED)])) as empty, serving(Scripted({})) as full:
        services = [
            {"name": name, "base_url": server.url, "token_env": None} for name, server in (("a", empty), ("b", full))
        ]
        path = configure(tmp_path, "", 20, services=services, judge={"service": ["a", "b"]})
        summary = await arun(load_config(path), RunOptions(quiet=True))
    assert (summary.exit_code, summary.counts.ok) == (0, 20)


async def test_a_service_that_ends_each_connection_after_one_reply_costs_no_attempt(tmp_path: Path) -> None:
    served: set[asyncio.StreamWriter] = set()

    async def answer_once(_: Call, writer: asyncio.StreamWriter) -> None:
        if writer in served:
            writer.close()
            return
        served.add(writer)
        writer.write(OK)

    async with serving(answer_once) as server:
        path = configure(tmp_path, server.url, 100, retry={"attempts": 1}, breaker={"share": 0.01, "window": 20})
        summary = await arun(load_config(path), RunOptions(quiet=True))
    assert (summary.exit_code, summary.counts.ok, summary.retries) == (0, 100, 0), summary.message
    assert {row["attempts"] for row in rows_by_ordinal(tmp_path).values()} == {1}
    assert len(served) == 100


# Kinds with tests elsewhere, which this test would only repeat.
ELSEWHERE = {
    "the same 400 or 422 for every": "tests/lanes/online/test_refusals.py::test_what_every_request_gets_stops_the_run",
    "429 beyond a number of requests": "tests/lanes/online/test_online_lane.py::test_a_429_never_uses_up_an_attempt",
    "503 or 529 for several requests": "tests/lanes/online/test_full_queue.py::test_a_full_queue_costs_no_row",
    "`Retry-After` of an hour": "tests/lanes/online/test_requested_waits.py::test_a_service_that_asks_every_request",
    "no complete reply within": "tests/service/test_client.py::test_the_total_timeout",
}


def test_every_kind_of_the_documentation_has_a_test() -> None:
    text = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
    table = text.partition("## What each kind of reply means")[2].partition("\n## ")[0]
    kinds = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]
    tested = [kind for kind, *_ in (*ONE, *ALL)] + list(ELSEWHERE)
    assert len(kinds) > 20
    assert [kind for kind in kinds if not any(kind.startswith(known) for known in tested)] == []
    assert [known for known in tested if not any(kind.startswith(known) for kind in kinds)] == []
    for place in ELSEWHERE.values():
        path, _, name = place.partition("::")
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), place
