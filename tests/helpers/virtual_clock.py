"""An event loop with a virtual clock, which jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_SECONDS = 1000.0
STEP_SECONDS = 1e-7  # each iteration of the loop takes a moment, as on a real clock


class _VirtualSelector(selectors.DefaultSelector):
    """Never blocks. If no event is ready, it advances the clock by the timeout instead of waiting."""

    now = START_SECONDS

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now += STEP_SECONDS
        if not ready and timeout is None:
            raise RuntimeError("deadlock: all tasks are waiting, and no timer is left that could wake one")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour of sleeping takes no real time, for tests without threads and sockets."""

    def __init__(self) -> None:
        self._virtual_selector = _VirtualSelector()
        super().__init__(self._virtual_selector)

    def time(self) -> float:
        return self._virtual_selector.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual clock, and return its result.

    Raises:
        RuntimeError: all tasks are waiting and there is no timer.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    """Return the virtual seconds since the loop was created."""
    return asyncio.get_running_loop().time() - START_SECONDS


async def settle(turns: int = 20) -> None:
    """Yield to the event loop `turns` times, so that every task that needs no timer can proceed."""
    for _ in range(turns):
        await asyncio.sleep(0)
