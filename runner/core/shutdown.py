"""The signal that a lane is draining, and waits that the signal interrupts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


class Drained(Exception):
    """The lane is draining: a request that is not in flight yet will not be sent."""


class DrainSignal:
    """Tells the tasks of a lane that the lane is draining, and interrupts their waits."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """True once the lane is draining."""
        return self._event.is_set()

    def set(self) -> None:
        """Start the drain."""
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds; raises Drained as soon as the drain starts, also if it has started before."""
        if self.is_set:
            raise Drained
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise Drained

    async def wait_for(self, awaited: Awaitable[Any]) -> None:
        """Wait for an awaitable or for the drain; raises Drained if the drain has started by then."""
        other, ending = asyncio.ensure_future(awaited), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((other, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
            ending.cancel()
        if self.is_set:
            raise Drained
