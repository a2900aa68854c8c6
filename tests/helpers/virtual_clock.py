"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

BEGIN = 1000.0
STEP = 1e-7
"""Each turn of the loop takes a moment, as it does on a real clock."""


class _Jumping(selectors.DefaultSelector):
    """Gives back at once what is ready; where nothing is, moves the clock on by the time it should have waited."""

    now = BEGIN

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now += STEP
        if not ready and timeout is None:
            raise RuntimeError("everybody waits, and no timer is left that could wake anybody")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on which an hour of sleeping takes no time; for tests without threads and sockets."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    """Virtual seconds since the loop was made."""
    return asyncio.get_running_loop().time() - BEGIN


async def settle(turns: int = 20) -> None:
    """Let everything that can go on without a timer go on."""
    for _ in range(turns):
        await asyncio.sleep(0)
