"""All limits of one service, acquired and released as one lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from runner.errors import ConnectFailed, Fatal, RateLimited, Refused, ServiceError, StaleConnection, Transient
from runner.limits.adaptive import AdaptiveController
from runner.limits.adaptive_driver import AdaptiveDriver
from runner.limits.budget import BudgetQueue
from runner.limits.cost import Reservation
from runner.limits.rate_limiter import ConcurrencyLimiter, RateGrant, RateLimiter
from runner.limits.token_quota import TokenQuota, TokenReservation
from runner.types import Usage


class Lease:
    """What one request holds of the limits, as an async context manager: `async with limiter.acquire(...) as lease`.

    Entering waits for the turn. The block calls `sent` right before the request goes out and `answered` with the
    answer. Leaving the block releases everything: a request that was not sent costs nothing, and one that was sent and
    not answered failed with the exception that leaves the block.

    Attributes:
        tokens: what is reserved of the token quota, or None.
        grant: the turn that the rate limiter granted, or None.
        reservation: what is reserved of the budget, or None.
    """

    __slots__ = ("_body", "_is_released", "_is_sent", "_limiter", "_variant", "grant", "reservation", "tokens")

    def __init__(self, limiter: RequestLimiter, variant: int, body: bytes) -> None:
        self.tokens: TokenReservation | None = None
        self.grant: RateGrant | None = None
        self.reservation: Reservation | None = None
        self._limiter = limiter
        self._variant = variant
        self._body = body
        self._is_sent = self._is_released = False

    async def __aenter__(self) -> Self:
        """Wait for the turn; raises Drained when the lane is drained, RunStopped if the budget is spent."""
        await self._limiter._acquire(self, self._variant, self._body)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_released:
            return
        self._is_released = True
        if self._is_sent and error is not None:
            self._limiter._on_failure(self, error)
        else:
            self._limiter._release_unsent(self)

    def sent(self) -> None:
        """Note that the request goes out now: from here on the service may count it."""
        self._is_sent = True

    def answered(self, usage: Usage, seconds: float) -> None:
        """Release with what the service counted, and how many seconds it took to answer."""
        self._is_released = True
        self._limiter._on_success(self, usage, seconds)


class RequestLimiter:
    """The limits of one service.

    Args:
        concurrency: requests in flight at once, or the controller that learns how many.
        rpm: requests per minute, or None.
        tokens: tokens per minute, or None.
        budget: of the run, or None.
        on_resize: called with the new limit on requests in flight when it changes.
        in_outage: returns True while the service is down: failures then say nothing about load.
    """

    def __init__(
        self,
        concurrency: int | AdaptiveController,
        rpm: int | None,
        tokens: TokenQuota | None,
        budget: BudgetQueue | None,
        on_resize: Callable[[int], None],
        in_outage: Callable[[], bool] = lambda: False,
    ) -> None:
        adaptive = None if isinstance(concurrency, int) else concurrency
        self._concurrency = ConcurrencyLimiter(concurrency if isinstance(concurrency, int) else concurrency.limit)
        self._rate = RateLimiter(rpm, None if tokens is None else tokens.quotas, adaptive)
        self._tokens = tokens
        self._driver = None if adaptive is None else AdaptiveDriver(adaptive, self._resize)
        self._budget = budget
        self._on_resize = on_resize
        self._in_outage = in_outage

    @property
    def size(self) -> int:
        """The limit on requests in flight."""
        return self._concurrency.size

    async def run(self) -> None:
        """Buy permits, until cancelled; exactly one task runs this."""
        await self._rate.run()

    def acquire(self, variant: int, body: bytes) -> Lease:
        """Return the lease for one request of a variant; entering it waits for the turn."""
        return Lease(self, variant, body)

    def resume(self) -> None:
        """Restart the adaptive control after an outage."""
        if self._driver is not None:
            self._driver.resume()

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._concurrency.drain()
        self._rate.drain()

    async def _acquire(self, lease: Lease, variant: int, body: bytes) -> None:
        await self._concurrency.acquire()
        try:
            if self._budget is not None:
                lease.reservation = await self._budget.acquire(variant, body)
            if self._tokens is not None:
                lease.tokens = self._tokens.reserve(variant, body)
            if not self._rate.is_unlimited:
                lease.grant = await self._rate.acquire(() if lease.tokens is None else lease.tokens.amounts)
        except BaseException:
            self._release_unsent(lease)
            raise

    def _on_success(self, lease: Lease, usage: Usage, seconds: float) -> None:
        grant = lease.grant
        if grant is not None and self._driver is not None:
            self._driver.on_success(grant.stamp, seconds)
        self._correct_tokens(lease, usage)
        if lease.reservation is not None and self._budget is not None:
            self._budget.correct(lease.reservation, usage)
        self._concurrency.release()

    def _on_failure(self, lease: Lease, error: BaseException) -> None:
        """Release a request that was sent and not answered.

        Tokens go back to the quota only if the service certainly counted none. After a timeout or a broken connection
        it may have counted them.
        """
        usage = error.usage if isinstance(error, ServiceError) else None
        self._notify_driver(lease, error)
        if usage is not None:
            self._correct_tokens(lease, usage)
        elif isinstance(error, RateLimited | ConnectFailed | Refused | Fatal):
            self._refund_tokens(lease)
        if lease.reservation is not None and self._budget is not None:
            if isinstance(error, RateLimited | ConnectFailed) and usage is None:
                self._budget.refund(lease.reservation, requests_too=isinstance(error, ConnectFailed))
            else:
                self._budget.correct(lease.reservation, usage or Usage())
        self._concurrency.release()

    def _release_unsent(self, lease: Lease) -> None:
        self._notify_driver(lease, None)
        self._refund_tokens(lease)
        if lease.reservation is not None and self._budget is not None:
            self._budget.refund(lease.reservation, requests_too=True)
        self._concurrency.release()

    def _notify_driver(self, lease: Lease, error: BaseException | None) -> None:
        if lease.grant is None or self._driver is None:
            return
        if not isinstance(error, Transient) or isinstance(error, StaleConnection) or self._in_outage():
            self._driver.on_release()
        else:
            self._driver.on_failure(lease.grant.stamp, error)

    def _correct_tokens(self, lease: Lease, usage: Usage) -> None:
        if lease.grant is not None and lease.tokens is not None and self._tokens is not None:
            self._tokens.correct(lease.tokens, usage, lease.grant.at, asyncio.get_running_loop().time())
            self._rate.recheck()

    def _refund_tokens(self, lease: Lease) -> None:
        if lease.grant is not None and lease.tokens is not None and self._tokens is not None:
            self._tokens.refund(lease.tokens, lease.grant.at, asyncio.get_running_loop().time())
            self._rate.recheck()

    def _resize(self, size: int) -> None:
        self._concurrency.resize(size)
        self._on_resize(size)
