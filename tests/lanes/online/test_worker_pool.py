"""As many awake as the size, stand-ins for sleepers up to a bound, and an end when the work ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import now, run

from runner.lanes.online.worker_pool import MIN_REPLACEMENTS, WorkerPool


class Site:
    """Pieces of work that take a second each; every so many of them sleep for a while in between."""

    def __init__(self, size: int, pieces: int, sleepy: Callable[[int], float]) -> None:
        self.crew = WorkerPool(size, self.work)
        self.left = iter(range(pieces))
        self.sleepy = sleepy
        self.awake = self.asleep = self.done = 0
        self.most_awake = self.most_alive = 0
        self.busy_s = 0.0

    async def work(self) -> bool:
        number = next(self.left, None)
        if number is None:
            return False
        self.awake += 1
        self.note()
        try:
            await asyncio.sleep(1)
            self.busy_s += 1
            if nap := self.sleepy(number):
                self.awake -= 1
                self.asleep += 1
                with self.crew.suspended():
                    self.note()
                    await asyncio.sleep(nap)
                self.asleep -= 1
                self.awake += 1
        finally:
            self.awake -= 1
        self.done += 1
        return True

    def note(self) -> None:
        self.most_awake = max(self.most_awake, self.awake)
        self.most_alive = max(self.most_alive, self.awake + self.asleep)

    async def run(self) -> float:
        async with anyio.create_task_group() as group:
            WorkerPool.start(group, self.crew)
        return now()


def test_sleepers_are_stood_in_for() -> None:
    site = Site(10, 1000, lambda number: 5.0 if number % 10 == 0 else 0.0)
    took = run(site.run())
    assert site.done == 1000
    assert took < 1.1 * 100 + 6  # ten at a time, as if nobody had slept


@pytest.mark.parametrize("size", [1, 4, 20])
def test_there_is_a_bound_to_the_stand_ins(size: int) -> None:
    site = Site(size, 500, lambda number: 1000.0 if number < 400 else 0.0)
    run(site.run())
    assert site.done == 500
    assert site.most_alive == size + max(MIN_REPLACEMENTS, size)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 12), pieces=st.integers(0, 120), naps=st.lists(st.sampled_from([0.0, 0.5, 3, 40]), min_size=1)
)
def test_all_work_is_done_once_whoever_sleeps(size: int, pieces: int, naps: list[float]) -> None:
    site = Site(size, pieces, lambda number: naps[number % len(naps)])
    run(site.run())
    assert site.done == pieces
    assert site.most_alive <= size + max(MIN_REPLACEMENTS, size)
    assert site.crew.finished


def test_who_wakes_into_a_full_house_goes_home() -> None:
    site = Site(5, 300, lambda number: 3.0 if number < 5 else 0.0)
    took = run(site.run())
    assert site.done == 300
    assert site.busy_s / took <= 5.2


def test_stop_ends_the_crew_after_the_piece_in_hand() -> None:
    async def main(site: Site) -> float:
        asyncio.get_running_loop().call_later(4.5, site.crew.stop)
        return await site.run()

    site = Site(3, 1000, lambda _: 0.0)
    assert run(main(site)) == pytest.approx(5, abs=0.01)
    assert site.done == 15


def test_an_error_in_the_work_ends_the_crew() -> None:
    async def fail() -> bool:
        await asyncio.sleep(1)
        raise LookupError("broken")

    async def main(work: Callable[[], Awaitable[bool]]) -> None:
        async with anyio.create_task_group() as group:
            WorkerPool.start(group, WorkerPool(4, work))

    with pytest.raises(ExceptionGroup) as caught:
        run(main(fail))
    assert caught.group_contains(LookupError)
