"""A service with a small queue: it answers 503 or 529 to what has no room, while it answers other requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_service import Service, configure, http_error, judge, ok, rows_by_ordinal, statuses

from runner import RunOptions, RunSummary, arun, load_config
from runner.lanes.online.request_queue import QueuedRequest
from runner.lanes.online.throttling import FULL_WITHIN_REQUESTS, FullnessWatch, ThrottleWatch
from runner.types import JudgeRequest, Sample

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_probes")]

MANY = {"limits": {"concurrency": {"start": 32, "max": 64}}}


async def judge_by_queue(
    folder: Path, room: int, rows: int, status: int = 503, **sections: Any
) -> tuple[RunSummary, Service]:
    """Judge with a service that works on `room` requests at once, 20 ms each, and takes no others."""

    async def answer(_: int, __: int) -> web.Response:
        if service.in_flight > room:
            return http_error(status, "Busy")
        await asyncio.sleep(0.02)
        return ok()

    async with Service(answer) as service:
        path = configure(folder, f"http://127.0.0.1:{service.port}/v1", rows, **sections)
        return await arun(load_config(path), RunOptions(quiet=True)), service


@pytest.mark.parametrize("status", [503, 529])
@pytest.mark.parametrize(("room", "most"), [(1, 2500), (4, 700), (12, 300)])  # at 32 at once: 5400, 1300 and 440
async def test_a_full_queue_costs_no_row_and_the_concurrency_is_learned(
    tmp_path: Path, room: int, most: int, status: int
) -> None:
    breaker = {"window": 40, "share": 0.2}
    summary, service = await judge_by_queue(
        tmp_path, room, 150, status, service=MANY, breaker=breaker, retry={"attempts": 2}
    )
    assert (summary.exit_code, summary.counts.ok) == (0, 150), summary.message
    assert summary.throttled == 0  # these are not 429s
    assert service.requests.total() < most


async def test_a_concurrency_that_is_given_stays_and_run_log_says_what_helps(tmp_path: Path) -> None:
    summary, _ = await judge_by_queue(tmp_path, 4, 60, service={"limits": {"concurrency": 16}}, retry={"attempts": 2})
    assert (summary.exit_code, summary.counts.ok) == (0, 60), summary.message
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert log.count("Fewer at once may help: service.limits.concurrency is 16") == 1


@pytest.mark.parametrize("concurrency", [4, {"start": 8, "max": 16}], ids=["given", "learned"])
async def test_requests_that_always_get_a_503_fail_when_nothing_else_is_left(tmp_path: Path, concurrency: Any) -> None:
    poison = {3, 4, 20, 21}

    async def answer(number: int, _: int) -> web.Response:
        await asyncio.sleep(0.001)
        return http_error(503) if number in poison else ok()

    limits = {"limits": {"concurrency": concurrency}}
    summary, _ = await judge(tmp_path, answer, 80, service=limits, retry={"patience": 3, "base": 0.002})
    assert summary.exit_code == 1, summary.message
    rows = rows_by_ordinal(tmp_path)
    assert {number for number, row in rows.items() if row["status"] == "failed"} == poison
    assert {rows[number]["error_type"] for number in poison} == {"server_error"}
    assert all("HTTP 503" in rows[number]["error_message"] for number in poison)


async def test_a_service_that_is_down_behind_its_gateway_is_an_outage(tmp_path: Path) -> None:
    summary, _ = await judge(
        tmp_path, lambda number, _: ok() if number < 10 else http_error(503), 60, retry={"patience": 0.5}
    )
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")
    assert "when the service is back" in (summary.message or "")
    assert statuses(tmp_path) == dict.fromkeys(range(10), "ok")


def queued(name: str) -> QueuedRequest:
    return QueuedRequest(JudgeRequest(Sample(0, name, {}, {}, {}, "here"), 0, name, b"", ""), b"", 0)


def test_a_queue_is_full_if_it_refuses_several_requests_at_a_time() -> None:
    watch, a, b = FullnessWatch("s", None, ThrottleWatch(1800)), queued("a"), queued("b")
    assert [watch.is_full(a, number, 5) for number in (1, 2, 3)] == [False] * 3  # always the same one
    assert watch.is_full(b, 4, 5)
    assert not watch.is_full(a, 5, 1)  # it was alone
    assert watch.is_full(a, 4 + FULL_WITHIN_REQUESTS, 2)
    assert not watch.is_full(a, 5 + FULL_WITHIN_REQUESTS, 2)  # the other refusal is long ago
