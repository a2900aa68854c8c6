"""When batches are looked at: all at the same moments, so that a hundred of them are no hundred timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class PollTimer:
    """The moments themselves, which come ever more slowly while nothing happens.

    Args:
        first, ceiling: seconds between two looks, at the beginning and at most.
        jitter: gives a number from 0 to 1.
    """

    GROWTH = 1.5

    def __init__(self, first: float, ceiling: float, jitter: Callable[[], float]) -> None:
        self._first = min(first, ceiling)
        self._ceiling = ceiling
        self._jitter = jitter
        self._wait = self._first
        self._next: asyncio.Future[None] | None = None

    def reset(self) -> None:
        """Look often again: a batch was created, or one has ended."""
        self._wait = self._first

    async def wait(self) -> None:
        """Wait for the next look."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            seconds = self._wait * (0.75 + 0.5 * self._jitter())
            self._wait = min(self._ceiling, self._wait * self.GROWTH)
            asyncio.get_running_loop().call_later(min(seconds, self._ceiling), self._on_timer)
        await asyncio.shield(self._next)

    def _on_timer(self) -> None:
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
