"""Difficult services: one rejects every request for a minute, another rejects none and only becomes slower."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from aiohttp import web
from fake_service import READABLE, Service, configure, http_error, judge, ok, statuses
from virtual_clock import now, run

from runner import RunOptions, arun, load_config
from runner.config import JudgeConfig, RetryConfig
from runner.errors import RateLimited, RunStopped, Transient
from runner.judge import Panel
from runner.lanes.online import BackendSpec, OnlinePolicy, executor, outage
from runner.lanes.online.backend import Backend
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.request_queue import QueuedRequest
from runner.lanes.online.throttling import ThrottleWatch
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import AdaptiveController
from runner.results import ResultRecorder
from runner.service import Client
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Sample

CONCURRENCIES: list[int | dict[str, int]] = [16, {"start": 8, "max": 64}]


# on a virtual clock, with realistic durations


class ScriptedClient:
    """Replaces the HTTP client. It records when each request was sent and answered, and how many were in flight."""

    def __init__(self, serve: Callable[[], Awaitable[None]]) -> None:
        self.sent: list[float] = []
        self.answered: list[float] = []
        self.in_flight_at_send: list[int] = []
        self._serve = serve
        self._in_flight = 0

    chat_url = "http://here/v1/chat/completions"

    async def chat(self, _: bytes) -> JudgeResponse:
        self.sent.append(now())
        self._in_flight += 1
        self.in_flight_at_send.append(self._in_flight)
        try:
            await self._serve()
        finally:
            self._in_flight -= 1
        self.answered.append(now())
        return JudgeResponse(READABLE, "stop")

    def rate(self, start: float, end: float) -> float:
        """Return the answers per second between two times."""
        return sum(start <= at < end for at in self.answered) / (end - start)


class NullRecorder:
    """Replaces the recorder. It discards all rows."""

    def record(self, request: JudgeRequest, result: RequestResult) -> None:
        assert result.verdict is not None


class OneBackendLane:
    """A lane with one backend and `rows` equal requests. It counts the answered ones."""

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
        pytest.fail(f"reported lost: {error}")

    def on_resumed(self, backend: int) -> None:
        self.backend.limiter.resume()

    def on_decided(self, backend: int, queued: QueuedRequest, failure: Failure | None) -> None:
        pytest.fail(f"decided: {failure}")

    def on_refused(self, backend: int, stop: RunStopped) -> None:
        pytest.fail(f"refused: {stop}")


async def run_backend(client: ScriptedClient, concurrency: int | AdaptiveController, rows: int) -> int:
    """Let one backend send `rows` requests, and return how many were answered."""
    panel = Panel([JudgeConfig.model_validate({"kind": "pai_single"})])
    committer = GroupCommitter(panel, cast(ResultRecorder, NullRecorder()))
    lane = OneBackendLane(rows)
    spec = BackendSpec("default", cast(Client, client), concurrency)
    retry = RetryConfig()
    throttling = ThrottleWatch(retry.patience)
    lane.backend = Backend(0, spec, OnlinePolicy(retry), committer, lane, ["judge"], (), throttling)
    async with anyio.create_task_group() as background:
        background.start_soon(committer.run)
        background.start_soon(lane.backend.limiter.run)
        async with anyio.create_task_group() as workers:
            WorkerPool.start(workers, lane.backend.workers)
        background.cancel_scope.cancel()
    return lane.answered


@pytest.fixture
def virtual_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the executor measure latencies on the clock of the event loop."""
    monkeypatch.setattr(executor, "time", SimpleNamespace(perf_counter=lambda: asyncio.get_running_loop().time()))


@pytest.mark.usefixtures("virtual_latency")
@pytest.mark.parametrize("hint", [None, 5.0])
@pytest.mark.parametrize(
    ("concurrency", "max_limit"), [(64, 64), (AdaptiveController(20, 128, 1800), 128)], ids=["fixed", "adaptive"]
)
def test_a_minute_of_429s_loses_no_request_and_few_are_sent_in_it(
    concurrency: int | AdaptiveController, max_limit: int, hint: float | None
) -> None:
    async def serve() -> None:
        await asyncio.sleep(0.005)
        if 10 <= now() < 70:
            raise RateLimited("busy", retry_after=hint)
        await asyncio.sleep(0.5)

    client = ScriptedClient(serve)
    assert run(run_backend(client, deepcopy(concurrency), 9000)) == 9000
    assert sum(10 <= at < 70 for at in client.sent) < 8 * max_limit
    assert sum(20 <= at < 70 for at in client.sent) < 10
    assert client.rate(90, 95) > 0.9 * max_limit / 0.505  # the full rate is reached again


def queueing_service(slots: int, seconds: float) -> Callable[[], Awaitable[None]]:
    """Return a service in which each request occupies one of the slots for `seconds`; further requests queue."""
    free = asyncio.Semaphore(slots)

    async def serve() -> None:
        async with free:
            await asyncio.sleep(seconds)

    return serve


@pytest.mark.usefixtures("virtual_latency")
@pytest.mark.parametrize(("slots", "seconds"), [(8, 2.0), (64, 1.0)])
def test_a_service_that_never_rejects_is_limited_by_its_throughput(slots: int, seconds: float) -> None:
    rows = int(180 * slots / seconds)

    async def main(concurrency: int | AdaptiveController) -> tuple[float, list[int]]:
        client = ScriptedClient(queueing_service(slots, seconds))
        assert await run_backend(client, concurrency, rows) == rows
        return rows / now(), client.in_flight_at_send

    fixed = {size: run(main(size))[0] for size in (slots // 2, slots, 512)}
    rate, in_flight = run(main(AdaptiveController(20, 512, 1800)))
    assert rate > 0.9 * max(fixed.values())
    second_half = sorted(in_flight[rows // 2 :])
    assert second_half[len(second_half) // 2] <= 3.5 * slots


# on real sockets, with short durations


@pytest.fixture
def fast_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send probes early, and ignore the proxy of the machine."""
    monkeypatch.setattr(outage, "PROBE_DELAY_MIN_SECONDS", 0.05)
    monkeypatch.setattr(outage, "PROBE_DELAY_MAX_SECONDS", 0.2)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.anyio
@pytest.mark.usefixtures("fast_probes")
@pytest.mark.parametrize("hint", [{}, {"retry-after-ms": "100"}], ids=["no hint", "hint"])
@pytest.mark.parametrize("concurrency", CONCURRENCIES, ids=str)
async def test_no_row_is_lost_to_a_service_that_rejects_every_request_for_a_second(
    tmp_path: Path, concurrency: Any, hint: dict[str, str]
) -> None:
    throttled_at: list[float] = []

    def answer(_: int, __: int) -> web.Response:
        at = time.monotonic()
        if not throttled_at or at - throttled_at[0] < 1.0:
            throttled_at.append(at)
            return http_error(429, "Throttling", **hint)
        return ok()

    summary, service = await judge(
        tmp_path,
        answer,
        200,
        service={"limits": {"concurrency": concurrency}},
        retry={"attempts": 1, "base": 0.1, "ceiling": 1},
    )
    assert summary.exit_code == 0
    assert statuses(tmp_path) == dict.fromkeys(range(200), "ok")
    assert summary.throttled == len(throttled_at) == service.requests.total() - 200
    assert len(throttled_at) < 150


@pytest.mark.anyio
@pytest.mark.usefixtures("fast_probes")
async def test_the_limit_stays_low_for_a_service_that_only_becomes_slower(tmp_path: Path) -> None:
    free, seconds = asyncio.Semaphore(8), 0.05  # shorter times mean more requests per second than a busy machine sends

    async def answer(_: int, __: int) -> web.Response:
        async with free:
            await asyncio.sleep(seconds)
        return ok()

    limits = {"limits": {"concurrency": {"start": 2, "max": 256}}}
    summary, service = await judge(tmp_path, answer, 800, service=limits)
    assert summary.exit_code == 0
    assert statuses(tmp_path) == dict.fromkeys(range(800), "ok")
    assert 8 <= service.max_in_flight <= 64
    assert summary.elapsed_s < 2 * 800 * seconds / 8  # twice the ideal time: the machine may be busy


@pytest.mark.anyio
@pytest.mark.usefixtures("fast_probes")
@pytest.mark.parametrize("concurrency", CONCURRENCIES, ids=str)
async def test_429s_of_one_service_do_not_slow_down_another(tmp_path: Path, concurrency: Any) -> None:
    started_at = time.monotonic()
    answered_at: list[float] = []

    def throttle(_: int, __: int) -> web.Response:
        return ok() if len(answered_at) == 300 else http_error(429, "Throttling", **{"retry-after-ms": "2000"})

    async def answer(_: int, __: int) -> web.Response:
        await asyncio.sleep(0.002)
        answered_at.append(time.monotonic() - started_at)
        return ok()

    async with Service(throttle) as one, Service(answer) as other:
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
    assert other.requests.total() == 300
    assert max(later - earlier for earlier, later in pairwise(answered_at)) < 1.9  # the other service caused no pause
