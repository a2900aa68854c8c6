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

    paid: TokenReservation | None = None
    granted: RateGrant | None = None
    reserved: Reservation | None = None


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
        self._slots = ConcurrencyLimiter(concurrency if isinstance(concurrency, int) else concurrency.limit)
        self._turnstile = RateLimiter(rpm, None if tokens is None else tokens.accounts, adaptive)
        self._tokens = tokens
        self._governor = None if adaptive is None else AdaptiveDriver(adaptive, self._resize)
        self._budget = budget
        self._on_resize = on_resize

    @property
    def size(self) -> int:
        """How many may be under way."""
        return self._slots.size

    async def serve(self) -> None:
        """Hand out permits, until cancelled; one task runs this."""
        await self._turnstile.serve()

    async def enter(self, variant: int, body: bytes) -> Lease:
        """Wait until one more may be sent; raises Drained when the lane ends, RunStopped where the budget is spent."""
        await self._slots.enter()
        held = Lease()
        try:
            if self._budget is not None:
                held.reserved = await self._budget.enter(variant, body)
            if self._tokens is not None:
                held.paid = self._tokens.expect(variant, body)
            if not self._turnstile.open:
                held.granted = await self._turnstile.enter(() if held.paid is None else held.paid.amounts)
        except BaseException:
            self.back(held)
            raise
        return held

    def answered(self, held: Lease, usage: Usage, seconds: float) -> None:
        """The request was answered after so many seconds."""
        granted = held.granted
        if granted is not None and self._governor is not None:
            self._governor.succeeded(granted.stamp, seconds)
        if granted is not None and held.paid is not None and self._tokens is not None:
            self._tokens.settle(held.paid, usage, granted.at, asyncio.get_running_loop().time())
            self._turnstile.look()
        if held.reserved is not None and self._budget is not None:
            self._budget.settle(held.reserved, usage)
        self._slots.leave()

    def failed(self, held: Lease, error: BaseException, in_outage: bool) -> None:
        """The request was sent and got no answer.

        Tokens of the quota are given back where the service counted none for sure. After a time-out or a broken
        connection it may have. An outage says nothing about load.
        """
        self._leave(held, error if isinstance(error, Transient) and not in_outage else None)
        if isinstance(error, RateLimited | ConnectFailed | Refused):
            self._refund(held)
        if held.reserved is not None and self._budget is not None:
            if isinstance(error, RateLimited | ConnectFailed):
                self._budget.refund(held.reserved, requests_too=isinstance(error, ConnectFailed))
            else:
                self._budget.settle(held.reserved, Usage())
        self._slots.leave()

    def back(self, held: Lease) -> None:
        """Nothing was sent."""
        self._leave(held, None)
        self._refund(held)
        if held.reserved is not None and self._budget is not None:
            self._budget.refund(held.reserved, requests_too=True)
        self._slots.leave()

    def resume(self) -> None:
        """The service answers again after an outage."""
        if self._governor is not None:
            self._governor.resume()

    def drain(self) -> None:
        """Send everybody who waits home and let nobody in any more."""
        self._slots.drain()
        self._turnstile.drain()

    def _leave(self, held: Lease, error: Transient | None) -> None:
        if held.granted is None or self._governor is None:
            return
        if error is None:
            self._governor.left()
        else:
            self._governor.failed(held.granted.stamp, error)

    def _refund(self, held: Lease) -> None:
        if held.granted is not None and held.paid is not None and self._tokens is not None:
            self._tokens.refund(held.paid, held.granted.at, asyncio.get_running_loop().time())
            self._turnstile.look()

    def _resize(self, size: int) -> None:
        self._slots.resize(size)
        self._on_resize(size)
