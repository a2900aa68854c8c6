"""The life of one request: wait for a turn, send, read the verdict, ask again where that helps."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

from runner.client import Client
from runner.config import RetryConfig
from runner.errors import ConnectFailed, Fatal, RateLimited, Refused, RunStopped, Transient
from runner.judge import Panel
from runner.lane import Drained, Traffic, refused
from runner.online.account import Paid, Tokens
from runner.online.desk import Desk, unreadable
from runner.online.governor import Governor
from runner.online.limits import Slots, Turnstile
from runner.online.weather import Weather, may_be_the_rows_fault
from runner.results.schema import Asked
from runner.retry import backoff
from runner.types import Failure, JudgeRequest, JudgeResponse, Outcome, Usage


class Tally(msgspec.Struct):
    """What one request took so far: calls, failures in a row, tokens.

    A strike is a failure that may count: the stamp that may excuse it, and whether the request may be its cause.
    """

    attempts: int = 0
    strikes: list[tuple[int, bool]] = []
    failures: int = 0
    usage: Usage = Usage()
    latency_s: float | None = None


class Asker:
    """Asks requests of one service.

    Args:
        client: the service.
        panel: knows how to ask again.
        desk: reads the verdicts and writes the rows.
        reasks: for each variant, how often it is asked again when its verdict cannot be read.
        policy: the YAML's `online.retry`.
        slots: how many are under way at once.
        turnstile: requests per minute.
        tokens: tokens per minute; None where they are not limited by us.
        governor: how fast and how many at once, where that is learned; None where it is fixed.
        weather: whether the service answers at all.
        away: a context in which a worker sleeps and holds no capacity.
        last_stretch: whether there is nothing left to ask but what is being asked.
    """

    def __init__(
        self,
        client: Client,
        panel: Panel,
        desk: Desk,
        reasks: tuple[int, ...],
        policy: RetryConfig,
        slots: Slots,
        turnstile: Turnstile,
        tokens: Tokens | None,
        governor: Governor | None,
        weather: Weather,
        away: Callable[[], AbstractContextManager[None]],
        last_stretch: Callable[[], bool],
    ) -> None:
        self.traffic = Traffic()
        self._client = client
        self._panel = panel
        self._desk = desk
        self._reasks = reasks
        self._policy = policy
        self._slots = slots
        self._turnstile = turnstile
        self._tokens = tokens
        self._governor = governor
        self._weather = weather
        self._away = away
        self._last_stretch = last_stretch
        self._rng = random.Random()
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """From now on nothing is sent; what is under way may still be answered."""
        self._draining.set()
        self._slots.drain()
        self._turnstile.drain()
        if self._tokens is not None:
            self._tokens.drain()
        if self._governor is not None:
            self._governor.drain()
        self._weather.drain()

    async def judge(self, request: JudgeRequest) -> Asked:
        """Ask one request until it is answered, refused or out of attempts, and have its row written.

        An answer without a readable verdict is asked again, as often as its judge says; then it stands as it is.
        Raises Drained where the lane ends before there is an answer, RunStopped where no request can be answered.
        """
        tally, body, asked = Tally(), request.body, None
        reasks = self._reasks[request.variant]
        while True:
            try:
                outcome = await self._answer(request.variant, body, tally)
            except (Drained, RunStopped):
                if asked is None:
                    raise
                return await self._desk.settle(request, asked, last=True)
            if isinstance(outcome, Failure):
                came = asked or Asked(outcome, None, 0, tally.usage, tally.latency_s, "online")
                came = msgspec.structs.replace(came, attempts=tally.attempts)
                return await self._desk.settle(request, came, last=True)
            tally.usage = tally.usage + outcome.usage
            came = Asked(outcome, None, tally.attempts, tally.usage, tally.latency_s, "online")
            asked = await self._desk.settle(request, came, last=not reasks)
            if not (reasks and unreadable(asked)):
                return asked
            reasks -= 1
            body = self._panel.reask_body(request, outcome)

    async def _answer(self, variant: int, body: bytes, tally: Tally) -> Outcome:
        """Send until the service answers or further attempts are not worth it."""
        tally.strikes, tally.failures = [], 0
        while True:
            try:
                return await self._attempt(variant, body, tally)
            except Refused as error:
                self._weather.answered()
                return Failure(error.error_type, str(error))
            except Fatal as error:
                raise refused(error) from error
            except Transient as error:
                wait = self._after(error, tally)
                if wait is None:
                    return Failure(error.error_type, f"{error} (after {tally.attempts} attempts)")
            await self._rest(wait)

    async def _attempt(self, variant: int, body: bytes, tally: Tally) -> JudgeResponse:
        """Wait for the turn, then send.

        What was reserved of the tokens is given back where the service counted nothing for sure. After a time-out or a
        broken connection it may have.
        """
        traffic, governor, stamp = self.traffic, self._governor, None
        paid = await self._turn(variant, body)
        try:
            if governor is not None:
                stamp = await governor.enter()
            if self._draining.is_set():
                raise Drained
            traffic.in_flight += 1
            tally.attempts += 1
            began = time.perf_counter()
            try:
                response = await self._client.chat(body)
            finally:
                traffic.in_flight -= 1
                tally.latency_s = time.perf_counter() - began
        except BaseException as error:
            self._unanswered(paid, stamp, error)
            raise
        finally:
            self._slots.leave()
        if governor is not None and stamp is not None:
            governor.succeeded(stamp, tally.latency_s)
        if self._tokens is not None and paid is not None:
            self._tokens.settle(paid, response.usage)
        self._weather.answered()
        return response

    async def _turn(self, variant: int, body: bytes) -> Paid | None:
        """Wait for good weather, for a slot, which the caller then holds, for tokens, which it reserves, and a permit.

        Who waited while the weather turned begins again. Who waits for the weather counts as away: others bring other
        requests to look with, or a few that kill their server would pass for an outage without end.
        """
        weather, turnstile, tokens = self._weather, self._turnstile, self._tokens
        while True:
            looks = False
            if weather.paused:
                with self._away():
                    looks = await weather.gate()
            await self._slots.enter()
            paid = None
            try:
                if tokens is not None:
                    paid = await tokens.enter(variant, body)
                if not turnstile.open:
                    await turnstile.enter()
            except BaseException:
                self._give_back(paid)
                self._slots.leave()
                raise
            if looks or not weather.paused:
                return paid
            self._give_back(paid)
            self._slots.leave()

    def _unanswered(self, paid: Paid | None, stamp: int | None, error: BaseException) -> None:
        """Set right what was taken for a request that got no answer."""
        if isinstance(error, Drained | RateLimited | ConnectFailed | Refused):
            self._give_back(paid)
        if self._governor is None or stamp is None:
            return
        if isinstance(error, Transient) and not self._weather.paused:
            self._governor.failed(stamp, error)
        else:
            self._governor.left()

    def _give_back(self, paid: Paid | None) -> None:
        if self._tokens is not None and paid is not None:
            self._tokens.refund(paid)

    def _after(self, error: Transient, tally: Tally) -> float | None:
        """Note a failure; seconds until the next attempt, or None to give up."""
        weather, traffic = self._weather, self.traffic
        weather.failed(error)
        tally.failures += 1
        if isinstance(error, RateLimited):
            traffic.throttled += 1
        else:
            tally.strikes.append((weather.successes, may_be_the_rows_fault(error)))
        wait = backoff(error, tally.failures, self._charged(tally), self._policy, self._rng)
        if wait is not None:
            traffic.retries += 1
        return wait

    def _charged(self, tally: Tally) -> int:
        """How many of the failures count as attempts.

        With nothing left to ask, no success can tell an outage from a request that kills its server: then those
        count that the request may have caused. Others count for nothing before something else has succeeded: they
        may be the beginning of an outage that nobody has noticed yet.
        """
        weather, strikes, alone = self._weather, tally.strikes, self._last_stretch()
        if strikes and strikes[0][0] == weather.successes and not any(own for _, own in strikes):
            return 0
        return sum(1 for stamp, own in strikes if (alone and own) or not weather.excused(stamp))

    async def _rest(self, seconds: float) -> None:
        """Sleep outside the slot; raises Drained where the lane ends meanwhile."""
        with self._away():
            try:
                await asyncio.wait_for(self._draining.wait(), seconds)
            except TimeoutError:
                return
        raise Drained
