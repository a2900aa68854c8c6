"""The signal that a lane is ending, and waits that end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any


class Drained(Exception):
    """The lane is ending: a request that is not under way is not sent any more."""


def cancel_waiters(turns: Iterable[asyncio.Future[Any]]) -> None:
    """Raise Drained in everybody who waits for one of these turns."""
    for turn in turns:
        if not turn.done():
            turn.set_exception(Drained())


class DrainSignal:
    """Whether a lane is ending, and waits that end with it."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether the lane is ending."""
        return self._begun.is_set()

    def begin(self) -> None:
        """End the lane."""
        self._begun.set()

    async def rest(self, seconds: float) -> None:
        """Sleep; raises Drained where the lane ends meanwhile."""
        try:
            await asyncio.wait_for(self._begun.wait(), seconds)
        except TimeoutError:
            return
        raise Drained

    async def unless(self, awaited: Awaitable[Any]) -> None:
        """Wait for something; raises Drained where the lane ends before that."""
        other, ending = asyncio.ensure_future(awaited), asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait((other, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
            ending.cancel()
        if self.begun:
            raise Drained
