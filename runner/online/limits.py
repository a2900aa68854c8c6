"""How many at once, and how many a minute.

Requests per minute: permits bought from aiolimiter by one buyer, handed out first come, first served. Tokens per minute
are `account.py`'s: aiolimiter knows neither refunds nor debts.

aiolimiter re-arms a timer for each of its waiters, so only one task ever waits in it; at high rates it buys permits in
blocks worth a few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aiolimiter import AsyncLimiter

from runner.lane import Drained, send_home

HEADROOM = 0.999
"""Share of the quota that is used: two clocks never run quite alike."""

BLOCK_S = 0.005
BURST_S = 0.020
MAX_BURST = 10
FAST_RPM = 1200


class Slots:
    """At most `size` requests under way; who waits is let in first come, first served."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._drained = False

    async def enter(self) -> None:
        """Take a slot; raises Drained when the lane ends meanwhile."""
        if self._drained:
            raise Drained
        if self._used < self.size and not self._waiting:
            self._used += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give a slot back, or on to the next who waits."""
        self._used -= 1
        self._let_in()

    def resize(self, size: int) -> None:
        """Allow so many from now on; who is in stays in."""
        self.size = size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._used < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._used += 1
                turn.set_result(None)

    def drain(self) -> None:
        """Send everybody who waits home and let nobody in any more."""
        self._drained = True
        send_home(self._waiting)
        self._waiting.clear()


class Turnstile:
    """Lets one request through at a time, as fast as the quota allows.

    Args:
        rpm: requests per minute, or None.
    """

    def __init__(self, rpm: int | None) -> None:
        self._requests, self._block = _request_limiter(rpm)
        self._permits = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._wake = asyncio.Event()
        self._drained = False

    @property
    def open(self) -> bool:
        """Whether nothing is limited here, so that nobody need come."""
        return self._requests is None

    async def enter(self) -> None:
        """Wait for a permit, in the order of arrival; raises Drained when the lane ends meanwhile."""
        if self._drained:
            raise Drained
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._wake.set()
        await turn

    async def serve(self) -> None:
        """Buy permits and hand them out, until cancelled; one task runs this."""
        while True:
            while self._waiting:
                turn = self._waiting[0]
                if not turn.done():
                    await self._pay()
                    if turn.done():
                        self._permits += 1  # cancelled meanwhile: the permit is for the next
                    else:
                        turn.set_result(None)
                if self._waiting:
                    self._waiting.popleft()
            self._wake.clear()
            await self._wake.wait()

    def drain(self) -> None:
        """Send everybody who waits home and let nobody in any more."""
        self._drained = True
        send_home(self._waiting)
        self._waiting.clear()

    async def _pay(self) -> None:
        if self._requests is not None:
            if not self._permits:
                await self._requests.acquire(self._block)
                self._permits = self._block
            self._permits -= 1


def _request_limiter(rpm: int | None) -> tuple[AsyncLimiter | None, int]:
    """A small bucket, and how many permits to buy from it at a time.

    A fast quota needs room for two: timers are late by up to a millisecond, and a bucket for one loses what ran out
    meanwhile. That burst is taken out of the rate, so that no minute holds more than `rpm`.
    """
    if rpm is None:
        return None, 1
    if rpm < FAST_RPM:
        return AsyncLimiter(1, 60 / (rpm * HEADROOM)), 1
    burst = max(2, min(MAX_BURST, int(rpm / 60 * BURST_S)))
    rate = min(rpm * HEADROOM, rpm - burst) / 60
    return AsyncLimiter(burst, burst / rate), max(1, min(burst // 2, int(rate * BLOCK_S)))
