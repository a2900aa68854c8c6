"""A pool of workers whose size follows the concurrency limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from anyio.abc import TaskGroup

# A suspended worker holds its request in memory, so replacements are bounded: at most this many per target worker,
REPLACEMENT_RATIO = 1.0
# but always at least this many, so that a few failing requests in a row do not stop a pool of low concurrency.
MIN_REPLACEMENTS = 8


class WorkerPool:
    """Keeps `target_size` workers awake while there is work, and replaces workers that are suspended.

    Attributes:
        target_size: how many workers are awake.
        finished: True once there is no more work, or the pool was stopped.

    Args:
        size: how many workers are awake at the start.
        work: processes one request; returns False if there is nothing more to do.
        on_finished: called when there is no more work.
    """

    def __init__(
        self, size: int, work: Callable[[], Awaitable[bool]], on_finished: Callable[[], None] = lambda: None
    ) -> None:
        self.target_size = size
        self.finished = False
        self._work = work
        self._on_finished = on_finished
        self._running = 0
        self._suspended = 0
        self._group: TaskGroup | None = None

    @staticmethod
    def start(group: TaskGroup, *pools: WorkerPool) -> None:
        """Spawn the first workers of several pools in turn; the task group owns them."""
        for pool in pools:
            pool._group = group
        while sum(pool.spawn() for pool in pools):
            pass

    def resize(self, size: int) -> None:
        """Set how many workers are awake. Workers above the new size end after their request."""
        self.target_size = size
        self._spawn_all()

    def stop(self) -> None:
        """Let every worker end after its request."""
        self.finished = True

    def resume(self) -> None:
        """Start again: there is new work."""
        self.finished = False
        self._spawn_all()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """A context in which a worker waits without capacity, so that another worker may replace it."""
        self._suspended += 1
        self._spawn_all()
        try:
            yield
        finally:
            self._suspended -= 1

    def spawn(self) -> bool:
        """Spawn one worker if one is missing; returns True if it was."""
        replacements = min(self._suspended, max(MIN_REPLACEMENTS, int(self.target_size * REPLACEMENT_RATIO)))
        if self._group is None or self.finished or self._running >= self.target_size + replacements:
            return False
        self._running += 1
        self._group.start_soon(self._run)
        return True

    def _spawn_all(self) -> None:
        while self.spawn():
            pass

    async def _run(self) -> None:
        try:
            while not self.finished and self._running - self._suspended <= self.target_size:
                if not await self._work():
                    self.finished = True
                    self._on_finished()
        finally:
            self._running -= 1
