"""A FIFO queue of waiters: the one place where tasks wait for a slot, a permit, the budget or a change of state."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from runner.core.shutdown import Drained

Item = TypeVar("Item")
Result = TypeVar("Result")


class WaitQueue(Generic[Item, Result]):
    """Waiters in FIFO order. Each brings an item and gets a result or an error.

    The queue is true while somebody waits.

    Args:
        on_new_head: called after a waiter joined an empty queue, and after a waiter was cancelled: there may be a new
            first waiter to serve.
        on_lost: called with the item and the result of a waiter that was cancelled after it had got its result but
            before its task ran again. The result must be given back.
    """

    def __init__(
        self,
        on_new_head: Callable[[], None] = lambda: None,
        on_lost: Callable[[Item, Result], None] = lambda _item, _result: None,
    ) -> None:
        self._waiters: deque[tuple[asyncio.Future[Result], Item]] = deque()
        self._on_new_head = on_new_head
        self._on_lost = on_lost
        self._closed_with: Exception | type[Exception] | None = None

    def __bool__(self) -> bool:
        """Return True if somebody waits; forgets cancelled waiters at the head."""
        waiters = self._waiters
        while waiters and waiters[0][0].done():
            waiters.popleft()
        return bool(waiters)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of all waiters, the first one first."""
        return (item for waiter, item in self._waiters if not waiter.done())

    @property
    def head(self) -> Item:
        """The item of the first waiter; only while the queue is true."""
        return self._waiters[0][1]

    def check_open(self) -> None:
        """Raise the error that the queue was closed with, if it was."""
        if self._closed_with is not None:
            raise self._closed_with

    async def wait(self, item: Item) -> Result:
        """Wait for a result; raises the error that the queue is closed with."""
        self.check_open()
        waiter: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        is_first = not self
        self._waiters.append((waiter, item))
        if is_first:
            self._on_new_head()
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._on_lost(item, waiter.result())
            self._on_new_head()
            raise

    def wake(self, result: Result) -> None:
        """Give the first waiter its result; only while the queue is true."""
        self._waiters.popleft()[0].set_result(result)

    def wake_all(self, result: Result) -> None:
        """Give every waiter the same result. Tasks that wait again at once are not woken twice."""
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_result(result)

    def close(self, error: Exception | type[Exception] = Drained) -> None:
        """Fail every waiter, and every later call of `wait`, with an error."""
        self._closed_with = error
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_exception(error)
