"""The poll interval, on a virtual clock."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_clock import now, run, settle

from runner.lanes.batch.poll_timer import PollTimer


def even() -> float:
    return 0.5


async def poll_intervals(timer: PollTimer, count: int) -> list[float]:
    """Return the intervals before a number of polls, in seconds."""
    times = [now()]
    for _ in range(count):
        await timer.wait()
        times.append(now())
    return [later - earlier for earlier, later in pairwise(times)]


def test_the_interval_grows_up_to_the_ceiling() -> None:
    waits = run(poll_intervals(PollTimer(10, 60, even), 7))
    assert waits == pytest.approx([10, 15, 22.5, 33.75, 50.625, 60, 60], abs=0.001)


def test_a_first_interval_above_the_ceiling_is_the_ceiling() -> None:
    assert run(poll_intervals(PollTimer(30, 5, even), 2)) == pytest.approx([5, 5], abs=0.001)


@given(
    st.floats(0.01, 100), st.floats(0.01, 1000), st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 11)
)
def test_intervals_stay_between_the_first_and_the_ceiling_apart_from_jitter(
    first: float, ceiling: float, draws: list[float], reset_at: int
) -> None:
    jitter = iter(draws)
    timer = PollTimer(first, ceiling, lambda: next(jitter))

    async def main() -> list[float]:
        waits: list[float] = []
        for number in range(len(draws)):
            if number == reset_at:
                timer.reset()
            waits += await poll_intervals(timer, 1)
        return waits

    start = min(first, ceiling)
    for number, wait in enumerate(run(main())):
        since = number - reset_at if number >= reset_at else number
        whole = min(ceiling, start * PollTimer.GROWTH**since)
        assert wait == pytest.approx(min(ceiling, whole * (0.75 + draws[number] / 2)), rel=1e-6, abs=1e-4)
        assert 0.75 * start - 1e-4 <= wait <= ceiling + 1e-4


def test_all_waiters_wake_at_the_same_moment() -> None:
    async def main() -> list[float]:
        timer = PollTimer(10, 60, even)
        woken: list[float] = []

        async def look(delay: float) -> None:
            await asyncio.sleep(delay)
            await timer.wait()
            woken.append(now())

        async with asyncio.TaskGroup() as group:
            for delay in (0, 1, 5, 9.9):
                group.create_task(look(delay))
        return woken

    woken = run(main())
    assert woken == pytest.approx([10] * 4, abs=0.001)


def test_a_cancelled_waiter_does_not_affect_the_others() -> None:
    async def main() -> float:
        timer = PollTimer(10, 60, even)
        leaves, stays = asyncio.ensure_future(timer.wait()), asyncio.ensure_future(timer.wait())
        await settle()
        leaves.cancel()
        await stays
        assert leaves.cancelled()
        return now()

    assert run(main()) == pytest.approx(10, abs=0.001)


def test_a_poll_without_waiters_does_no_harm() -> None:
    async def main() -> list[float]:
        timer = PollTimer(10, 60, even)
        leaves = asyncio.ensure_future(timer.wait())
        await settle()
        leaves.cancel()
        await asyncio.sleep(12)
        return await poll_intervals(timer, 2)

    assert run(main()) == pytest.approx([15, 22.5], abs=0.001)


def test_a_reset_takes_effect_at_the_next_poll() -> None:
    async def main() -> list[float]:
        timer = PollTimer(10, 60, even)
        await poll_intervals(timer, 6)
        waiting = asyncio.ensure_future(poll_intervals(timer, 2))
        await settle()
        timer.reset()
        return await waiting

    assert run(main()) == pytest.approx([60, 10], abs=0.001)
