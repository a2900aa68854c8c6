"""The adaptive concurrency at work: tells it what happens, and others how many may be under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.errors import RateLimited, Transient
from runner.limits.adaptive import AdaptiveController


class AdaptiveDriver:
    """Keeps the adaptive concurrency of one service up to date.

    Args:
        adaptive: learns from what happens.
        resize: told of every new limit.
    """

    def __init__(self, adaptive: AdaptiveController, resize: Callable[[int], None]) -> None:
        self._adaptive = adaptive
        self._resize = resize
        self._limit = adaptive.limit

    def succeeded(self, stamp: int, seconds: float) -> None:
        """The request was answered after so many seconds."""
        self._adaptive.succeeded(stamp, seconds, asyncio.get_running_loop().time())
        self._follow()

    def failed(self, stamp: int, error: Transient) -> None:
        """The request failed for a cause of the service."""
        if isinstance(error, RateLimited):
            self._adaptive.throttled(stamp, asyncio.get_running_loop().time(), error.retry_after)
        else:
            self._adaptive.failed(stamp)
        self._follow()

    def left(self) -> None:
        """The request was not sent, or ended in a way that says nothing about load."""
        self._adaptive.left()

    def resume(self) -> None:
        """The service answers again after an outage."""
        self._adaptive.resume(asyncio.get_running_loop().time())
        self._follow()

    def _follow(self) -> None:
        if self._adaptive.limit != self._limit:
            self._limit = self._adaptive.limit
            self._resize(self._limit)
