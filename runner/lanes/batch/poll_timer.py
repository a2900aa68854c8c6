"""The poll interval, with backoff. All batches are polled at the same moments, so that 100 batches need one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class PollTimer:
    """Wakes all waiters at each poll; the interval grows until something changes.

    Args:
        first: seconds until the first poll, before jitter.
        ceiling: the longest interval, in seconds.
        jitter: returns a number from 0 to 1, which scales an interval by 0.75 to 1.25.
    """

    GROWTH = 1.5  # each interval is this many times the one before

    def __init__(self, first: float, ceiling: float, jitter: Callable[[], float]) -> None:
        self._first = min(first, ceiling)
        self._ceiling = ceiling
        self._jitter = jitter
        self._interval = self._first
        self._next: asyncio.Future[None] | None = None

    def reset(self) -> None:
        """Poll often again: a batch was created, or one has ended."""
        self._interval = self._first

    async def wait(self) -> None:
        """Wait for the next poll."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            seconds = self._interval * (0.75 + 0.5 * self._jitter())
            self._interval = min(self._ceiling, self._interval * self.GROWTH)
            asyncio.get_running_loop().call_later(min(seconds, self._ceiling), self._on_timer)
        await asyncio.shield(self._next)

    def _on_timer(self) -> None:
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
