"""Several services: each request goes to an eligible backend that is available, and fails over to another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_service import Handler, Service, configure, http_error, ok, rows_by_ordinal, statuses

from runner import RunOptions, RunSummary, arun, load_config
from runner.errors import RunStopped
from runner.lanes.online import OnlineLane

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_probes")]


def delayed(handler: Handler, seconds: float = 0.002) -> Handler:
    async def respond(ordinal: int, attempt: int) -> web.Response:
        await asyncio.sleep(seconds)
        response = handler(ordinal, attempt)
        return response if isinstance(response, web.Response) else await response

    return respond


class Pair:
    """Services `a` and `b`, and a run that may send to both."""

    def __init__(self, folder: Path, a: Service, b: Service) -> None:
        self.folder, self.a, self.b = folder, a, b

    async def run(
        self, rows: int, concurrency: int = 4, limits: dict[str, Any] | None = None, **sections: Any
    ) -> RunSummary:
        services = [
            {"name": name, "base_url": f"http://127.0.0.1:{service.port}/v1", "token_env": None, "batch": False}
            | {"limits": {"concurrency": concurrency, **(limits or {})}, "timeout": {"total": 10}}
            for name, service in (("a", self.a), ("b", self.b))
        ]
        sections = {"judge": {"service": ["a", "b"]}, **sections, "services": services}
        path = configure(self.folder, "http://127.0.0.1:1/v1", rows, **sections)
        return await arun(load_config(path), RunOptions(quiet=True))

    def answered_by(self) -> Counter[str]:
        return Counter(row["service"] for row in rows_by_ordinal(self.folder).values() if row["status"] == "ok")


@asynccontextmanager
async def pair(folder: Path, a: Handler, b: Handler) -> AsyncIterator[Pair]:
    async with Service(a) as first, Service(b) as second:
        yield Pair(folder, first, second)


def answer_all(_: int, __: int) -> web.Response:
    return ok()


async def test_equal_services_share_the_requests(tmp_path: Path) -> None:
    async with pair(tmp_path, delayed(answer_all), delayed(answer_all)) as both:
        summary = await both.run(200)
    assert summary.exit_code == 0
    assert both.answered_by() == {"a": both.a.requests.total(), "b": both.b.requests.total()}
    assert both.a.requests.total() + both.b.requests.total() == 200
    assert 60 <= both.a.requests.total() <= 140


async def test_a_few_requests_are_shared_equally(tmp_path: Path) -> None:
    async with pair(tmp_path, answer_all, answer_all) as both:
        await both.run(8, concurrency=20)
    assert both.answered_by() == {"a": 4, "b": 4}


async def test_a_slow_service_gets_fewer_requests_and_delays_no_others(tmp_path: Path) -> None:
    async with pair(tmp_path, delayed(answer_all, 0.2), delayed(answer_all, 0.002)) as both:
        summary = await both.run(400)
    assert summary.exit_code == 0
    assert both.a.requests.total() < 60
    assert summary.elapsed_s < 4


async def test_each_judge_sends_to_its_own_service(tmp_path: Path) -> None:
    judges = [
        {"name": "one", "kind": "pai_single", "service": "a"},
        {"name": "two", "kind": "pai_single", "service": "b", "repeats": 2},
    ]
    async with pair(tmp_path, delayed(answer_all, 0.02), answer_all) as both:
        summary = await both.run(50, judges=judges)
    assert summary.exit_code == 0
    assert (both.a.requests.total(), both.b.requests.total()) == (50, 100)


@pytest.mark.parametrize("code", [503, 429])
async def test_requests_fail_over_from_a_service_that_answers_none(tmp_path: Path, code: int) -> None:
    async with pair(tmp_path, lambda *_: http_error(code), delayed(answer_all)) as both:
        summary = await both.run(100, retry={"attempts": 2})
    assert summary.exit_code == 0
    assert statuses(tmp_path) == dict.fromkeys(range(100), "ok")
    assert both.answered_by() == {"b": 100}
    assert both.a.requests.total() < 40  # those in flight when the outage was detected, and the probes
    assert max(both.b.requests.values()) == 1


async def test_a_service_that_recovers_gets_requests_again(tmp_path: Path) -> None:
    recovered = asyncio.Event()

    def down_at_first(ordinal: int, _: int) -> web.Response:
        return ok() if recovered.is_set() else http_error(503)

    async def other(ordinal: int) -> web.Response:
        if ordinal > 100:
            recovered.set()
        await asyncio.sleep(0.003)
        return ok()

    async with pair(tmp_path, down_at_first, lambda ordinal, _: other(ordinal)) as both:
        summary = await both.run(600)
    assert summary.exit_code == 0
    assert both.answered_by()["a"] > 100


async def test_an_outage_of_both_services_ends_when_one_recovers(tmp_path: Path) -> None:
    requests = 0

    def down_at_first(_: int, __: int) -> web.Response:
        nonlocal requests
        requests += 1
        return http_error(503) if requests < 40 else ok()

    async with pair(tmp_path, lambda *_: http_error(502), down_at_first) as both:
        summary = await both.run(60, retry={"attempts": 3})
    assert summary.exit_code == 0
    assert both.answered_by() == {"b": 60}


async def test_the_patience_ends_a_run_only_if_no_backend_is_available(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda *_: http_error(503), delayed(answer_all, 0.03)) as both:
        summary = await both.run(100, concurrency=2, retry={"patience": 0.2})
        assert summary.exit_code == 0
    async with pair(tmp_path / "two", lambda *_: http_error(503), lambda *_: http_error(500)) as both:
        both.folder.mkdir()
        summary = await both.run(100, retry={"patience": 0.2})
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")


@pytest.mark.parametrize("code", [401, 402, 404])
async def test_a_backend_is_closed_after_a_fatal_error(tmp_path: Path, code: int) -> None:
    def fatal_from_20(ordinal: int, _: int) -> web.Response:
        return ok() if ordinal < 20 else http_error(code)

    async with pair(tmp_path, fatal_from_20, delayed(answer_all)) as both:
        summary = await both.run(200)
    assert summary.exit_code == 0
    assert statuses(tmp_path) == dict.fromkeys(range(200), "ok")
    needed = 1 if code == 402 else 20  # after answers, only many requests in a row prove that it is not their own fault
    assert both.a.requests.total() <= 20 + needed + 2 * 4


async def test_a_fatal_error_stops_the_run_if_a_judge_has_no_other_service(tmp_path: Path) -> None:
    judges = [
        {"name": "one", "kind": "pai_single", "service": "a"},
        {"name": "two", "kind": "pai_single", "service": ["a", "b"]},
    ]
    async with pair(tmp_path, lambda *_: http_error(401), answer_all) as both:
        summary = await both.run(50, judges=judges)
    assert (summary.exit_code, summary.stop_reason) == (3, "authentication")


async def test_attempts_and_usage_are_kept_at_a_failover(tmp_path: Path) -> None:
    """A service answers without a readable verdict and then goes down. The other answers, and the row counts both."""

    def unreadable_then_down(_: int, attempt: int) -> web.Response:
        return ok("Hmm.") if attempt == 1 else http_error(503)

    async with pair(tmp_path, unreadable_then_down, delayed(answer_all, 0.01)) as both:
        summary = await both.run(40, judge={"service": ["a", "b"], "reask": 1}, retry={"attempts": 50})
    rows = rows_by_ordinal(tmp_path)
    assert summary.exit_code == 0
    failed_over = [row for number, row in rows.items() if both.a.requests[number] and row["service"] == "b"]
    assert failed_over
    assert {row["prompt_tokens"] for row in failed_over} == {14}
    assert all(row["attempts"] == both.a.requests[n] + both.b.requests[n] for n, row in rows.items())


async def test_a_drain_while_one_of_two_services_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes: list[OnlineLane] = []
    run = OnlineLane.run

    async def run_and_drain(lane: OnlineLane) -> None:
        lanes.append(lane)
        asyncio.get_running_loop().call_later(0.2, lane.drain, RunStopped("interrupted", "drained", 130), 1.0)
        await run(lane)

    monkeypatch.setattr(OnlineLane, "run", run_and_drain)
    async with pair(tmp_path, lambda *_: http_error(503), delayed(answer_all, 0.02)) as both:
        summary = await both.run(5000)
        assert lanes[0].services["a"]["state"] == "paused"
    assert summary.stop_reason == "interrupted"
    assert summary.elapsed_s < 5
    assert set(statuses(tmp_path)) == set(both.b.requests)


@pytest.mark.parametrize("code", [403, 404, 429])
async def test_one_row_that_no_service_takes_closes_none(tmp_path: Path, code: int) -> None:
    def refuse_7(ordinal: int, _: int) -> web.Response:
        return http_error(code) if ordinal == 7 else ok()

    async with pair(tmp_path, refuse_7, refuse_7) as both:
        summary = await both.run(40, retry={"patience": 1.5})
    assert (summary.exit_code, summary.counts.ok) == (1, 39)
    assert statuses(tmp_path)[7] == "failed"
