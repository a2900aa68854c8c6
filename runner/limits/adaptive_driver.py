"""The adaptive concurrency at work: tells it what happens, and others how many may be under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.errors import RateLimited, Transient
from runner.limits.adaptive import AdaptiveController


class AdaptiveDriver:
    """Keeps the adaptive concurrency of one service up to date.

    Args:
        controller: learns from what happens.
        on_resize: told of every new limit.
    """

    def __init__(self, controller: AdaptiveController, on_resize: Callable[[int], None]) -> None:
        self._controller = controller
        self._on_resize = on_resize
        self._limit = controller.limit

    def on_success(self, stamp: int, seconds: float) -> None:
        """The request was answered after so many seconds."""
        self._controller.on_success(stamp, seconds, asyncio.get_running_loop().time())
        self._apply_limit()

    def on_failure(self, stamp: int, error: Transient) -> None:
        """The request failed for a cause of the service."""
        if isinstance(error, RateLimited):
            self._controller.on_throttle(stamp, asyncio.get_running_loop().time(), error.retry_after)
        else:
            self._controller.on_failure(stamp)
        self._apply_limit()

    def on_release(self) -> None:
        """The request was not sent, or ended in a way that says nothing about load."""
        self._controller.on_release()

    def resume(self) -> None:
        """The service answers again after an outage."""
        self._controller.resume(asyncio.get_running_loop().time())
        self._apply_limit()

    def _apply_limit(self) -> None:
        if self._controller.limit != self._limit:
            self._limit = self._controller.limit
            self._on_resize(self._limit)
