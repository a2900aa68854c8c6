"""The online lane over what is left: workers pull samples, ask, and write a row each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from anyio import create_task_group

from runner.core.shutdown import Drained
from runner.errors import BadRow, DatasetError, RunStopped, Transient
from runner.judge import Panel
from runner.lanes.base import StoppableLane, Traffic
from runner.lanes.online.backend import Backend, BackendSpec, OnlinePolicy
from runner.lanes.online.executor import Failover
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.request_queue import QueuedRequest, RequestQueue
from runner.lanes.online.worker_pool import WorkerPool
from runner.lanes.pending import PendingWork
from runner.results.recorder import ResultRecorder
from runner.types import Failure, JudgeRequest, RequestResult

log = logging.getLogger(__name__)

READY = 16
"""So many requests are made at a time."""

OWN_TROUBLE = frozenset({"authentication", "quota", "address", "breaker"})
"""Why one service can answer nothing, though others may."""


class OnlineLane(StoppableLane):
    """Asks every remaining request of a service that may be asked.

    Where several may, each takes the next request when it has room: in turn while they are alike, fewer where one is
    slower, none where it does not answer. What one could not answer goes to another.

    Args:
        doors: the services.
        ways: for each variant, which of them may ask it.
        manner: how they are asked.
        panel: makes requests and reads verdicts.
        remaining: what is left to ask.
        recorder: takes the rows.
        reasks: for each variant, how often it is asked again when its verdict cannot be read.
        grace: seconds that requests under way get when the lane is drained.
    """

    def __init__(
        self,
        doors: Sequence[BackendSpec],
        ways: Sequence[tuple[int, ...]],
        manner: OnlinePolicy,
        panel: Panel,
        remaining: PendingWork,
        recorder: ResultRecorder,
        *,
        reasks: Sequence[int],
        grace: float,
    ) -> None:
        super().__init__(grace, self._end)
        self.name = "online"
        self._panel = panel
        self._remaining = remaining
        self._recorder = recorder
        self._reasks = reasks
        self._patience = manner.retry.patience
        self._budget = manner.budget
        self._desk = GroupCommitter(panel, recorder)
        self._pool = RequestQueue(ways, len(doors))
        self._held = 0
        self._stations = tuple(
            Backend(
                door,
                manner,
                panel,
                self._desk,
                work=partial(self._work, number),
                elsewhere=partial(self._elsewhere, number),
                on_lost=partial(self._lost, number),
                on_resumed=partial(self._resumed, number),
            )
            for number, door in enumerate(doors)
        )

    @property
    def traffic(self) -> Traffic:
        """What goes over the wire just now."""
        seen = [station.asker.traffic for station in self._stations]
        return Traffic(sum(t.in_flight for t in seen), sum(t.retries for t in seen), sum(t.throttled for t in seen))

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """What goes on at each service."""
        return {station.name: station.seen() for station in self._stations}

    @property
    def under_way(self) -> str:
        """What a drain waits for, in words."""
        return f"waiting for {self.traffic.in_flight} requests under way"

    @property
    def paused(self) -> str | None:
        """Why everybody waits, while no service answers."""
        asked = [station for station in self._stations if station.closed is None]
        if not asked or any(station.open for station in asked):
            return None
        return str(asked[0].weather.last_error)

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""
        return "draining" if self.draining else "paused" if self.paused is not None else "running"

    async def run(self) -> None:
        """Ask until nothing is left; raises RunStopped where the lane was ended before that."""
        async with create_task_group() as helpers:
            for station in self._stations:
                helpers.start_soon(station.gate.serve)
            helpers.start_soon(self._desk.serve)
            async with create_task_group() as workers:
                self._scope = workers.cancel_scope
                WorkerPool.start(workers, *(station.crew for station in self._stations))
            helpers.cancel_scope.cancel()
        if self._stopped is not None:
            raise self._stopped

    def _end(self) -> None:
        self._pool.drain()
        for station in self._stations:
            station.drain()
        if self._budget is not None:
            self._budget.drain()

    async def _work(self, number: int) -> bool:
        """One request's life, from the dataset to its row; whether there may be more."""
        station = self._stations[number]
        try:
            looks = station.weather.paused and await self._wait_for_fair_weather(number)
            errand = self._pool.take(number) or await self._next(number)
            if errand is None:
                return False
            await self._judge(number, errand, looks)
            await self._recorder.room()
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

    async def _next(self, number: int) -> QueuedRequest | None:
        """The next request for a service, fresh from the dataset; None where there is no more."""
        pool = self._pool
        while (errand := pool.take(number)) is None and not pool.exhausted:
            if pool.crowded:
                await pool.change()
            elif self._make_ready():
                await self._recorder.room()
            elif not await self._remaining.refill() and not self._make_ready():
                pool.end()
        return errand

    async def _judge(self, number: int, errand: QueuedRequest, looks: bool) -> None:
        """Go on one errand; on to another service with it where this one cannot end it."""
        station = self._stations[number]
        self._held += 1
        try:
            await station.asker.judge(errand, looks)
        except Failover:
            self._hand_over(errand)
        except Drained:
            if station.closed is None or self.draining:
                await station.asker.give_up(errand)
                raise
            self._hand_over(errand)
        except RunStopped as stop:
            if self.draining or not self._close(number, stop):
                await station.asker.give_up(errand)
                raise
            self._hand_over(errand)
        finally:
            self._held -= 1
            if self._over:
                self._rouse()

    async def _wait_for_fair_weather(self, number: int) -> bool:
        """Wait with empty hands while others can do the work; whether this worker is to see if the outage is over."""
        weather = self._stations[number].weather
        while weather.paused and not self._over and self._is_stood_in_for(number):
            if await weather.gate():
                return True
        return False

    def _elsewhere(self, number: int, variant: int) -> bool:
        """Whether another service is there for the requests of a variant."""
        return any(self._stations[other].open for other in self._pool.ways[variant] if other != number)

    def _is_stood_in_for(self, number: int) -> bool:
        """Whether for everything that a service may be asked another one is there."""
        return all(self._elsewhere(number, variant) for variant in self._variants_of(number))

    def _variants_of(self, number: int) -> Iterator[int]:
        return (variant for variant, way in enumerate(self._pool.ways) if number in way)

    @property
    def _over(self) -> bool:
        return self._held == 0 and self._pool.exhausted and self._pool.empty

    def _hand_over(self, errand: QueuedRequest) -> None:
        """Have another service go on with it."""
        errand.afresh()
        self._pool.put_back(errand)
        for other in self._pool.ways[errand.request.variant]:
            if self._stations[other].closed is None:
                self._stations[other].crew.go_on()

    def _close(self, number: int, stop: RunStopped) -> bool:
        """Ask a service no more, if others can do all that it does; whether they can."""
        station, asked = self._stations[number], [s.closed is None for s in self._stations]
        if stop.reason not in OWN_TROUBLE:
            return False
        for variant in self._variants_of(number):
            if not any(asked[other] for other in self._pool.ways[variant] if other != number):
                return False
        if station.closed is None:
            log.warning("the service '%s' is asked no more, others go on: %s", station.name, stop)
            station.close(str(stop))
        return True

    def _resumed(self, number: int) -> None:
        """A service answers again: it takes what waits at others that do not."""
        self._stations[number].gate.resume()
        self._rouse()

    def _rouse(self) -> None:
        for station in self._stations:
            station.weather.rouse()

    def _lost(self, number: int, error: Transient) -> None:
        if self._is_stood_in_for(number):
            log.warning("the service '%s' still does not answer, others go on: %s", self._stations[number].name, error)
            return
        message = (
            f"no answer for {self._patience:g} s (online.retry.patience); the last failure was: {error}. "
            "Run the same command again when the service is back"
        )
        self.drain(RunStopped("outage", message, exit_code=4))

    def _make_ready(self) -> bool:
        """Make the next few requests, one after the other while the code for it is warm; whether there was a sample."""
        for made in range(READY):
            ticket = self._remaining.take()
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
                self._pool.put(QueuedRequest(request, request.body, self._reasks[variant]))
        return True
