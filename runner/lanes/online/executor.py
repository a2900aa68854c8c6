"""The life of one request: wait for a turn, send, read the verdict, ask again where that helps."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

from runner.config import RetryConfig
from runner.core import Drained
from runner.errors import Fatal, RateLimited, Refused, Transient
from runner.judge import Panel
from runner.lanes import Traffic, service_stop
from runner.lanes.online.breaker import Breaker
from runner.lanes.online.group_commit import GroupCommitter, is_unreadable
from runner.lanes.online.outage import OutageDetector, may_be_caused_by_request
from runner.lanes.online.request_queue import HasAlternative, QueuedRequest
from runner.limits import Lease, RequestLimiter
from runner.service import Client, backoff
from runner.types import Failure, JudgeResponse, Outcome, RequestResult


class Failover(Exception):
    """This service does not answer, and another one may."""


class RequestExecutor:
    """Asks requests of one service.

    Attributes:
        traffic: what goes over the wire.

    Args:
        service: its name.
        client: the service.
        panel: knows how to ask again.
        committer: reads the verdicts and writes the rows.
        policy: the YAML's `online.retry`.
        limiter: its limits.
        outage: whether it answers at all.
        breaker: whether it answers often enough.
        suspended: a context in which a worker sleeps and holds no capacity.
        is_tail: whether there is nothing left to ask but what is being asked.
        has_alternative: whether others can ask the requests of a variant.
    """

    def __init__(
        self,
        service: str,
        client: Client,
        panel: Panel,
        committer: GroupCommitter,
        policy: RetryConfig,
        limiter: RequestLimiter,
        outage: OutageDetector,
        breaker: Breaker,
        suspended: Callable[[], AbstractContextManager[None]],
        is_tail: Callable[[], bool],
        has_alternative: HasAlternative,
    ) -> None:
        self.traffic = Traffic()
        self._service = service
        self._client = client
        self._panel = panel
        self._committer = committer
        self._policy = policy
        self._limiter = limiter
        self._outage = outage
        self._breaker = breaker
        self._suspended = suspended
        self._is_tail = is_tail
        self._has_alternative = has_alternative
        self._rng = random.Random()
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """From now on nothing is sent; what is under way may still be answered."""
        self._draining.set()
        self._limiter.drain()
        self._outage.drain()

    async def execute(self, errand: QueuedRequest, looks: bool = False) -> RequestResult:
        """Ask one request until it is answered, refused or out of attempts, and have its row written.

        An answer without a readable verdict is asked again, as often as its judge says; then it stands as it is.
        Raises Diverted where another service should go on with it, Drained where this one asks no more, and RunStopped
        where it can answer no request.

        Args:
            errand: the request, and what it took so far.
            looks: whether it goes out to see if an outage is over.
        """
        request = errand.request
        while True:
            outcome = await self._send_with_retries(errand, looks)
            if isinstance(outcome, Failure):
                return await self.abandon(errand) or await self._committer.submit(
                    request, self._result(errand, outcome), last=True
                )
            errand.usage = errand.usage + outcome.usage
            asked = await self._committer.submit(request, self._result(errand, outcome), last=not errand.reasks_left)
            if not (errand.reasks_left and is_unreadable(asked)):
                return asked
            errand.reasks_left -= 1
            errand.last_result = asked
            errand.body = self._panel.reask_body(errand.body, outcome)
            errand.reset_failures()

    async def abandon(self, errand: QueuedRequest) -> RequestResult | None:
        """Have the row written of a request that is not asked on, if it has an answer at all."""
        if errand.last_result is None:
            return None
        asked = msgspec.structs.replace(errand.last_result, attempts=errand.attempts)
        return await self._committer.submit(errand.request, asked, last=True)

    def _result(self, errand: QueuedRequest, outcome: Outcome) -> RequestResult:
        return RequestResult(
            outcome, None, errand.attempts, errand.usage, errand.latency_s, "online", service=self._service
        )

    async def _send_with_retries(self, errand: QueuedRequest, looks: bool) -> Outcome:
        """Send until the service answers or further attempts are not worth it."""
        while True:
            try:
                return await self._attempt(errand, looks)
            except Refused as error:
                self._outage.on_success()
                self._breaker.on_success()
                return Failure(error.error_type, str(error))
            except Fatal as error:
                raise service_stop(error) from error
            except Transient as error:
                looks = False
                wait = self._delay_after(error, errand)
                if wait is None:
                    return Failure(error.error_type, f"{error} (after {errand.attempts} attempts)")
            await self._sleep(wait)

    async def _attempt(self, errand: QueuedRequest, looks: bool) -> JudgeResponse:
        """Wait for the turn, then send."""
        traffic, gate, weather = self.traffic, self._limiter, self._outage
        held = await self._wait_to_send(errand, looks)
        traffic.in_flight += 1
        errand.attempts += 1
        began = time.perf_counter()
        try:
            response = await self._client.chat(errand.body)
        except BaseException as error:
            gate.on_failure(held, error, weather.paused)
            raise
        finally:
            traffic.in_flight -= 1
            seconds = errand.latency_s = time.perf_counter() - began
        gate.on_success(held, response.usage, seconds)
        weather.on_success()
        self._breaker.on_success()
        return response

    async def _wait_to_send(self, errand: QueuedRequest, looks: bool) -> Lease:
        """Wait for good weather and for all that the limits ask for, which the caller then holds.

        Who waited while the weather turned begins again. Who waits for the weather counts as away: others bring other
        requests to look with, or a few that kill their server would pass for an outage without end.
        """
        weather, gate, variant = self._outage, self._limiter, errand.request.variant
        while True:
            while weather.paused and not looks:
                if self._has_alternative(variant):
                    raise Failover
                with self._suspended():
                    looks = await weather.wait_until_up()
            held = await gate.acquire(variant, errand.body)
            if self._draining.is_set():
                gate.release_unsent(held)
                raise Drained
            if looks or not weather.paused:
                return held
            gate.release_unsent(held)

    def _delay_after(self, error: Transient, errand: QueuedRequest) -> float | None:
        """Note a failure; seconds until the next attempt, or None to give up."""
        weather, traffic = self._outage, self.traffic
        if not (weather.paused or isinstance(error, RateLimited)) and (stop := self._breaker.on_failure(error)):
            raise stop
        weather.on_failure(error)
        errand.failures += 1
        if isinstance(error, RateLimited):
            traffic.throttled += 1
        else:
            errand.counted_failures.append((weather.successes, may_be_caused_by_request(error)))
        wait = backoff(error, errand.failures, self._count_failures(errand), self._policy, self._rng)
        if wait is not None:
            traffic.retries += 1
        return wait

    def _count_failures(self, errand: QueuedRequest) -> int:
        """How many of the failures count as attempts.

        With nothing left to ask, and nobody else to ask it, no success can tell an outage from a request that kills
        its server: then those count that the request may have caused. Others count for nothing before something else
        has succeeded: they may be the beginning of an outage that nobody has noticed yet.
        """
        weather, strikes = self._outage, errand.counted_failures
        alone = self._is_tail() and not self._has_alternative(errand.request.variant)
        if strikes and strikes[0][0] == weather.successes and not any(own for _, own in strikes):
            return 0
        return sum(1 for stamp, own in strikes if (alone and own) or not weather.is_excused(stamp))

    async def _sleep(self, seconds: float) -> None:
        """Sleep outside the slot; raises Drained where the lane ends meanwhile."""
        with self._suspended():
            try:
                await asyncio.wait_for(self._draining.wait(), seconds)
            except TimeoutError:
                return
        raise Drained
