"""The online lane over what is left: workers pull samples, ask, and write a row each."""

from __future__ import annotations

from collections import deque

from anyio import create_task_group

from runner.client import Client
from runner.config import RetryConfig
from runner.errors import BadRow, DatasetError, RunStopped, Transient
from runner.judge import Panel
from runner.lane import Drained, Endable, Traffic
from runner.online.account import Tokens
from runner.online.adaptive import Adaptive
from runner.online.ask import Asker
from runner.online.crew import Crew
from runner.online.desk import Desk
from runner.online.governor import Governor
from runner.online.limits import Slots, Turnstile
from runner.online.weather import Weather
from runner.remaining import Remaining
from runner.results.recorder import Recorder
from runner.results.schema import Asked
from runner.types import Failure, JudgeRequest

READY = 16
"""So many requests are made at a time."""


class OnlineLane(Endable):
    """Asks every remaining request of one service.

    Args:
        client: the service.
        panel: makes requests and reads verdicts.
        remaining: what is left to ask.
        recorder: takes the rows.
        policy: the YAML's `online.retry`.
        reasks: for each variant, how often it is asked again when its verdict cannot be read.
        concurrency: requests under way at once, or what learns how many.
        rpm: requests per minute, or None.
        tokens: tokens per minute, or None.
        grace: seconds that requests under way get when the lane is drained.
    """

    def __init__(
        self,
        client: Client,
        panel: Panel,
        remaining: Remaining,
        recorder: Recorder,
        *,
        policy: RetryConfig,
        reasks: tuple[int, ...],
        concurrency: int | Adaptive,
        rpm: int | None,
        tokens: Tokens | None,
        grace: float,
    ) -> None:
        super().__init__(grace, self._end)
        self.name = "online"
        self._panel = panel
        self._remaining = remaining
        self._recorder = recorder
        self._patience = policy.patience
        self._turnstile = Turnstile(rpm)
        size = concurrency if isinstance(concurrency, int) else concurrency.limit
        self._slots = Slots(size)
        self._crew = Crew(size, self._work)
        self._governor = None if isinstance(concurrency, int) else Governor(concurrency, self._resize)
        self._weather = Weather(policy.patience, self._lost, self._resumed)
        self._desk = Desk(panel, recorder)
        self._ready: deque[JudgeRequest] = deque()
        self._asker = Asker(
            client,
            panel,
            self._desk,
            reasks,
            policy,
            self._slots,
            self._turnstile,
            tokens,
            self._governor,
            self._weather,
            self._crew.away,
            lambda: self._crew.finished,
        )

    @property
    def traffic(self) -> Traffic:
        """What goes over the wire just now."""
        return self._asker.traffic

    @property
    def under_way(self) -> str:
        """What a drain waits for, in words."""
        return f"waiting for {self.traffic.in_flight} requests under way"

    @property
    def paused(self) -> str | None:
        """Why everybody waits, while the service does not answer."""
        return str(self._weather.last_error) if self._weather.paused else None

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""
        return "draining" if self.draining else "paused" if self._weather.paused else "running"

    async def run(self) -> None:
        """Ask until nothing is left; raises RunStopped where the lane was ended before that."""
        async with create_task_group() as helpers:
            helpers.start_soon(self._turnstile.serve)
            helpers.start_soon(self._desk.serve)
            async with create_task_group() as workers:
                self._scope = workers.cancel_scope
                self._crew.start(workers)
            helpers.cancel_scope.cancel()
        if self._stopped is not None:
            raise self._stopped

    def _end(self) -> None:
        self._crew.stop()
        self._asker.drain()

    def _resize(self, size: int) -> None:
        self._slots.resize(size)
        self._crew.resize(size)

    def _resumed(self) -> None:
        if self._governor is not None:
            self._governor.resume()

    def _lost(self, error: Transient) -> None:
        message = (
            f"no answer for {self._patience:g} s (online.retry.patience); the last failure was: {error}. "
            "Run the same command again when the service is back"
        )
        self.drain(RunStopped("outage", message, exit_code=4))

    async def _work(self) -> bool:
        """One request's life, from the dataset to its row; whether there may be more."""
        try:
            if not self._ready and not self._make_ready():
                return await self._remaining.refill() or bool(self._ready)
            if self._ready:
                await self._asker.judge(self._ready.popleft())
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

    def _make_ready(self) -> bool:
        """Make the next few requests, one after the other while the code for it is warm; whether there was a sample."""
        for made in range(READY):
            ticket = self._remaining.take()
            if ticket is None:
                return made > 0
            sample, variant = ticket
            try:
                self._ready.append(self._panel.request(sample, variant))
            except BadRow as error:
                custom_id = self._panel.custom_id(sample.ordinal, variant)
                failure = Failure(error.error_type, f"{sample.place}: {error}")
                self._recorder.record(JudgeRequest(sample, variant, custom_id, b"", ""), Asked(failure))
        return True
