"""A worker pool keeps its size, replaces suspended workers up to a bound, and finishes when the work is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import now, run

from runner.lanes.online.worker_pool import MIN_REPLACEMENTS, WorkerPool


class Harness:
    """A worker pool with items of work that take a second each.

    Args:
        size: of the pool.
        items: number of items.
        suspension: returns the seconds for which the worker of an item is suspended.
    """

    def __init__(self, size: int, items: int, suspension: Callable[[int], float]) -> None:
        self.pool = WorkerPool(size, self.work)
        self._numbers = iter(range(items))
        self.suspension = suspension
        self.active = self.suspended = self.done = 0
        self.max_active = self.max_workers = 0
        self.busy_s = 0.0

    async def work(self) -> bool:
        number = next(self._numbers, None)
        if number is None:
            return False
        self.active += 1
        self.update_maxima()
        try:
            await asyncio.sleep(1)
            self.busy_s += 1
            if seconds := self.suspension(number):
                self.active -= 1
                self.suspended += 1
                with self.pool.suspended():
                    self.update_maxima()
                    await asyncio.sleep(seconds)
                self.suspended -= 1
                self.active += 1
        finally:
            self.active -= 1
        self.done += 1
        return True

    def update_maxima(self) -> None:
        self.max_active = max(self.max_active, self.active)
        self.max_workers = max(self.max_workers, self.active + self.suspended)

    async def run(self) -> float:
        """Do all the work, and return the seconds that it took."""
        async with anyio.create_task_group() as group:
            WorkerPool.start(group, self.pool)
        return now()


def test_suspended_workers_are_replaced() -> None:
    harness = Harness(10, 1000, lambda number: 5.0 if number % 10 == 0 else 0.0)
    took = run(harness.run())
    assert harness.done == 1000
    assert took < 1.1 * 100 + 6  # ten at a time, as if no worker had been suspended


@pytest.mark.parametrize("size", [1, 4, 20])
def test_the_number_of_replacements_is_bounded(size: int) -> None:
    harness = Harness(size, 500, lambda number: 1000.0 if number < 400 else 0.0)
    run(harness.run())
    assert harness.done == 500
    assert harness.max_workers == size + max(MIN_REPLACEMENTS, size)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 12),
    items=st.integers(0, 120),
    suspensions=st.lists(st.sampled_from([0.0, 0.5, 3, 40]), min_size=1),
)
def test_each_item_is_done_once_whichever_workers_are_suspended(
    size: int, items: int, suspensions: list[float]
) -> None:
    harness = Harness(size, items, lambda number: suspensions[number % len(suspensions)])
    run(harness.run())
    assert harness.done == items
    assert harness.max_workers <= size + max(MIN_REPLACEMENTS, size)
    assert harness.pool.finished


def test_a_worker_that_resumes_in_a_full_pool_ends() -> None:
    harness = Harness(5, 300, lambda number: 3.0 if number < 5 else 0.0)
    took = run(harness.run())
    assert harness.done == 300
    assert harness.busy_s / took <= 5.2


def test_stop_ends_each_worker_after_its_current_item() -> None:
    async def main(harness: Harness) -> float:
        asyncio.get_running_loop().call_later(4.5, harness.pool.stop)
        return await harness.run()

    harness = Harness(3, 1000, lambda _: 0.0)
    assert run(main(harness)) == pytest.approx(5, abs=0.01)
    assert harness.done == 15


def test_an_error_in_the_work_ends_the_pool() -> None:
    async def fail() -> bool:
        await asyncio.sleep(1)
        raise LookupError("broken")

    async def main(work: Callable[[], Awaitable[bool]]) -> None:
        async with anyio.create_task_group() as group:
            WorkerPool.start(group, WorkerPool(4, work))

    with pytest.raises(ExceptionGroup) as caught:
        run(main(fail))
    assert caught.group_contains(LookupError)
