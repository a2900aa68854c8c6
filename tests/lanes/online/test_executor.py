"""The life of a request in good and bad weather, on a virtual clock: what is sent when, and what counts."""

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
from runner.errors import ConnectFailed, Fatal, RateLimited, Refused, RunStopped, ServerFault, TimedOut
from runner.judge import Panel
from runner.lanes.online.executor import RequestExecutor
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.outage import OutageDetector
from runner.lanes.online.request_queue import QueuedRequest
from runner.lanes.online.spec import BackendSpec, OnlinePolicy
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import RequestLimiter
from runner.results import ResultRecorder
from runner.service import Client
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Sample

Behaviour = Callable[[str, float, int], Exception | None]
"""From a request's name, the time and how often it was sent to what goes wrong."""

READABLE = "我认为该回复的综合评分为[[4]],理由如下。"


class Scripted:
    """In the client's place: answers after a moment, or fails as the script says."""

    def __init__(self, behaviour: Behaviour, latency: float = 0.1) -> None:
        self.sent: list[tuple[float, str]] = []
        self.in_flight = self.most = 0
        self._behaviour = behaviour
        self._latency = latency

    def times(self, name: str) -> list[float]:
        return [moment for moment, sent in self.sent if sent == name]

    async def chat(self, body: bytes) -> JudgeResponse:
        name = body.decode()
        self.sent.append((now(), name))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(self._latency)
        self.in_flight -= 1
        error = self._behaviour(name, now(), len(self.times(name)))
        if error is not None:
            raise error
        return JudgeResponse(READABLE, "stop")


class Unwritten:
    """Takes rows and writes none."""

    def record(self, request: JudgeRequest, asked: RequestResult) -> None:
        assert isinstance(asked.outcome, Failure) or asked.verdict is not None


class Scene:
    """An asker with everything around it, and what its requests came to."""

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        attempts: int = 6,
        concurrency: int = 20,
        rpm: int | None = None,
        patience: float = 1800.0,
        breaker: BreakerConfig | None = None,
    ) -> None:
        self.client = Scripted(behaviour)
        self.lost: list[float] = []
        self.workers = WorkerPool(concurrency, self._work)
        self.outage = OutageDetector(patience, self._lost)
        self.limiter = RequestLimiter(concurrency, rpm, None, None, lambda _: None, lambda: self.outage.paused)
        panel = Panel([JudgeConfig.model_validate({"kind": "pai_single"})])
        self.committer = GroupCommitter(panel, cast(ResultRecorder, Unwritten()))
        self.executor = RequestExecutor(
            BackendSpec("default", cast(Client, self.client), concurrency, rpm),
            OnlinePolicy(
                RetryConfig(attempts=attempts, base=0.5, ceiling=30, patience=patience),
                breaker or BreakerConfig(window=10**6),
            ),
            self.committer,
            self.limiter,
            self.outage,
            self.workers,
            lambda _: False,
        )
        self._names: Iterator[str] = iter(())
        self._results: dict[str, RequestResult | BaseException] = {}

    def _lost(self, _: Exception) -> None:
        self.lost.append(now())
        self.executor.drain()

    async def _work(self) -> bool:
        name = next(self._names, None)
        if name is None:
            return False
        try:
            self._results[name] = await self.executor.execute(QueuedRequest(request(name), name.encode(), 0))
        except (Drained, RunStopped) as error:
            self._results[name] = error
        return not isinstance(self._results[name], Exception)

    async def judge(self, names: list[str]) -> dict[str, RequestResult | BaseException]:
        """What became of each that a worker took up."""
        self._names = iter(names)
        servers = [asyncio.create_task(serve()) for serve in (self.limiter.run, self.committer.run)]
        async with create_task_group() as group:
            WorkerPool.start(group, self.workers)
        for server in servers:
            server.cancel()
        return self._results


def request(name: str) -> JudgeRequest:
    sample = Sample(0, name, {}, {}, {}, "here")
    return JudgeRequest(sample, 0, name, name.encode(), "")


def names(count: int) -> list[str]:
    return [f"r{number}" for number in range(count)]


def answered(results: dict[str, RequestResult | BaseException]) -> list[str]:
    return [name for name, asked in results.items() if isinstance(asked, RequestResult) and asked.verdict is not None]


def failed(results: dict[str, RequestResult | BaseException]) -> dict[str, Failure]:
    outcomes = {name: asked.outcome for name, asked in results.items() if isinstance(asked, RequestResult)}
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)}


AWAY = [ConnectFailed("refused"), TimedOut("late"), ServerFault("x", status=503), ServerFault("x", status=500)]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__ + str(error.status or ""))
def test_an_outage_costs_no_attempts(error: Exception) -> None:
    scene = Scene(lambda _, moment, __: error if 1 < moment < 200 else None)
    results = run(scene.judge(names(400)))
    assert len(answered(results)) == 400
    probes = sorted({round(moment) for moment, _ in scene.client.sent if 10 < moment < 199})
    assert len(probes) == sum(1 for moment, _ in scene.client.sent if 10 < moment < 199)
    assert all(later - earlier >= 8 for earlier, later in pairwise(probes))
    assert max(len(scene.client.times(name)) for name in results) < 12


@pytest.mark.parametrize("attempts", [1, 2, 3, 6])
@pytest.mark.parametrize("concurrency", [1, 2, 20])
@pytest.mark.parametrize("error", [ConnectFailed("refused"), ServerFault("away", status=503)])
def test_not_even_those_fail_who_met_the_outage_first(error: Exception, concurrency: int, attempts: int) -> None:
    def away_at_first(_: str, moment: float, __: int) -> Exception | None:
        return error if moment < 100 else None

    scene = Scene(away_at_first, attempts=attempts, concurrency=concurrency)
    results = run(scene.judge(names(30)))
    assert len(answered(results)) == 30


def test_429s_use_up_no_attempts() -> None:
    scene = Scene(lambda _, __, times: RateLimited("busy", status=429) if times <= 20 else None, attempts=2)
    results = run(scene.judge(["r0"]))
    assert answered(results) == ["r0"]
    assert scene.executor.traffic.throttled == 20


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_throttle_by_any_other_status_uses_up_no_attempts(status: int) -> None:
    def busy_then_broken(name: str, _: float, times: int) -> Exception | None:
        if name != "r0" or times > 7:
            return None
        return RateLimited("busy", status=status) if times <= 6 else ServerFault("broken", status=500)

    scene = Scene(busy_then_broken, attempts=2, concurrency=2)
    results = run(scene.judge(names(300)))
    assert failed(results) == {}


@pytest.mark.parametrize("error", [ServerFault("x", status=500), ServerFault("x", status=503), TimedOut("late")])
@pytest.mark.parametrize("attempts", [2, 3, 6])
def test_a_bad_row_is_sent_as_often_as_the_policy_says(error: Exception, attempts: int) -> None:
    scene = Scene(lambda name, _, __: error if name == "r5" else None, attempts=attempts, concurrency=2)
    results = run(scene.judge(names(1000)))
    assert list(failed(results)) == ["r5"]
    assert len(scene.client.times("r5")) == attempts
    assert scene.lost == []


def test_the_last_row_left_fails_alone_where_it_may_be_the_cause() -> None:
    scene = Scene(lambda *_: ServerFault("crash", status=500), attempts=8, concurrency=1)
    results = run(scene.judge(["r0"]))
    assert list(failed(results)) == ["r0"]
    assert len(scene.client.sent) == 8


def test_the_last_row_left_survives_an_outage_it_cannot_have_caused() -> None:
    def away_then_stumbling(_: str, __: float, times: int) -> Exception | None:
        return ConnectFailed("refused") if times <= 9 else ServerFault("starting", status=500) if times == 10 else None

    scene = Scene(away_then_stumbling, attempts=3)
    results = run(scene.judge(["r0"]))
    assert answered(results) == ["r0"]


def test_who_waits_for_a_permit_does_not_go_out_into_an_outage() -> None:
    scene = Scene(lambda _, moment, __: ConnectFailed("refused") if 100 < moment < 1000 else None, rpm=60)
    results = run(scene.judge(names(120)))
    assert len(answered(results)) == 120
    assert sum(1 for moment, _ in scene.client.sent if 110 < moment < 1000) <= 36  # one in 30 s, first more often
    after = [moment for moment, _ in scene.client.sent if moment > 1000]
    assert all(sum(1 for other in after if moment <= other < moment + 60) <= 60 for moment in after)


def test_concurrency_and_quota_hold_while_all_goes_wrong_now_and_then() -> None:
    def now_and_then(name: str, _: float, times: int) -> Exception | None:
        kinds = (None, ServerFault("x", status=500), RateLimited("x", status=429, retry_after=3), TimedOut("x"))
        return kinds[int(name[1:]) % 4] if times < 3 else None

    scene = Scene(now_and_then, concurrency=7, rpm=600)
    results = run(scene.judge(names(900)))
    assert len(answered(results)) == 900
    assert scene.client.most <= 7
    sent = [moment for moment, _ in scene.client.sent]
    assert all(later - earlier > 60 for earlier, later in zip(sent, sent[600:], strict=False))


def test_patience_ends_the_lane_and_leaves_no_rows() -> None:
    scene = Scene(lambda *_: ConnectFailed("refused"), patience=600)
    results = run(scene.judge(names(40)))
    assert {type(result) for result in results.values()} == {Drained}
    assert scene.lost == pytest.approx([600], abs=1)


def test_a_refusal_is_sent_once_and_shows_that_the_service_is_there() -> None:
    def refused(name: str, _: float, __: int) -> Exception | None:
        return Refused("bad", status=400) if int(name[1:]) % 2 else None

    scene = Scene(refused, attempts=3)
    results = run(scene.judge(names(60)))
    assert len(scene.client.sent) == 60
    assert {failure.error_type for failure in failed(results).values()} == {"bad_request"}
    assert len(failed(results)) == 30
    assert not scene.outage.paused


def test_a_fatal_answer_stops_the_run() -> None:
    scene = Scene(lambda *_: Fatal("no", reason="authentication", status=401))
    (stop,) = run(scene.judge(["r0"])).values()
    assert isinstance(stop, RunStopped)
    assert (stop.exit_code, stop.reason) == (3, "authentication")


def test_a_drain_wakes_who_rests_and_lets_who_is_under_way_finish() -> None:
    def broken(name: str, _: float, __: int) -> Exception | None:
        return RateLimited("busy", status=429, retry_after=500) if name == "r0" else None

    async def main(scene: Scene) -> tuple[dict[str, RequestResult | BaseException], float]:
        asyncio.get_running_loop().call_later(0.15, scene.executor.drain)
        return await scene.judge(names(9)), now()

    scene = Scene(broken, concurrency=2)
    results, ended = run(main(scene))
    assert ended < 1
    assert isinstance(results["r0"], Drained)
    assert len(answered(results)) == len(scene.client.sent) - 1 == 3


@pytest.mark.parametrize("bad", [{"r0", "r1", "r2"}, {"r20", "r21", "r22"}, {"r37", "r38", "r39"}], ids=min)
@pytest.mark.parametrize("attempts", [2, 6])
def test_bad_rows_side_by_side_do_not_hold_up_a_narrow_run(bad: set[str], attempts: int) -> None:
    crash = ServerFault("crash", status=500)
    scene = Scene(lambda name, _, __: crash if name in bad else None, attempts=attempts, concurrency=1)
    results = run(scene.judge(names(40)))
    assert set(failed(results)) == bad
    assert len(answered(results)) == 37
    assert scene.lost == []
