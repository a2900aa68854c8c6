"""The adaptive concurrency at work: tells it what happens, and keeps everybody to what it says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from runner.errors import RateLimited, Transient
from runner.lane import Drained, send_home
from runner.online.adaptive import Adaptive


class Governor:
    """Lets requests out one by one, no faster than the service has shown to bear; first come, first served.

    Args:
        adaptive: learns from what happens.
        resize: told of every new limit.
    """

    def __init__(self, adaptive: Adaptive, resize: Callable[[int], None]) -> None:
        self._adaptive = adaptive
        self._resize = resize
        self._limit = adaptive.limit
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._drained = False

    async def enter(self) -> int:
        """Wait until one more may be sent; returns its stamp. Raises Drained when the lane ends meanwhile.

        Every stamp is given back by exactly one of `succeeded`, `failed` and `left`.
        """
        if self._drained:
            raise Drained
        loop = asyncio.get_running_loop()
        if not self._waiting and not self._adaptive.wait(loop.time()):
            return self._adaptive.sent(loop.time())
        turn: asyncio.Future[int] = loop.create_future()
        self._waiting.append(turn)
        self._serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._adaptive.left()
            raise

    def succeeded(self, stamp: int, seconds: float) -> None:
        """The request was answered after so many seconds."""
        self._adaptive.succeeded(stamp, seconds)
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

    def drain(self) -> None:
        """Send everybody who waits home and let nobody out any more."""
        self._drained = True
        send_home(self._waiting)
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _follow(self) -> None:
        if self._adaptive.limit != self._limit:
            self._limit = self._adaptive.limit
            self._resize(self._limit)

    def _serve(self) -> None:
        """Let out whoever may go now; the one timer rings for the next."""
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            if wait := self._adaptive.wait(loop.time()):
                self._timer = loop.call_later(wait, self._ring)
                return
            self._waiting.popleft().set_result(self._adaptive.sent(loop.time()))

    def _ring(self) -> None:
        self._timer = None
        self._serve()
