"""The request executor on a virtual clock: when it sends requests, and which failures count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import cast

import pytest
from anyio import create_task_group
from virtual_clock import now, run

from runner.config import BreakerConfig, JudgeConfig, RetryConfig
from runner.core import Drained
from runner.errors import BadReply, ConnectFailed, Fatal, RateLimited, Refused, RunStopped, ServerFault, TimedOut
from runner.judge import Panel
from runner.lanes.online.backend_spec import BackendSpec, OnlinePolicy
from runner.lanes.online.executor import RequestExecutor, ServiceHealth
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.outage import OutageDetector
from runner.lanes.online.refusals import Held, RefusalDetector
from runner.lanes.online.request_queue import QueuedRequest
from runner.lanes.online.throttling import ThrottleWatch
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import RequestLimiter
from runner.results import ResultRecorder
from runner.service import Client
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Sample

# (name of the request, time in seconds, number of attempt it was sent) -> the error, or None for an answer
Script = Callable[[str, float, int], Exception | None]

READABLE = "我认为该回复的综合评分为[[4]],理由如下。"


class ScriptedClient:
    """Replaces the HTTP client. After `latency` seconds it answers, or raises the error that the script returns."""

    def __init__(self, script: Script, latency: float = 0.1) -> None:
        self.sent: list[tuple[float, str]] = []
        self.in_flight = self.max_in_flight = 0
        self._script = script
        self._latency = latency

    def times_sent(self, name: str) -> list[float]:
        """Return when the request was sent."""
        return [at for at, sent in self.sent if sent == name]

    chat_url = "http://here/v1/chat/completions"

    async def chat(self, body: bytes) -> JudgeResponse:
        name = body.decode()
        self.sent.append((now(), name))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        await asyncio.sleep(self._latency)
        self.in_flight -= 1
        error = self._script(name, now(), len(self.times_sent(name)))
        if error is not None:
            raise error
        return JudgeResponse(READABLE, "stop")


class NullRecorder:
    """Replaces the recorder. It discards all rows."""

    def record(self, request: JudgeRequest, result: RequestResult) -> None:
        assert isinstance(result.outcome, Failure) or result.verdict is not None


class Harness:
    """A request executor with its dependencies, and the result of each request."""

    def __init__(
        self,
        script: Script,
        *,
        attempts: int = 6,
        concurrency: int = 20,
        rpm: int | None = None,
        patience: float = 1800.0,
        breaker: BreakerConfig | None = None,
    ) -> None:
        self.client = ScriptedClient(script)
        self.lost: list[float] = []
        self.workers = WorkerPool(concurrency, self._work)
        self.outage = OutageDetector(patience, self._on_lost)
        self.decided: dict[str, Failure | None] = {}
        self.stops: list[RunStopped] = []
        self.refusals = RefusalDetector(
            "judge 'j'", "http://h/chat/completions", 20, False, self._on_decided, self._on_stop
        )
        self.limiter = RequestLimiter(concurrency, rpm, None, None, lambda _: None, lambda: self.outage.paused)
        panel = Panel([JudgeConfig.model_validate({"kind": "pai_single"})])
        self.committer = GroupCommitter(panel, cast(ResultRecorder, NullRecorder()))
        self.executor = RequestExecutor(
            BackendSpec("default", cast(Client, self.client), concurrency, rpm),
            OnlinePolicy(
                RetryConfig(attempts=attempts, base=0.5, ceiling=30, patience=patience),
                breaker or BreakerConfig(window=10**6),
            ),
            self.committer,
            self.limiter,
            ServiceHealth(self.outage, [self.refusals], ThrottleWatch(patience)),
            self.workers,
            lambda _: False,
        )
        self._names: Iterator[str] = iter(())
        self._results: dict[str, RequestResult | BaseException] = {}

    def _on_lost(self, _: Exception) -> None:
        self.lost.append(now())
        self.executor.drain()

    def _on_decided(self, queued: QueuedRequest, failure: Failure | None) -> None:
        self.decided[queued.request.custom_id] = failure

    def _on_stop(self, stop: RunStopped) -> None:
        self.stops.append(stop)
        self.workers.stop()
        self.executor.drain()

    async def _work(self) -> bool:
        name = next(self._names, None)
        if name is None:
            return False
        try:
            self._results[name] = await self.executor.execute(QueuedRequest(request(name), name.encode(), 0))
        except Held:
            return True
        except (Drained, RunStopped) as error:
            self._results[name] = error
        return not isinstance(self._results[name], Exception)

    async def execute(self, names: list[str]) -> dict[str, RequestResult | BaseException]:
        """Execute the requests, and return the result of each that a worker started."""
        self._names = iter(names)
        background = [asyncio.create_task(run_forever()) for run_forever in (self.limiter.run, self.committer.run)]
        async with create_task_group() as group:
            WorkerPool.start(group, self.workers)
        for task in background:
            task.cancel()
        return self._results


def request(name: str) -> JudgeRequest:
    sample = Sample(0, name, {}, {}, {}, "here")
    return JudgeRequest(sample, 0, name, name.encode(), "")


def names(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def answered(results: dict[str, RequestResult | BaseException]) -> list[str]:
    return [name for name, one in results.items() if isinstance(one, RequestResult) and one.verdict is not None]


def failed(results: dict[str, RequestResult | BaseException]) -> dict[str, Failure]:
    outcomes = {name: result.outcome for name, result in results.items() if isinstance(result, RequestResult)}
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)}


OUTAGE_ERRORS = [ConnectFailed("refused"), TimedOut("late"), ServerFault("x", status=503), ServerFault("x", status=500)]


@pytest.mark.parametrize("error", OUTAGE_ERRORS, ids=lambda error: type(error).__name__ + str(error.status or ""))
def test_failures_in_an_outage_use_up_no_attempts(error: Exception) -> None:
    harness = Harness(lambda _, at, __: error if 1 < at < 200 else None)
    results = run(harness.execute(names(400)))
    assert len(answered(results)) == 400
    probes = sorted({round(at) for at, _ in harness.client.sent if 10 < at < 199})
    assert len(probes) == sum(1 for at, _ in harness.client.sent if 10 < at < 199)
    assert all(later - earlier >= 8 for earlier, later in pairwise(probes))
    assert max(len(harness.client.times_sent(name)) for name in results) < 12


@pytest.mark.parametrize("attempts", [1, 2, 3, 6])
@pytest.mark.parametrize("concurrency", [1, 2, 20])
@pytest.mark.parametrize("error", [ConnectFailed("refused"), ServerFault("down", status=503)])
def test_failures_before_an_outage_is_detected_do_not_count(error: Exception, concurrency: int, attempts: int) -> None:
    def down_at_first(_: str, at: float, __: int) -> Exception | None:
        return error if at < 100 else None

    harness = Harness(down_at_first, attempts=attempts, concurrency=concurrency)
    results = run(harness.execute(names(30)))
    assert len(answered(results)) == 30


def test_429s_use_up_no_attempts() -> None:
    harness = Harness(lambda _, __, attempt: RateLimited("busy", status=429) if attempt <= 20 else None, attempts=2)
    results = run(harness.execute(["r0"]))
    assert answered(results) == ["r0"]
    assert harness.executor.traffic.throttled == 20


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_throttle_by_any_other_status_uses_up_no_attempts(status: int) -> None:
    def busy_then_broken(name: str, _: float, attempt: int) -> Exception | None:
        if name != "r0" or attempt > 7:
            return None
        return RateLimited("busy", status=status) if attempt <= 6 else ServerFault("broken", status=500)

    harness = Harness(busy_then_broken, attempts=2, concurrency=2)
    results = run(harness.execute(names(300)))
    assert failed(results) == {}


@pytest.mark.parametrize("error", [ServerFault("x", status=500), ServerFault("x", status=503), TimedOut("late")])
@pytest.mark.parametrize("attempts", [2, 3, 6])
def test_a_bad_row_is_sent_as_often_as_the_retry_policy_allows(error: Exception, attempts: int) -> None:
    harness = Harness(lambda name, _, __: error if name == "r5" else None, attempts=attempts, concurrency=2)
    results = run(harness.execute(names(1000)))
    assert list(failed(results)) == ["r5"]
    assert len(harness.client.times_sent("r5")) == attempts
    assert harness.lost == []


def test_the_only_pending_row_fails_if_it_may_have_caused_the_failures() -> None:
    harness = Harness(lambda *_: ServerFault("crash", status=500), attempts=8, concurrency=1)
    results = run(harness.execute(["r0"]))
    assert list(failed(results)) == ["r0"]
    assert len(harness.client.sent) == 8


def test_answers_that_always_break_off_are_no_outage() -> None:
    harness = Harness(lambda *_: BadReply("it broke off", status=200, is_answer=True), attempts=4, concurrency=20)
    results = run(harness.execute(names(40)))
    assert len(failed(results)) == 40
    assert {len(harness.client.times_sent(name)) for name in names(40)} == {4}
    assert harness.lost == []
    assert harness.client.sent[-1][0] < 300  # as an outage, with one probe at a time, this would take an hour


def test_the_only_pending_row_survives_an_outage_that_it_cannot_have_caused() -> None:
    def down_then_one_500(_: str, __: float, attempt: int) -> Exception | None:
        return ConnectFailed("refused") if attempt <= 9 else ServerFault("boot", status=500) if attempt == 10 else None

    harness = Harness(down_then_one_500, attempts=3)
    results = run(harness.execute(["r0"]))
    assert answered(results) == ["r0"]


def test_a_request_that_waits_for_a_permit_is_not_sent_during_an_outage() -> None:
    harness = Harness(lambda _, at, __: ConnectFailed("refused") if 100 < at < 1000 else None, rpm=60)
    results = run(harness.execute(names(120)))
    assert len(answered(results)) == 120
    assert sum(1 for at, _ in harness.client.sent if 110 < at < 1000) <= 36  # one probe in 30 s, at first more often
    later = [at for at, _ in harness.client.sent if at > 1000]
    assert all(sum(1 for other in later if at <= other < at + 60) <= 60 for at in later)


def test_concurrency_and_quota_hold_despite_frequent_errors() -> None:
    def frequent_errors(name: str, _: float, attempt: int) -> Exception | None:
        errors = (None, ServerFault("x", status=500), RateLimited("x", status=429, retry_after=3), TimedOut("x"))
        return errors[int(name[1:]) % 4] if attempt < 3 else None

    harness = Harness(frequent_errors, concurrency=7, rpm=600)
    results = run(harness.execute(names(900)))
    assert len(answered(results)) == 900
    assert harness.client.max_in_flight <= 7
    sent = [at for at, _ in harness.client.sent]
    assert all(later - earlier > 60 for earlier, later in zip(sent, sent[600:], strict=False))


def test_after_the_patience_the_executor_drains_and_no_row_is_written() -> None:
    harness = Harness(lambda *_: ConnectFailed("refused"), patience=600)
    results = run(harness.execute(names(40)))
    assert {type(result) for result in results.values()} == {Drained}
    assert harness.lost == pytest.approx([600], abs=1)


def test_a_rejected_request_is_sent_once_and_shows_that_the_service_is_up() -> None:
    def reject_odd(name: str, _: float, __: int) -> Exception | None:
        return Refused("bad", status=400) if int(name[1:]) % 2 else None

    harness = Harness(reject_odd, attempts=3)
    run(harness.execute(names(60)))
    assert len(harness.client.sent) == 60
    decided = [failure for failure in harness.decided.values() if failure is not None]
    assert {failure.error_type for failure in decided} == {"bad_request"}
    assert len(decided) >= 20  # the last ones wait for an answer that does not come
    assert not harness.outage.paused


def test_a_fatal_error_stops_the_run() -> None:
    harness = Harness(lambda *_: Fatal("no", reason="authentication", status=401))
    (stop,) = run(harness.execute(["r0"])).values()
    assert isinstance(stop, RunStopped)
    assert (stop.exit_code, stop.reason) == (3, "authentication")


def test_a_drain_cancels_waiting_retries_and_lets_requests_in_flight_finish() -> None:
    def throttle_first(name: str, _: float, __: int) -> Exception | None:
        return RateLimited("busy", status=429, retry_after=500) if name == "r0" else None

    async def main(harness: Harness) -> tuple[dict[str, RequestResult | BaseException], float]:
        asyncio.get_running_loop().call_later(0.15, harness.executor.drain)
        return await harness.execute(names(9)), now()

    harness = Harness(throttle_first, concurrency=2)
    results, ended_at = run(main(harness))
    assert ended_at < 1
    assert isinstance(results["r0"], Drained)
    assert len(answered(results)) == len(harness.client.sent) - 1 == 3


@pytest.mark.parametrize("bad_rows", [{"r0", "r1", "r2"}, {"r20", "r21", "r22"}, {"r37", "r38", "r39"}], ids=min)
@pytest.mark.parametrize("attempts", [2, 6])
def test_consecutive_bad_rows_do_not_block_a_run_of_low_concurrency(bad_rows: set[str], attempts: int) -> None:
    crash = ServerFault("crash", status=500)
    harness = Harness(lambda name, _, __: crash if name in bad_rows else None, attempts=attempts, concurrency=1)
    results = run(harness.execute(names(40)))
    assert set(failed(results)) == bad_rows
    assert len(answered(results)) == 37
    assert harness.lost == []
