"""When batches are looked at, on a virtual clock."""

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


async def beats(pulse: PollTimer, count: int) -> list[float]:
    """The moments of so many beats."""
    times = [now()]
    for _ in range(count):
        await pulse.wait()
        times.append(now())
    return [later - earlier for earlier, later in pairwise(times)]


def test_looks_come_ever_more_slowly_up_to_the_ceiling() -> None:
    waits = run(beats(PollTimer(10, 60, even), 7))
    assert waits == pytest.approx([10, 15, 22.5, 33.75, 50.625, 60, 60], abs=0.001)


def test_a_first_wait_above_the_ceiling_is_the_ceiling() -> None:
    assert run(beats(PollTimer(30, 5, even), 2)) == pytest.approx([5, 5], abs=0.001)


@given(
    st.floats(0.01, 100), st.floats(0.01, 1000), st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 11)
)
def test_no_wait_is_longer_than_the_ceiling_nor_shorter_than_the_first_but_for_jitter(
    first: float, ceiling: float, draws: list[float], quickened: int
) -> None:
    jitter = iter(draws)
    pulse = PollTimer(first, ceiling, lambda: next(jitter))

    async def main() -> list[float]:
        waits: list[float] = []
        for number in range(len(draws)):
            if number == quickened:
                pulse.reset()
            waits += await beats(pulse, 1)
        return waits

    begin = min(first, ceiling)
    for number, wait in enumerate(run(main())):
        since = number - quickened if number >= quickened else number
        whole = min(ceiling, begin * PollTimer.GROWTH**since)
        assert wait == pytest.approx(min(ceiling, whole * (0.75 + draws[number] / 2)), rel=1e-6, abs=1e-4)
        assert 0.75 * begin - 1e-4 <= wait <= ceiling + 1e-4


def test_all_wait_for_the_same_moment() -> None:
    async def main() -> list[float]:
        pulse = PollTimer(10, 60, even)
        woken: list[float] = []

        async def look(delay: float) -> None:
            await asyncio.sleep(delay)
            await pulse.wait()
            woken.append(now())

        async with asyncio.TaskGroup() as group:
            for delay in (0, 1, 5, 9.9):
                group.create_task(look(delay))
        return woken

    woken = run(main())
    assert woken == pytest.approx([10] * 4, abs=0.001)


def test_one_that_leaves_does_not_stop_the_others() -> None:
    async def main() -> float:
        pulse = PollTimer(10, 60, even)
        leaves, stays = asyncio.ensure_future(pulse.wait()), asyncio.ensure_future(pulse.wait())
        await settle()
        leaves.cancel()
        await stays
        assert leaves.cancelled()
        return now()

    assert run(main()) == pytest.approx(10, abs=0.001)


def test_a_beat_nobody_waits_for_is_no_harm() -> None:
    async def main() -> list[float]:
        pulse = PollTimer(10, 60, even)
        leaves = asyncio.ensure_future(pulse.wait())
        await settle()
        leaves.cancel()
        await asyncio.sleep(12)
        return await beats(pulse, 2)

    assert run(main()) == pytest.approx([15, 22.5], abs=0.001)


def test_quickening_counts_from_the_next_beat_on() -> None:
    async def main() -> list[float]:
        pulse = PollTimer(10, 60, even)
        await beats(pulse, 6)
        waiting = asyncio.ensure_future(beats(pulse, 2))
        await settle()
        pulse.reset()
        return await waiting

    assert run(main()) == pytest.approx([60, 10], abs=0.001)
