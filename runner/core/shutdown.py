"""The signal that a lane is ending, and waits that end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


class Drained(Exception):
    """The lane is ending: a request that is not under way is not sent any more."""


class DrainSignal:
    """Whether a lane is ending, and waits that end with it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the lane is ending."""
        return self._event.is_set()

    def set(self) -> None:
        """End the lane."""
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep; raises Drained where the lane ends meanwhile."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise Drained

    async def wait_for(self, awaited: Awaitable[Any]) -> None:
        """Wait for something; raises Drained where the lane ends before that."""
        other, ending = asyncio.ensure_future(awaited), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((other, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
            ending.cancel()
        if self.is_set:
            raise Drained
