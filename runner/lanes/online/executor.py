"""Sends one request: waits for its turn, retries, fails over, and sends it again after an unreadable verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import msgspec

from runner.core import Drained
from runner.errors import BadReply, Busy, Fatal, RateLimited, Refused, ServerFault, StaleConnection, Transient
from runner.judge import reask_body
from runner.lanes import RequestedWait, Traffic, service_stop
from runner.lanes.online.backend_spec import BackendSpec, OnlinePolicy
from runner.lanes.online.breaker import Breaker
from runner.lanes.online.group_commit import GroupCommitter, is_unreadable
from runner.lanes.online.outage import OutageDetector, may_be_caused_by_request
from runner.lanes.online.refusals import Held, Refusal, RefusalDetector
from runner.lanes.online.request_queue import HasAlternative, QueuedRequest
from runner.lanes.online.throttling import FullnessWatch, ThrottleWatch
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import Lease, RequestLimiter
from runner.service import backoff
from runner.types import Failure, JudgeResponse, Outcome, RequestResult, Usage

IDLE_SECONDS = 5.0
MAX_DOUBLINGS_WHILE_UP = 1  # of the wait before the next attempt, while the service answers other requests


class Failover(Exception):
    """This service does not answer, and another one may."""


class ServiceHealth(msgspec.Struct, frozen=True):
    """What decides, for one service, whether a failure is the service's or the request's own.

    Attributes:
        outage: detects that the service is down.
        refusals: for each variant, the detector of its judge.
        throttling: finds requests that are larger than the quota.
    """

    outage: OutageDetector
    refusals: Sequence[RefusalDetector]
    throttling: ThrottleWatch


class RequestExecutor:
    """Sends requests to one service.

    Attributes:
        traffic: what is in flight, and what failed.
        requested_wait: the wait that the service has asked for.

    Args:
        spec: the service.
        policy: how requests are sent.
        committer: reads the verdicts and writes the rows.
        limiter: the limits of the service.
        health: tells failures of the service from those of a request.
        workers: the pool that calls `execute`.
        has_alternative: returns True if another available service may serve a variant.
    """

    def __init__(
        self,
        spec: BackendSpec,
        policy: OnlinePolicy,
        committer: GroupCommitter,
        limiter: RequestLimiter,
        health: ServiceHealth,
        workers: WorkerPool,
        has_alternative: HasAlternative,
    ) -> None:
        self.traffic = Traffic()
        self.requested_wait = RequestedWait(f"the service '{spec.name}'", policy.retry.longest_wait)
        self._service = spec.name
        self._client = spec.client
        self._retry = policy.retry
        self._breaker = Breaker(policy.breaker, spec.name)
        fixed_concurrency = spec.concurrency if isinstance(spec.concurrency, int) else None
        self._fullness = FullnessWatch(spec.name, fixed_concurrency, health.throttling)
        self._committer = committer
        self._limiter = limiter
        self._outage = health.outage
        self._refusals = health.refusals
        self._throttling = health.throttling
        self._workers = workers
        self._has_alternative = has_alternative
        self._rng = random.Random()
        self._draining = asyncio.Event()
        self._last_sent_at = time.perf_counter()

    @property
    def is_idle(self) -> bool:
        """True if nothing is in flight, and nothing was sent for some seconds."""
        return self.traffic.in_flight == 0 and time.perf_counter() - self._last_sent_at > IDLE_SECONDS

    def drain(self) -> None:
        """Send nothing more; requests in flight may still be answered."""
        self._draining.set()
        self._limiter.drain()
        self._outage.drain()
        for refusals in self._refusals:
            refusals.drain()

    async def execute(self, queued: QueuedRequest, is_probe: bool = False) -> RequestResult:
        """Send one request until it is answered, refused or out of attempts, and have its row written.

        An answer without a readable verdict is sent again as often as its judge allows; then it is written as it is.
        Raises Failover if another service should take the request, Held if it waits without a worker, Drained if this
        service gets no more requests, and RunStopped if the service can answer none.

        Args:
            queued: the request, and what it has used so far.
            is_probe: True if it is sent during an outage to check whether the service is back.
        """
        request = queued.request
        if queued.refusals:
            await self._sleep(self._retry.base * 2**queued.refusals)
        while True:
            outcome = await self._send_with_retries(queued, is_probe)
            if isinstance(outcome, Failure):
                return await self.abandon(queued) or await self._committer.submit(
                    request, self.result(queued, outcome), last=True
                )
            queued.usage = queued.usage + outcome.usage
            result = await self._committer.submit(request, self.result(queued, outcome), last=not queued.reasks_left)
            if not (queued.reasks_left and is_unreadable(result)):
                return result
            queued.reasks_left -= 1
            queued.last_result = result
            queued.body = reask_body(queued.body, outcome)
            queued.reset_failures()
            queued.throttles = 0

    async def abandon(self, queued: QueuedRequest) -> RequestResult | None:
        """Have the row written of a request that is not sent again, if it has an answer at all."""
        if queued.last_result is None:
            return None
        result = msgspec.structs.replace(queued.last_result, attempts=queued.attempts)
        return await self._committer.submit(queued.request, result, last=True)

    def result(self, queued: QueuedRequest, outcome: Outcome) -> RequestResult:
        """Return an outcome with what all attempts have used."""
        return RequestResult(
            outcome, None, queued.attempts, queued.usage, queued.latency_s, "online", service=self._service
        )

    async def _send_with_retries(self, queued: QueuedRequest, is_probe: bool) -> Outcome:
        """Send until the service answers or further attempts are not worth it.

        A request that found a stale connection goes again at once: the service has not seen it.
        """
        while True:
            try:
                return await self._attempt(queued, is_probe)
            except (Refused, Fatal) as error:
                queued.usage = queued.usage + (error.usage or Usage())
                return self._refuse(queued, error)
            except StaleConnection:
                self._refusals[queued.request.variant].recheck()
                continue
            except Transient as error:
                is_probe = False
                queued.usage = queued.usage + (error.usage or Usage())
                self._on_failure(error, queued)
                if isinstance(error, RateLimited) and (failure := self._give_up_throttled(error, queued)):
                    return failure
                delay = await self._next_delay(error, queued)
                if delay is None:
                    return Failure(error.error_type, f"{error} (after {queued.attempts} attempts)")
            await self._sleep(delay)

    def _refuse(self, queued: QueuedRequest, error: Refusal) -> Failure:
        """Return the failure of a request that is refused for its own reasons.

        Raises RunStopped if the reason is certainly none of its own, and Held if only other requests can tell.
        """
        if isinstance(error, Fatal) and error.is_certain:
            raise service_stop(error) from error
        refusals = self._refusals[queued.request.variant]
        is_own = isinstance(error, Refused) and error.is_own
        if is_own or queued.last_result is not None:  # the second has an answer, which becomes its row
            refusals.recheck()
            return Failure(error.error_type if is_own else "bad_request", str(error))
        if self._draining.is_set():
            raise Drained
        refusals.hold(queued, error, self._outage.last_sent)
        raise Held

    def _give_up_throttled(self, error: RateLimited, queued: QueuedRequest) -> Failure | None:
        """Return the failure of a request that is larger than the quota; raises Held if it is put off until the end."""
        throttling = self._throttling
        if self._has_alternative(queued.request.variant):
            return None
        if (queued.is_last or self._workers.finished) and throttling.is_hopeless(queued):
            self._outage.on_success(0)  # the service is up: others that wait like this one try again
            said = f"all {queued.throttles} tries got a {error.status}, also at the end, while others were answered"
            if isinstance(error, Busy):
                return Failure(error.error_type, f"{error} ({said})")
            return Failure("bad_request", f"{error} ({said}: it seems to be larger than the quota)")
        if throttling.put_off(queued):
            raise Held
        return None

    async def _attempt(self, queued: QueuedRequest, is_probe: bool) -> JudgeResponse:
        """Wait until the service is up and the limits allow it, then send once.

        If an outage begins while the request waits for its turn, the lease goes back and the request waits again. So it
        does if the service seems to refuse every request.
        """
        outage, variant = self._outage, queued.request.variant
        refusals = self._refusals[variant]
        while True:
            if outage.paused and not is_probe:
                is_probe = await self._wait_until_up(variant)
            if refusals.suspected:
                with self._workers.suspended():
                    await refusals.wait_until_cleared()
            async with self._limiter.acquire(variant, queued.body) as lease:
                if self._draining.is_set():
                    raise Drained
                if (is_probe or not outage.paused) and not refusals.suspected:
                    return await self._send(queued, lease)

    async def _wait_until_up(self, variant: int) -> bool:
        """Wait for the end of an outage; returns True if the caller must send the probe.

        The worker counts as suspended meanwhile, so that others bring other requests as probes: a few requests that
        crash their server would otherwise look like an outage without end. Raises Failover.
        """
        while self._outage.paused:
            if self._has_alternative(variant):
                raise Failover
            with self._workers.suspended():
                if await self._outage.wait_until_up():
                    return True
        return False

    async def _send(self, queued: QueuedRequest, lease: Lease) -> JudgeResponse:
        traffic, throttling = self.traffic, self._throttling
        refusals = self._refusals[queued.request.variant]
        number = self._outage.on_send()
        lease.sent()
        traffic.in_flight += 1
        refusals.in_flight += 1
        queued.attempts += 1
        self._last_sent_at = began = time.perf_counter()
        try:
            response = await self._client.chat(queued.body)
        except Refused:
            self._on_answer(number)
            raise
        except Fatal as error:
            if not error.is_certain:
                self._outage.on_success(0)  # something answers: that ends an outage, but proves nothing about others
            raise
        except (RateLimited, ServerFault) as error:
            busy = self._fullness.as_busy(error, queued, number, traffic.in_flight)
            if busy is not None or isinstance(error, RateLimited):
                throttling.on_throttle(queued, time.perf_counter())
            if busy is not None:
                raise busy from None
            raise
        except BadReply as error:
            if _is_broken_answer(error):
                self._outage.on_success(number)
            raise
        except StaleConnection:
            queued.attempts -= 1
            raise
        finally:
            traffic.in_flight -= 1
            refusals.in_flight -= 1
            seconds = queued.latency_s = time.perf_counter() - began
        lease.answered(response.usage, seconds)
        throttling.on_answer(began)
        self._on_answer(number)
        refusals.on_answer(number)
        return response

    def _on_answer(self, number: int) -> None:
        self._outage.on_success(number)
        self._breaker.on_success()

    def _on_failure(self, error: Transient, queued: QueuedRequest) -> None:
        """Note a failure that the service is to blame for; raises RunStopped if the breaker opens."""
        outage, traffic = self._outage, self.traffic
        if not (outage.paused or isinstance(error, RateLimited)) and (stop := self._breaker.on_failure(error)):
            raise stop
        self._refusals[queued.request.variant].recheck()
        self.requested_wait.note(error)
        if not _is_broken_answer(error):
            outage.on_failure(error)
        queued.failures += 1
        if isinstance(error, RateLimited):
            traffic.throttled += not isinstance(error, Busy)
            return
        queued.throttles = 0
        queued.counted_failures.append((outage.last_sent, may_be_caused_by_request(error)))

    async def _next_delay(self, error: Transient, queued: QueuedRequest) -> float | None:
        """Return the seconds until the next attempt, or None if the request is given up.

        A request that would be given up for failures that may be the beginning of an outage waits until that is known.
        """
        while True:
            certain, undecided = self._count_failures(queued)
            # If others were answered after it failed, the service is up, and longer waits would help neither.
            is_up = any(self._outage.counts(last_sent) for last_sent, _ in queued.counted_failures)
            failures = min(queued.failures, MAX_DOUBLINGS_WHILE_UP + 1) if is_up else queued.failures
            delay = backoff(error, failures, certain + undecided, self._retry, self._rng)
            if delay is not None:
                self.traffic.retries += 1
                return delay
            if certain >= self._retry.attempts:
                return None
            with self._workers.suspended():
                await self._outage.wait_for_decision()

    def _count_failures(self, queued: QueuedRequest) -> tuple[int, int]:
        """Return how many of the failures certainly count as attempts, and how many may.

        If no other requests are left, and no other service may take this one, no answer can tell an outage from a
        request that crashes its server: then failures that the request may have caused count, and no others do.
        """
        outage, certain, undecided = self._outage, 0, 0
        is_alone = self._workers.finished and not self._has_alternative(queued.request.variant)
        for last_sent, may_be_own in queued.counted_failures:
            if (is_alone and may_be_own) or outage.counts(last_sent):
                certain += 1
            elif not is_alone and outage.is_undecided(last_sent):
                undecided += 1
        return certain, undecided

    async def _sleep(self, seconds: float) -> None:
        """Sleep without capacity; raises Drained when the lane is drained meanwhile."""
        with self._workers.suspended():
            try:
                await asyncio.wait_for(self._draining.wait(), seconds)
            except TimeoutError:
                return
        raise Drained


def _is_broken_answer(error: Transient) -> bool:
    """Return True if the service worked on the request: it is up, and the fault may be in this one answer."""
    return isinstance(error, BadReply) and error.is_answer
