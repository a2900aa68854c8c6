"""How many at once, and how many a minute.

Requests per minute are permits of aiolimiter. It re-arms a timer for each of its waiters, so only one task ever waits
in it; at high rates that buys permits in blocks worth a few milliseconds. Tokens per minute are `account.py`'s:
aiolimiter knows neither refunds nor debts.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import NamedTuple

from aiolimiter import AsyncLimiter

from runner.core import Drained, cancel_waiters
from runner.limits.adaptive import AdaptiveController
from runner.limits.token_quota import Amounts, QuotaSet

QUOTA_SHARE = 0.999
"""Share of the quota that is used: two clocks never run quite alike."""

PERMIT_BLOCK_SECONDS = 0.005
BURST_SECONDS = 0.020
MAX_BURST_PERMITS = 12
BLOCK_PURCHASE_MIN_RPM = 1200

PERMIT_LIFETIME_SECONDS = 0.010
"""A permit that was not used by then is void: permits must not pile up beside the bucket."""

RECHECK_MIN_SECONDS = 0.005
"""Who waits for tokens is not looked at before this: at high rates several are then let out together."""


class ConcurrencyLimiter:
    """At most `size` requests under way; who waits is let in first come, first served."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._drained = False

    async def acquire(self) -> None:
        """Take a slot; raises Drained when the lane ends meanwhile."""
        if self._drained:
            raise Drained
        if self._in_use < self.size and not self._waiting:
            self._in_use += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back, or on to the next who waits."""
        self._in_use -= 1
        self._admit()

    def resize(self, size: int) -> None:
        """Allow so many from now on; who is in stays in."""
        self.size = size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._in_use < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_use += 1
                turn.set_result(None)

    def drain(self) -> None:
        """Send everybody who waits home and let nobody in any more."""
        self._drained = True
        cancel_waiters(self._waiting)
        self._waiting.clear()


class RateGrant(NamedTuple):
    """When a request was let out, and its stamp where the concurrency adapts."""

    at: float
    stamp: int


class RateLimiter:
    """Lets out one request at a time, when all rates allow it in the same moment; first come, first served.

    What one limit grants is not kept while another one lets wait: it would be out of date when it is used. A cooldown
    would save up permits, and a queue for permits the tokens of another minute.

    Args:
        rpm: requests per minute, or None.
        quotas: tokens per minute, or None.
        adaptive: who says when to send and when to be silent, or None.
    """

    def __init__(
        self, rpm: int | None, quotas: QuotaSet | None = None, adaptive: AdaptiveController | None = None
    ) -> None:
        self._requests, self._block = _request_limiter(rpm)
        self._quotas = quotas
        self._adaptive = adaptive
        self._permits, self._bought_at, self._drained_at = 0, 0.0, 0.0
        self._waiting: deque[tuple[asyncio.Future[RateGrant], Amounts]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._permits_needed = asyncio.Event()
        self._drained = False

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is limited here, so that nobody need come."""
        return self._requests is None and self._quotas is None and self._adaptive is None

    async def acquire(self, amounts: Amounts = ()) -> RateGrant:
        """Wait to be let out, with so many tokens from each account; raises Drained when the lane ends meanwhile."""
        if self._drained:
            raise Drained
        loop = asyncio.get_running_loop()
        if not self._waiting:
            now = loop.time()
            if not self._delay(amounts, now) and self._has_permit(now):
                return self._grant(amounts, now)
        turn: asyncio.Future[RateGrant] = loop.create_future()
        self._waiting.append((turn, amounts))
        if len(self._waiting) == 1:
            self.recheck()
        try:
            return await turn
        except asyncio.CancelledError:
            self._on_cancelled(turn, amounts)
            raise

    def recheck(self) -> None:
        """Let out, from the head on, whoever may go; whoever gives something back has to call this."""
        if not self._waiting:
            return
        waiting, now = self._waiting, asyncio.get_running_loop().time()
        while waiting:
            turn, amounts = waiting[0]
            if not turn.done():
                if wait := self._delay(amounts, now):
                    self._recheck_at(now + wait)
                    return
                if not self._has_permit(now):
                    self._permits_needed.set()
                    return
                turn.set_result(self._grant(amounts, now))
            waiting.popleft()

    async def run(self) -> None:
        """Buy permits when they are short, until cancelled; one task runs this."""
        while True:
            await self._permits_needed.wait()
            if self._requests is not None:
                await self._sleep_until_next(self._requests)
                await self._requests.acquire(self._block)
            self._permits_needed.clear()
            self._permits, self._bought_at = self._block, asyncio.get_running_loop().time()
            self.recheck()

    async def _sleep_until_next(self, requests: AsyncLimiter) -> None:
        """Sleep until the bucket has room for a block; what a sleep is late the following ones are shorter.

        aiolimiter sets its timer to the microsecond. Loops tick in milliseconds and ring early, and it would set it
        anew a hundred times. So when its bucket will have drained is kept here, too.
        """
        loop = asyncio.get_running_loop()
        period = self._block * requests.time_period / requests.max_rate
        missing = self._drained_at + period - requests.time_period - loop.time()
        if missing > 0:
            await asyncio.sleep(math.ceil(1000 * missing) / 1000)
        self._drained_at = max(self._drained_at, loop.time()) + period

    def drain(self) -> None:
        """Send everybody who waits home and let nobody out any more."""
        self._drained = True
        cancel_waiters(turn for turn, _ in self._waiting)
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _delay(self, amounts: Amounts, now: float) -> float:
        """Seconds until the next may go as far as tokens and pace are concerned."""
        wait = 0.0 if self._adaptive is None else self._adaptive.delay(now)
        if self._quotas is not None and (tokens := self._quotas.delay_until(amounts, now)):
            return max(wait, tokens, RECHECK_MIN_SECONDS)
        return wait

    def _has_permit(self, now: float) -> bool:
        if self._requests is None:
            return True
        return self._permits > 0 and now - self._bought_at <= PERMIT_LIFETIME_SECONDS

    def _grant(self, amounts: Amounts, now: float) -> RateGrant:
        self._permits -= 1
        if self._quotas is not None:
            self._quotas.reserve(amounts, now)
        return RateGrant(now, 0 if self._adaptive is None else self._adaptive.on_send(now))

    def _recheck_at(self, at: float) -> None:
        """Have the one timer ring by then."""
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.recheck()

    def _on_cancelled(self, turn: asyncio.Future[RateGrant], amounts: Amounts) -> None:
        """One was cancelled: what it was granted meanwhile, unknown to it, is given back; others move up."""
        if not turn.cancelled() and turn.exception() is None:
            if self._quotas is not None:
                self._quotas.refund(amounts, turn.result().at, asyncio.get_running_loop().time())
            if self._adaptive is not None:
                self._adaptive.on_release()
        self.recheck()


def _request_limiter(rpm: int | None) -> tuple[AsyncLimiter | None, int]:
    """A small bucket, and how many permits to buy from it at a time.

    A fast quota needs room for two: timers are late by up to a millisecond, and a bucket for one loses what ran out
    meanwhile. That burst is taken out of the rate, so that no minute holds more than `rpm`.
    """
    if rpm is None:
        return None, 1
    if rpm < BLOCK_PURCHASE_MIN_RPM:
        return AsyncLimiter(1, 60 / (rpm * QUOTA_SHARE)), 1
    burst = max(2, min(MAX_BURST_PERMITS, int(rpm / 60 * BURST_SECONDS)))
    rate = min(rpm * QUOTA_SHARE, rpm - burst) / 60
    return AsyncLimiter(burst, burst / rate), max(1, min(burst // 2, int(rate * PERMIT_BLOCK_SECONDS)))
