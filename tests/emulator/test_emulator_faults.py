"""Faults: how each one looks to a client, and that the same seed gives the same faults."""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import pytest

from runner.emulator.draws import digest, draw_attempt, draw_body
from runner.emulator.faults import FaultPlan
from runner.emulator.options import Faults

pytestmark = pytest.mark.anyio


async def outcomes(caller, bodies, attempts: int = 2, count: int = 40) -> list[str]:
    """Send each of `count` bodies `attempts` times; return the status or exception name of each attempt."""
    found = []
    for number in range(count):
        for _ in range(attempts):
            try:
                reply = await caller.chat(bodies.single("Why?", f"because {number}"))
                found.append(str(reply.status))
            except aiohttp.ClientError as error:
                found.append(type(error).__name__)
    return found


async def test_the_same_seed_gives_the_same_faults(emulate, bodies):
    faults = {"500": 0.15, "503": 0.1, "429": 0.1, "reset": 0.1, "truncate": 0.1, "refuse": 0.1, "malformed": 0.1}
    runs = []
    for seed in (1, 1, 2):
        async with emulate(seed=seed, faults=faults) as caller:
            runs.append(await outcomes(caller, bodies))
    assert runs[0] == runs[1] != runs[2]
    assert {"200", "400", "429", "500", "503", "ClientPayloadError"} <= set(runs[0])
    assert any(first != second for first, second in zip(runs[0][::2], runs[0][1::2], strict=True))


def test_each_fault_has_its_share():
    faults = Faults(server_error=0.2, unavailable=0.1, hang=0.05, refuse=0.1)
    plan = FaultPlan(faults)
    bodies = [digest({"n": number}) for number in range(4000)]
    chosen = [plan.choose(draw_attempt(7, body, 0), draw_body(7, body)) for body in bodies]
    for fault, share in (("500", 0.18), ("503", 0.09), ("hang", 0.045), ("refuse", 0.1)):
        assert chosen.count(fault) / len(chosen) == pytest.approx(share, abs=0.02)
    refused = [body for body, fault in zip(bodies, chosen, strict=True) if fault == "refuse"]
    assert {plan.choose(draw_attempt(7, body, seen), draw_body(7, body)) for body in refused for seen in range(3)} == {
        "refuse"
    }


def test_spacing_and_key_order_do_not_change_the_digest():
    assert digest(json.loads('{"a": 1, "b": [2, {"c": 3, "d": 4}]}')) == digest({"b": [2, {"d": 4, "c": 3}], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.parametrize("status", [500, 503])
async def test_server_errors(emulate, bodies, status):
    async with emulate(faults={str(status): 1}) as caller:
        reply = await caller.chat(bodies.single())
    assert reply.status == status
    assert reply.error["type"] == "server_error"


async def test_a_stray_429_asks_for_a_short_wait(emulate, bodies):
    async with emulate(faults={"429": 1}) as caller:
        reply = await caller.chat(bodies.single())
        stats = await caller.stats()
    assert (reply.status, reply.headers["Retry-After"], reply.headers["retry-after-ms"]) == (429, "1", "100")
    assert stats["accepted_per_s"] == []


async def test_a_refused_body_is_refused_at_every_attempt(emulate, bodies):
    async with emulate(faults={"refuse": 1}) as caller:
        replies = [await caller.chat(bodies.single()) for _ in range(3)]
    assert {(reply.status, reply.error["code"]) for reply in replies} == {(400, "data_inspection_failed")}


async def test_an_unparsable_answer_is_complete_and_has_no_verdict(emulate, bodies):
    async with emulate(faults={"unparsable": 1}) as caller:
        texts = [(await caller.chat(body)).text for body in (bodies.single(), bodies.pair("Why?", "a", "b"))]
        stats = await caller.stats()
    assert all(text and not re.search(r"\[|\d", text) for text in texts)
    assert stats["distinct_ok"] == 2


async def test_a_reset_comes_before_any_byte(emulate, bodies):
    async with emulate(faults={"reset": 1}) as caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.running.port)
        writer.write(_raw_request(bodies.single()))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        stats = await caller.stats()
    assert (stats["distinct"], stats["distinct_ok"], stats["status"]) == (1, 0, {})


async def test_a_truncated_answer_announces_more_bytes_than_it_sends(emulate, bodies):
    async with emulate(faults={"truncate": 1}) as caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.running.port)
        writer.write(_raw_request(bodies.single()))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        stats = await caller.stats()
    assert head.startswith(b"HTTP/1.1 200")
    announced = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    assert 0 < len(body) < announced
    assert (stats["distinct_ok"], stats["status"], stats["faults"]) == (0, {}, {"truncate": 1})


async def test_a_hanging_request_ends_with_its_client(emulate, bodies):
    async with emulate(faults={"hang": 1}) as caller:
        with pytest.raises(TimeoutError):
            await caller.chat(bodies.single(), timeout=aiohttp.ClientTimeout(total=0.2))
        async with asyncio.timeout(5):
            while (stats := await caller.stats())["in_flight"]:
                pass
    assert (stats["distinct_ok"], stats["max_in_flight"], stats["status"]) == (0, 1, {})


async def test_malformed_answers_are_valid_http_without_a_completion(emulate, bodies):
    kinds = set()
    async with emulate(faults={"malformed": 1}) as caller:
        for number in range(20):
            reply = await caller.chat(bodies.single("Why?", f"because {number}"))
            assert reply.status == 200
            try:
                kinds.add("no choices" if "choices" not in json.loads(reply.raw) else "usable")
            except ValueError:
                kinds.add("page" if reply.raw.startswith(b"<html") else "broken")
        stats = await caller.stats()
    assert kinds == {"no choices", "page", "broken"}
    assert (stats["distinct_ok"], stats["completion_tokens"]) == (0, 0)


def _raw_request(body: object) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data
