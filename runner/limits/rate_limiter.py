"""A concurrency limiter, and a rate limiter for requests and tokens per minute. Both serve requests in FIFO order.

Requests per minute are permits of aiolimiter. It re-arms a timer for each of its waiters, so only one task waits in it;
at high rates that task buys permits in blocks worth a few milliseconds. Tokens per minute are in `token_quota.py`,
because aiolimiter knows neither refunds nor debts.
"""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

from aiolimiter import AsyncLimiter

from runner.core import WaitQueue
from runner.limits.adaptive import AdaptiveController
from runner.limits.token_quota import Amounts, QuotaSet

# Share of a request quota that is used: the service's clock and ours never run at exactly the same speed.
QUOTA_SHARE = 0.999

PERMIT_BLOCK_SECONDS = 0.005  # how many seconds' worth of permits one purchase brings
BURST_SECONDS = 0.020
MAX_BURST_PERMITS = 12
BLOCK_PURCHASE_MIN_RPM = 1200  # below this rate permits are bought one by one

# A permit that was not used by then is discarded, so that permits do not pile up outside the bucket.
PERMIT_LIFETIME_SECONDS = 0.010

# Shortest delay before the queue is rechecked for tokens; at high rates one recheck then releases several requests.
RECHECK_MIN_SECONDS = 0.005


class ConcurrencyLimiter:
    """At most `size` requests in flight. Waiters are served in FIFO order."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._in_use = 0
        self._queue: WaitQueue[None, bool] = WaitQueue(on_lost=lambda _item, _result: self.release())

    async def acquire(self) -> None:
        """Take a slot; raises Drained when the lane is drained meanwhile."""
        self._queue.check_open()
        if self._in_use < self.size and not self._queue:
            self._in_use += 1
        else:
            await self._queue.wait(None)

    def release(self) -> None:
        """Give a slot back; the next waiter gets it."""
        self._in_use -= 1
        self._admit()

    def resize(self, size: int) -> None:
        """Set the limit. Requests in flight are not affected."""
        self.size = size
        self._admit()

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._queue.close()

    def _admit(self) -> None:
        while self._in_use < self.size and self._queue:
            self._in_use += 1
            self._queue.wake(True)


class RateGrant(NamedTuple):
    """When a request was granted its turn (event loop time, seconds), and its stamp where the concurrency adapts."""

    at: float
    stamp: int


class RateLimiter:
    """Grants requests their turn, one at a time and in FIFO order, when all rates allow it at the same moment.

    A permit from one limit is not held while the request waits for another limit, because it could expire: a cooldown
    would save up permits, and a queue for permits would use the tokens of another minute.

    Args:
        rpm: requests per minute, or None.
        quotas: tokens per minute, or None.
        adaptive: says when to send and when to pause, or None.
    """

    def __init__(
        self, rpm: int | None, quotas: QuotaSet | None = None, adaptive: AdaptiveController | None = None
    ) -> None:
        self._requests, self._block = _request_limiter(rpm)
        self._quotas = quotas
        self._adaptive = adaptive
        self._permits, self._bought_at, self._bucket_empty_at = 0, 0.0, 0.0
        self._queue: WaitQueue[Amounts, RateGrant] = WaitQueue(self.recheck, self._give_back)
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's handle of a timer that is due at once does not know when that is
        self._permits_needed = asyncio.Event()

    @property
    def is_unlimited(self) -> bool:
        """True if nothing is limited here, so that `acquire` need not be called."""
        return self._requests is None and self._quotas is None and self._adaptive is None

    async def acquire(self, amounts: Amounts = ()) -> RateGrant:
        """Wait for a turn, with this many tokens from each quota; raises Drained when the lane is drained meanwhile."""
        self._queue.check_open()
        if not self._queue:
            grant = self._try(amounts, asyncio.get_running_loop().time())
            if grant is not None:
                return grant
        return await self._queue.wait(amounts)

    def recheck(self) -> None:
        """Grant turns from the head of the queue on; whoever gives tokens back has to call this."""
        if not self._queue:
            return
        now = asyncio.get_running_loop().time()
        while self._queue and (grant := self._try(self._queue.head, now)) is not None:
            self._queue.wake(grant)

    async def run(self) -> None:
        """Buy permits when they are needed, until cancelled; exactly one task runs this."""
        while True:
            await self._permits_needed.wait()
            if self._requests is not None:
                await self._sleep_until_block(self._requests)
                await self._requests.acquire(self._block)
            self._permits_needed.clear()
            self._permits, self._bought_at = self._block, asyncio.get_running_loop().time()
            self.recheck()

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._queue.close()
        if self._timer is not None:
            self._timer.cancel()

    def _try(self, amounts: Amounts, now: float) -> RateGrant | None:
        """Grant the first request its turn, or arrange for the next recheck."""
        if delay := self._delay(amounts, now):
            self._recheck_at(now + delay)
            return None
        if not self._has_permit(now):
            self._permits_needed.set()
            return None
        return self._grant(amounts, now)

    def _delay(self, amounts: Amounts, now: float) -> float:
        """Seconds until the token quotas and the send rate allow the next request."""
        delay = 0.0 if self._adaptive is None else self._adaptive.delay(now)
        if self._quotas is not None and (tokens := self._quotas.delay_until(amounts, now)):
            return max(delay, tokens, RECHECK_MIN_SECONDS)
        return delay

    def _has_permit(self, now: float) -> bool:
        if self._requests is None:
            return True
        return self._permits > 0 and now - self._bought_at <= PERMIT_LIFETIME_SECONDS

    def _grant(self, amounts: Amounts, now: float) -> RateGrant:
        self._permits -= 1
        if self._quotas is not None:
            self._quotas.reserve(amounts, now)
        return RateGrant(now, 0 if self._adaptive is None else self._adaptive.on_send(now))

    def _give_back(self, amounts: Amounts, grant: RateGrant) -> None:
        """Return what a request was granted that was cancelled before it knew."""
        if self._quotas is not None:
            self._quotas.refund(amounts, grant.at, asyncio.get_running_loop().time())
        if self._adaptive is not None:
            self._adaptive.on_release()

    def _recheck_at(self, at: float) -> None:
        """Set the one timer, unless it already fires by then."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = asyncio.get_running_loop().call_at(at, self._on_timer), at

    def _on_timer(self) -> None:
        self._timer = None
        self.recheck()

    async def _sleep_until_block(self, requests: AsyncLimiter) -> None:
        """Sleep until the bucket has room for a block. A late wake-up shortens the following sleeps.

        aiolimiter sets its timer to the microsecond, but loops tick in milliseconds and fire early, so it would set the
        timer again a hundred times. This method tracks the bucket's level itself and sleeps whole milliseconds.
        """
        loop = asyncio.get_running_loop()
        period = self._block * requests.time_period / requests.max_rate
        missing = self._bucket_empty_at + period - requests.time_period - loop.time()
        if missing > 0:
            await asyncio.sleep(math.ceil(1000 * missing) / 1000)
        self._bucket_empty_at = max(self._bucket_empty_at, loop.time()) + period


def _request_limiter(rpm: int | None) -> tuple[AsyncLimiter | None, int]:
    """Return a small bucket, and how many permits to buy from it at a time.

    A fast quota needs room for two permits: timers are late by up to a millisecond, and a bucket for one loses what
    accrued meanwhile. The burst is subtracted from the rate, so that no minute holds more than `rpm` requests.
    """
    if rpm is None:
        return None, 1
    if rpm < BLOCK_PURCHASE_MIN_RPM:
        return AsyncLimiter(1, 60 / (rpm * QUOTA_SHARE)), 1
    burst = max(2, min(MAX_BURST_PERMITS, int(rpm / 60 * BURST_SECONDS)))
    rate = min(rpm * QUOTA_SHARE, rpm - burst) / 60
    return AsyncLimiter(burst, burst / rate), max(1, min(burst // 2, int(rate * PERMIT_BLOCK_SECONDS)))
