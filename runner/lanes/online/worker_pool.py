"""Workers that pull: as many awake as the concurrency, and one more for each that sleeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from anyio.abc import TaskGroup

REPLACEMENT_RATIO = 1.0
"""At most so many sleepers per unit of concurrency are stood in for; it bounds what is in memory."""

MIN_REPLACEMENTS = 8
"""So many are stood in for at any concurrency, lest a few bad rows in a row hold up a narrow run."""


class WorkerPool:
    """Keeps `size` workers awake as long as there is work.

    Args:
        target_size: the concurrency.
        work: does one piece of work and says whether there may be more.
    """

    def __init__(self, size: int, work: Callable[[], Awaitable[bool]]) -> None:
        self.target_size = size
        self.finished = False
        self._work = work
        self._running = 0
        self._suspended = 0
        self._group: TaskGroup | None = None

    @staticmethod
    def start(group: TaskGroup, *crews: WorkerPool) -> None:
        """Hire the first workers into a task group, which then owns them; of several crews in turn."""
        for crew in crews:
            crew._group = group
        while sum(crew.spawn() for crew in crews):
            pass

    def resize(self, size: int) -> None:
        """Keep so many awake from now on."""
        self.target_size = size
        self._spawn_all()

    def stop(self) -> None:
        """No worker takes up another piece of work."""
        self.finished = True

    def resume(self) -> None:
        """There is work again."""
        self.finished = False
        self._spawn_all()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While in here a worker sleeps, and another may stand in for it."""
        self._suspended += 1
        self._spawn_all()
        try:
            yield
        finally:
            self._suspended -= 1

    def spawn(self) -> bool:
        """Hire one more; whether there was need of one."""
        spare = min(self._suspended, max(MIN_REPLACEMENTS, int(self.target_size * REPLACEMENT_RATIO)))
        if self._group is None or self.finished or self._running >= self.target_size + spare:
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
        finally:
            self._running -= 1
