"""What a request passes before it is sent to one service, and what it gives back when it has come to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from runner.errors import ConnectFailed, RateLimited, Refused, Transient
from runner.limits.adaptive import AdaptiveController
from runner.limits.adaptive_driver import AdaptiveDriver
from runner.limits.budget import BudgetQueue
from runner.limits.cost import Reservation
from runner.limits.rate_limiter import ConcurrencyLimiter, RateGrant, RateLimiter
from runner.limits.token_quota import TokenQuota, TokenReservation
from runner.types import Usage


class Lease(msgspec.Struct, gc=False):
    """What one request holds: tokens of the quota, its grant of all rates together, a share of the budget."""

    tokens: TokenReservation | None = None
    grant: RateGrant | None = None
    reservation: Reservation | None = None


class RequestLimiter:
    """The limits of one service. Every pass that is given out is taken back by one of `answered`, `failed` and `back`.

    Args:
        concurrency: requests under way at once, or what learns how many.
        rpm: requests per minute, or None.
        tokens: tokens per minute, or None.
        budget: of the run, or None.
        on_resize: told how many may be under way, where that changes.
    """

    def __init__(
        self,
        concurrency: int | AdaptiveController,
        rpm: int | None,
        tokens: TokenQuota | None,
        budget: BudgetQueue | None,
        on_resize: Callable[[int], None],
    ) -> None:
        adaptive = None if isinstance(concurrency, int) else concurrency
        self._concurrency = ConcurrencyLimiter(concurrency if isinstance(concurrency, int) else concurrency.limit)
        self._rate = RateLimiter(rpm, None if tokens is None else tokens.quotas, adaptive)
        self._tokens = tokens
        self._driver = None if adaptive is None else AdaptiveDriver(adaptive, self._resize)
        self._budget = budget
        self._on_resize = on_resize

    @property
    def size(self) -> int:
        """How many may be under way."""
        return self._concurrency.size

    async def run(self) -> None:
        """Hand out permits, until cancelled; one task runs this."""
        await self._rate.run()

    async def acquire(self, variant: int, body: bytes) -> Lease:
        """Wait until one more may be sent; raises Drained when the lane ends, RunStopped where the budget is spent."""
        await self._concurrency.acquire()
        held = Lease()
        try:
            if self._budget is not None:
                held.reservation = await self._budget.acquire(variant, body)
            if self._tokens is not None:
                held.tokens = self._tokens.reserve(variant, body)
            if not self._rate.is_unlimited:
                held.grant = await self._rate.acquire(() if held.tokens is None else held.tokens.amounts)
        except BaseException:
            self.release_unsent(held)
            raise
        return held

    def on_success(self, held: Lease, usage: Usage, seconds: float) -> None:
        """The request was answered after so many seconds."""
        granted = held.grant
        if granted is not None and self._driver is not None:
            self._driver.on_success(granted.stamp, seconds)
        if granted is not None and held.tokens is not None and self._tokens is not None:
            self._tokens.correct(held.tokens, usage, granted.at, asyncio.get_running_loop().time())
            self._rate.recheck()
        if held.reservation is not None and self._budget is not None:
            self._budget.correct(held.reservation, usage)
        self._concurrency.release()

    def on_failure(self, held: Lease, error: BaseException, in_outage: bool) -> None:
        """The request was sent and got no answer.

        Tokens of the quota are given back where the service counted none for sure. After a time-out or a broken
        connection it may have. An outage says nothing about load.
        """
        self._leave_driver(held, error if isinstance(error, Transient) and not in_outage else None)
        if isinstance(error, RateLimited | ConnectFailed | Refused):
            self._refund_tokens(held)
        if held.reservation is not None and self._budget is not None:
            if isinstance(error, RateLimited | ConnectFailed):
                self._budget.refund(held.reservation, requests_too=isinstance(error, ConnectFailed))
            else:
                self._budget.correct(held.reservation, Usage())
        self._concurrency.release()

    def release_unsent(self, held: Lease) -> None:
        """Nothing was sent."""
        self._leave_driver(held, None)
        self._refund_tokens(held)
        if held.reservation is not None and self._budget is not None:
            self._budget.refund(held.reservation, requests_too=True)
        self._concurrency.release()

    def resume(self) -> None:
        """The service answers again after an outage."""
        if self._driver is not None:
            self._driver.resume()

    def drain(self) -> None:
        """Send everybody who waits home and let nobody in any more."""
        self._concurrency.drain()
        self._rate.drain()

    def _leave_driver(self, held: Lease, error: Transient | None) -> None:
        if held.grant is None or self._driver is None:
            return
        if error is None:
            self._driver.on_release()
        else:
            self._driver.on_failure(held.grant.stamp, error)

    def _refund_tokens(self, held: Lease) -> None:
        if held.grant is not None and held.tokens is not None and self._tokens is not None:
            self._tokens.refund(held.tokens, held.grant.at, asyncio.get_running_loop().time())
            self._rate.recheck()

    def _resize(self, size: int) -> None:
        self._concurrency.resize(size)
        self._on_resize(size)
