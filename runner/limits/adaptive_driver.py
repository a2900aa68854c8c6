"""Connects the adaptive controller to the event loop's clock and to the concurrency limiter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.errors import RateLimited, Transient
from runner.limits.adaptive import AdaptiveController


class AdaptiveDriver:
    """Reports what happens to one controller, and its new limits to others.

    Args:
        controller: learns from what happens.
        on_resize: called with every new limit.
    """

    def __init__(self, controller: AdaptiveController, on_resize: Callable[[int], None]) -> None:
        self._controller = controller
        self._on_resize = on_resize
        self._limit = controller.limit

    def on_success(self, stamp: int, seconds: float) -> None:
        """Note that a request was answered after this many seconds."""
        self._controller.on_success(stamp, seconds, asyncio.get_running_loop().time())
        self._apply_limit()

    def on_failure(self, stamp: int, error: Transient) -> None:
        """Note that a request failed, and that the service is to blame for it."""
        if isinstance(error, RateLimited):
            self._controller.on_throttle(stamp, asyncio.get_running_loop().time(), error.retry_after)
        else:
            self._controller.on_failure(stamp)
        self._apply_limit()

    def on_release(self) -> None:
        """Note that a request was not sent, or ended in a way that says nothing about load."""
        self._controller.on_release()

    def resume(self) -> None:
        """Restart after an outage."""
        self._controller.resume(asyncio.get_running_loop().time())
        self._apply_limit()

    def _apply_limit(self) -> None:
        if self._controller.limit != self._limit:
            self._limit = self._controller.limit
            self._on_resize(self._limit)
