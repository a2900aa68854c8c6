"""The online lane over what is left: workers pull samples, ask, and write a row each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from anyio import create_task_group

from runner.core import Drained
from runner.errors import BadRow, DatasetError, RunStopped, Transient
from runner.judge import Panel
from runner.lanes import PendingWork, StoppableLane, Traffic
from runner.lanes.online.backend import Backend, BackendSpec, OnlinePolicy
from runner.lanes.online.executor import Failover
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.request_queue import QueuedRequest, RequestQueue
from runner.lanes.online.worker_pool import WorkerPool
from runner.results import ResultRecorder
from runner.types import Failure, JudgeRequest, RequestResult

log = logging.getLogger(__name__)

REQUESTS_PER_PREPARATION = 16
"""So many requests are made at a time."""

BACKEND_STOP_REASONS = frozenset({"authentication", "quota", "address", "breaker"})
"""Why one service can answer nothing, though others may."""


class OnlineLane(StoppableLane):
    """Asks every remaining request of a service that may be asked.

    Where several may, each takes the next request when it has room: in turn while they are alike, fewer where one is
    slower, none where it does not answer. What one could not answer goes to another.

    Args:
        specs: the services.
        eligible: for each variant, which of them may ask it.
        policy: how they are asked.
        panel: makes requests and reads verdicts.
        pending: what is left to ask.
        recorder: takes the rows.
        reasks: for each variant, how often it is asked again when its verdict cannot be read.
        grace: seconds that requests under way get when the lane is drained.
    """

    def __init__(
        self,
        specs: Sequence[BackendSpec],
        eligible: Sequence[tuple[int, ...]],
        policy: OnlinePolicy,
        panel: Panel,
        pending: PendingWork,
        recorder: ResultRecorder,
        *,
        reasks: Sequence[int],
        grace: float,
    ) -> None:
        super().__init__(grace, self._stop_sending)
        self.name = "online"
        self._panel = panel
        self._pending = pending
        self._recorder = recorder
        self._reasks = reasks
        self._patience = policy.retry.patience
        self._budget = policy.budget
        self._committer = GroupCommitter(panel, recorder)
        self._queue = RequestQueue(eligible, len(specs))
        self._executing = 0
        self._backends = tuple(
            Backend(
                door,
                policy,
                panel,
                self._committer,
                work=partial(self._work, number),
                has_alternative=partial(self._has_alternative, number),
                on_lost=partial(self._on_lost, number),
                on_resumed=partial(self._on_resumed, number),
            )
            for number, door in enumerate(specs)
        )

    @property
    def traffic(self) -> Traffic:
        """What goes over the wire just now."""
        seen = [station.executor.traffic for station in self._backends]
        return Traffic(sum(t.in_flight for t in seen), sum(t.retries for t in seen), sum(t.throttled for t in seen))

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """What goes on at each service."""
        return {station.name: station.snapshot() for station in self._backends}

    @property
    def in_progress(self) -> str:
        """What a drain waits for, in words."""
        return f"waiting for {self.traffic.in_flight} requests under way"

    @property
    def paused(self) -> str | None:
        """Why everybody waits, while no service answers."""
        asked = [station for station in self._backends if station.closed is None]
        if not asked or any(station.is_available for station in asked):
            return None
        return str(asked[0].outage.last_error)

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""
        return "draining" if self.draining else "paused" if self.paused is not None else "running"

    async def run(self) -> None:
        """Ask until nothing is left; raises RunStopped where the lane was ended before that."""
        async with create_task_group() as helpers:
            for station in self._backends:
                helpers.start_soon(station.limiter.run)
            helpers.start_soon(self._committer.run)
            async with create_task_group() as workers:
                self._scope = workers.cancel_scope
                WorkerPool.start(workers, *(station.workers for station in self._backends))
            helpers.cancel_scope.cancel()
        if self._stopped is not None:
            raise self._stopped

    def _stop_sending(self) -> None:
        self._queue.drain()
        for station in self._backends:
            station.drain()
        if self._budget is not None:
            self._budget.drain()

    async def _work(self, number: int) -> bool:
        """One request's life, from the dataset to its row; whether there may be more."""
        station = self._backends[number]
        try:
            looks = station.outage.paused and await self._wait_for_probe(number)
            errand = self._queue.take(number) or await self._next_request(number)
            if errand is None:
                return False
            await self._execute(number, errand, looks)
            await self._recorder.wait_for_capacity()
        except Drained:
            return False
        except DatasetError as error:
            message = f"the dataset can no longer be read: {error}; run the same command again when it can"
            self.drain(RunStopped("dataset", message, exit_code=3))
            return False
        except RunStopped as stop:
            self.drain(stop, grace=0 if stop.reason == "output" else None)
            return False
        return True

    async def _next_request(self, number: int) -> QueuedRequest | None:
        """The next request for a service, fresh from the dataset; None where there is no more."""
        pool = self._queue
        while (errand := pool.take(number)) is None and not pool.exhausted:
            if pool.is_full:
                await pool.wait_for_change()
            elif self._prepare_requests():
                await self._recorder.wait_for_capacity()
            elif not await self._pending.fill() and not self._prepare_requests():
                pool.close()
        return errand

    async def _execute(self, number: int, errand: QueuedRequest, looks: bool) -> None:
        """Go on one errand; on to another service with it where this one cannot end it."""
        station = self._backends[number]
        self._executing += 1
        try:
            await station.executor.execute(errand, looks)
        except Failover:
            self._fail_over(errand)
        except Drained:
            if station.closed is None or self.draining:
                await station.executor.abandon(errand)
                raise
            self._fail_over(errand)
        except RunStopped as stop:
            if self.draining or not self._close_backend(number, stop):
                await station.executor.abandon(errand)
                raise
            self._fail_over(errand)
        finally:
            self._executing -= 1
            if self._is_finished:
                self._wake_all()

    async def _wait_for_probe(self, number: int) -> bool:
        """Wait with empty hands while others can do the work; whether this worker is to see if the outage is over."""
        weather = self._backends[number].outage
        while weather.paused and not self._is_finished and self._is_replaceable(number):
            if await weather.wait_until_up():
                return True
        return False

    def _has_alternative(self, number: int, variant: int) -> bool:
        """Whether another service is there for the requests of a variant."""
        return any(self._backends[other].is_available for other in self._queue.eligible[variant] if other != number)

    def _is_replaceable(self, number: int) -> bool:
        """Whether for everything that a service may be asked another one is there."""
        return all(self._has_alternative(number, variant) for variant in self._variants_of(number))

    def _variants_of(self, number: int) -> Iterator[int]:
        return (variant for variant, way in enumerate(self._queue.eligible) if number in way)

    @property
    def _is_finished(self) -> bool:
        return self._executing == 0 and self._queue.exhausted and self._queue.is_empty

    def _fail_over(self, errand: QueuedRequest) -> None:
        """Have another service go on with it."""
        errand.reset_failures()
        self._queue.requeue(errand)
        for other in self._queue.eligible[errand.request.variant]:
            if self._backends[other].closed is None:
                self._backends[other].workers.resume()

    def _close_backend(self, number: int, stop: RunStopped) -> bool:
        """Ask a service no more, if others can do all that it does; whether they can."""
        station, asked = self._backends[number], [s.closed is None for s in self._backends]
        if stop.reason not in BACKEND_STOP_REASONS:
            return False
        for variant in self._variants_of(number):
            if not any(asked[other] for other in self._queue.eligible[variant] if other != number):
                return False
        if station.closed is None:
            log.warning("the service '%s' is asked no more, others go on: %s", station.name, stop)
            station.close(str(stop))
        return True

    def _on_resumed(self, number: int) -> None:
        """A service answers again: it takes what waits at others that do not."""
        self._backends[number].limiter.resume()
        self._wake_all()

    def _wake_all(self) -> None:
        for station in self._backends:
            station.outage.wake_waiters()

    def _on_lost(self, number: int, error: Transient) -> None:
        if self._is_replaceable(number):
            log.warning("the service '%s' still does not answer, others go on: %s", self._backends[number].name, error)
            return
        message = (
            f"no answer for {self._patience:g} s (online.retry.patience); the last failure was: {error}. "
            "Run the same command again when the service is back"
        )
        self.drain(RunStopped("outage", message, exit_code=4))

    def _prepare_requests(self) -> bool:
        """Make the next few requests, one after the other while the code for it is warm; whether there was a sample."""
        for made in range(REQUESTS_PER_PREPARATION):
            ticket = self._pending.next_now()
            if ticket is None:
                return made > 0
            sample, variant = ticket
            try:
                request = self._panel.request(sample, variant)
            except BadRow as error:
                custom_id = self._panel.custom_id(sample.ordinal, variant)
                failure = Failure(error.error_type, f"{sample.place}: {error}")
                self._recorder.record(JudgeRequest(sample, variant, custom_id, b"", ""), RequestResult(failure))
            else:
                self._queue.put(QueuedRequest(request, request.body, self._reasks[variant]))
        return True
