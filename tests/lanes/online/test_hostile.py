"""Servers that make it hard: one that refuses everything for a minute, one that never refuses and only gets slower."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from aiohttp import web
from fake_service import READABLE, Service, bad, configure, good, judge, status
from virtual_clock import now, run

from runner import RunOptions, arun, load_config
from runner.config import JudgeConfig, RetryConfig
from runner.errors import RateLimited, Transient
from runner.judge import Panel
from runner.lanes.online import BackendSpec, OnlinePolicy, executor, outage
from runner.lanes.online.backend import Backend
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.request_queue import QueuedRequest
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import AdaptiveController
from runner.results import ResultRecorder
from runner.service import Client
from runner.types import JudgeRequest, JudgeResponse, RequestResult, Sample

CONCURRENCIES: list[int | dict[str, int]] = [16, {"start": 8, "max": 64}]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


# on a virtual clock, at full length


class Scripted:
    """In the client's place; keeps when it was asked and when it answered."""

    def __init__(self, serve: Callable[[], Awaitable[None]]) -> None:
        self.sent: list[float] = []
        self.answered: list[float] = []
        self.in_flight: list[int] = []
        self._serve = serve
        self._now = 0

    async def chat(self, _: bytes) -> JudgeResponse:
        self.sent.append(now())
        self._now += 1
        self.in_flight.append(self._now)
        try:
            await self._serve()
        finally:
            self._now -= 1
        self.answered.append(now())
        return JudgeResponse(READABLE, "stop")

    def rate(self, begin: float, end: float) -> float:
        """Answers a second."""
        return sum(begin <= at < end for at in self.answered) / (end - begin)


class Unwritten:
    """Takes rows and writes none."""

    def record(self, request: JudgeRequest, asked: RequestResult) -> None:
        assert asked.verdict is not None


class OneBackendLane:
    """The lane of a single backend: equal requests, of which it counts those that are answered."""

    backend: Backend

    def __init__(self, rows: int) -> None:
        sample = Sample(0, "s", {}, {}, {}, "here")
        requests = (JudgeRequest(sample, 0, str(number), b"{}", "") for number in range(rows))
        self._pending = deque(QueuedRequest(request, b"{}", 0) for request in requests)
        self.answered = 0

    async def work(self, backend: int) -> bool:
        if not self._pending:
            return False
        await self.backend.executor.execute(self._pending.popleft())
        self.answered += 1
        return True

    def has_alternative(self, backend: int, variant: int) -> bool:
        return False

    def on_lost(self, backend: int, error: Transient) -> None:
        pytest.fail(f"given up: {error}")

    def on_resumed(self, backend: int) -> None:
        self.backend.limiter.resume()


async def work_through(client: Scripted, concurrency: int | AdaptiveController, rows: int) -> int:
    """Have one backend send this many requests; returns how many were answered."""
    panel = Panel([JudgeConfig.model_validate({"kind": "pai_single"})])
    committer = GroupCommitter(panel, cast(ResultRecorder, Unwritten()))
    lane = OneBackendLane(rows)
    spec = BackendSpec("default", cast(Client, client), concurrency)
    lane.backend = Backend(0, spec, OnlinePolicy(RetryConfig()), committer, lane)
    async with anyio.create_task_group() as helpers:
        helpers.start_soon(committer.run)
        helpers.start_soon(lane.backend.limiter.run)
        async with anyio.create_task_group() as workers:
            WorkerPool.start(workers, lane.backend.workers)
        helpers.cancel_scope.cancel()
    return lane.answered


@pytest.fixture
def virtual_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have latencies measured on the loop's clock."""
    monkeypatch.setattr(executor, "time", SimpleNamespace(perf_counter=lambda: asyncio.get_running_loop().time()))


@pytest.mark.usefixtures("virtual_latency")
@pytest.mark.parametrize("hint", [None, 5.0])
@pytest.mark.parametrize(
    ("concurrency", "most"), [(64, 64), (AdaptiveController(20, 128, 1800), 128)], ids=["fixed", "adaptive"]
)
def test_a_minute_of_429s_loses_nothing_and_is_mostly_silence(
    concurrency: int | AdaptiveController, most: int, hint: float | None
) -> None:
    async def serve() -> None:
        await asyncio.sleep(0.005)
        if 10 <= now() < 70:
            raise RateLimited("busy", retry_after=hint)
        await asyncio.sleep(0.5)

    client = Scripted(serve)
    assert run(work_through(client, deepcopy(concurrency), 9000)) == 9000
    assert sum(10 <= at < 70 for at in client.sent) < 8 * most
    assert sum(20 <= at < 70 for at in client.sent) < 10
    assert client.rate(90, 95) > 0.9 * most / 0.505  # nothing of it is left


def workers(count: int, seconds: float) -> Callable[[], Awaitable[None]]:
    """A server of so many workers, each busy for so long with a request; others wait."""
    free = asyncio.Semaphore(count)

    async def serve() -> None:
        async with free:
            await asyncio.sleep(seconds)

    return serve


@pytest.mark.usefixtures("virtual_latency")
@pytest.mark.parametrize(("count", "seconds"), [(8, 2.0), (64, 1.0)])
def test_who_never_refuses_is_found_out_by_the_throughput(count: int, seconds: float) -> None:
    rows = int(180 * count / seconds)

    async def main(concurrency: int | AdaptiveController) -> tuple[float, list[int]]:
        client = Scripted(workers(count, seconds))
        assert await work_through(client, concurrency, rows) == rows
        return rows / now(), client.in_flight

    fixed = {size: run(main(size))[0] for size in (count // 2, count, 512)}
    rate, in_flight = run(main(AdaptiveController(20, 512, 1800)))
    assert rate > 0.9 * max(fixed.values())
    later = sorted(in_flight[rows // 2 :])
    assert later[len(later) // 2] <= 3.5 * count


# on real sockets, in short


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe soon; and no proxy of the machine's own."""
    monkeypatch.setattr(outage, "PROBE_DELAY_MIN_SECONDS", 0.05)
    monkeypatch.setattr(outage, "PROBE_DELAY_MAX_SECONDS", 0.2)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.anyio
@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("hint", [{}, {"retry-after-ms": "100"}], ids=["untold", "told"])
@pytest.mark.parametrize("concurrency", CONCURRENCIES, ids=str)
async def test_a_service_that_refuses_everything_for_a_while(
    tmp_path: Path, concurrency: Any, hint: dict[str, str]
) -> None:
    refused: list[float] = []

    def answer(_: int, __: int) -> web.Response:
        moment = time.monotonic()
        if not refused or moment - refused[0] < 1.0:
            refused.append(moment)
            return bad(429, "Throttling", **hint)
        return good()

    summary, service = await judge(
        tmp_path,
        answer,
        200,
        service={"limits": {"concurrency": concurrency}},
        retry={"attempts": 1, "base": 0.1, "ceiling": 1},
    )
    assert summary.exit_code == 0
    assert status(tmp_path) == dict.fromkeys(range(200), "ok")
    assert summary.throttled == len(refused) == service.asked.total() - 200
    assert len(refused) < 150


@pytest.mark.anyio
@pytest.mark.usefixtures("brisk")
async def test_a_service_that_only_gets_slower(tmp_path: Path) -> None:
    free = asyncio.Semaphore(8)

    async def answer(_: int, __: int) -> web.Response:
        async with free:
            await asyncio.sleep(0.03)
        return good()

    limits = {"limits": {"concurrency": {"start": 2, "max": 256}}}
    summary, service = await judge(tmp_path, answer, 800, service=limits)
    assert summary.exit_code == 0
    assert status(tmp_path) == dict.fromkeys(range(800), "ok")
    assert 8 <= service.most <= 64
    assert summary.elapsed_s < 2 * 800 * 0.03 / 8  # so much the machine may be busy with other things


@pytest.mark.anyio
@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("concurrency", CONCURRENCIES, ids=str)
async def test_429s_of_one_service_do_not_slow_another_one_down(tmp_path: Path, concurrency: Any) -> None:
    began = time.monotonic()
    answered: list[float] = []

    def refuse(_: int, __: int) -> web.Response:
        return good() if len(answered) == 300 else bad(429, "Throttling", **{"retry-after-ms": "200"})

    async def answer(_: int, __: int) -> web.Response:
        await asyncio.sleep(0.002)
        answered.append(time.monotonic() - began)
        return good()

    async with Service(refuse) as one, Service(answer) as other:
        services = [
            {"name": name, "base_url": f"http://127.0.0.1:{service.port}/v1", "token_env": None, "batch": False}
            | {"limits": {"concurrency": concurrency}}
            for name, service in (("one", one), ("other", other))
        ]
        judges = [{"name": name, "kind": "pai_single", "service": name} for name in ("one", "other")]
        path = configure(tmp_path, "http://127.0.0.1:1/v1", 300, services=services, judges=judges)
        summary = await arun(load_config(path), RunOptions(quiet=True))
    assert summary.exit_code == 0
    assert summary.counts.ok == 600
    assert summary.throttled >= 1
    assert other.asked.total() == 300
    assert answered[-1] - answered[0] < 0.19 + 300 * 0.02 / 8  # a pause for the other's sake would show
