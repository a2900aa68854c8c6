"""Workers that pull: as many awake as the concurrency, and one more for each that sleeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from anyio.abc import TaskGroup

SPARE = 1.0
"""At most so many sleepers per unit of concurrency are stood in for; it bounds what is in memory."""

LEAST_SPARE = 8
"""So many are stood in for at any concurrency, lest a few bad rows in a row hold up a narrow run."""


class WorkerPool:
    """Keeps `size` workers awake as long as there is work.

    Args:
        size: the concurrency.
        work: does one piece of work and says whether there may be more.
    """

    def __init__(self, size: int, work: Callable[[], Awaitable[bool]]) -> None:
        self.size = size
        self.finished = False
        self._work = work
        self._alive = 0
        self._asleep = 0
        self._group: TaskGroup | None = None

    @staticmethod
    def start(group: TaskGroup, *crews: WorkerPool) -> None:
        """Hire the first workers into a task group, which then owns them; of several crews in turn."""
        for crew in crews:
            crew._group = group
        while sum(crew.hire() for crew in crews):
            pass

    def resize(self, size: int) -> None:
        """Keep so many awake from now on."""
        self.size = size
        self._hire()

    def stop(self) -> None:
        """No worker takes up another piece of work."""
        self.finished = True

    def go_on(self) -> None:
        """There is work again."""
        self.finished = False
        self._hire()

    @contextmanager
    def away(self) -> Iterator[None]:
        """While in here a worker sleeps, and another may stand in for it."""
        self._asleep += 1
        self._hire()
        try:
            yield
        finally:
            self._asleep -= 1

    def hire(self) -> bool:
        """Hire one more; whether there was need of one."""
        spare = min(self._asleep, max(LEAST_SPARE, int(self.size * SPARE)))
        if self._group is None or self.finished or self._alive >= self.size + spare:
            return False
        self._alive += 1
        self._group.start_soon(self._run)
        return True

    def _hire(self) -> None:
        while self.hire():
            pass

    async def _run(self) -> None:
        try:
            while not self.finished and self._alive - self._asleep <= self.size:
                if not await self._work():
                    self.finished = True
        finally:
            self._alive -= 1
