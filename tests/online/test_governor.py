"""The adaptive concurrency at work: who waits, in which order, and that nothing that was let out is forgotten."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from virtual import now, run, settle

from runner.errors import RateLimited, ServerFault
from runner.lane import Drained
from runner.online.adaptive import WAVE, Adaptive
from runner.online.crew import Crew
from runner.online.governor import Governor
from runner.online.limits import Slots


def governed(start: int = 4, most: int = 64) -> tuple[Governor, Adaptive, list[int]]:
    sizes: list[int] = []
    adaptive = Adaptive(start, most, 60.0)
    return Governor(adaptive, sizes.append), adaptive, sizes


async def wave(governor: Governor, hint: float) -> None:
    """So many 429s that everybody has to keep still for `hint` seconds."""
    for stamp in [await governor.enter() for _ in range(10 * WAVE)]:
        governor.failed(stamp, RateLimited("busy", retry_after=hint))


def test_while_all_is_well_nobody_waits_and_the_limit_rises() -> None:
    async def main() -> None:
        governor, adaptive, sizes = governed()
        for _ in range(20):
            stamps = [await governor.enter() for _ in range(adaptive.limit)]
            for stamp in stamps:
                governor.succeeded(stamp, 0.1)
        assert now() < 0.001
        assert sizes[:4] == [8, 16, 32, 64]  # then it also tries whether fewer would do
        assert max(sizes) == sizes[-1] == adaptive.limit == 64
        assert adaptive.in_flight == 0

    run(main())


def test_after_a_wave_all_keep_still_and_go_on_in_their_order() -> None:
    async def main() -> None:
        governor, adaptive, _ = governed()
        governor.succeeded(await governor.enter(), 0.1)
        await wave(governor, 5.0)
        order: list[tuple[int, float]] = []

        async def go(number: int) -> None:
            stamp = await governor.enter()
            order.append((number, now()))
            governor.succeeded(stamp, 0.1)

        await asyncio.gather(*(go(number) for number in range(10)))
        assert [number for number, _ in order] == list(range(10))
        assert order[0][1] >= 5.0
        assert adaptive.in_flight == 0

    run(main())


def test_who_is_cancelled_or_sent_home_leaves_nothing_behind() -> None:
    async def main() -> None:
        governor, adaptive, _ = governed()
        governor.succeeded(await governor.enter(), 0.1)
        await wave(governor, 5.0)
        waiting = [asyncio.create_task(governor.enter()) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        await asyncio.sleep(4.9)
        assert not any(task.done() for task in waiting[1:])
        governor.drain()
        results = await asyncio.gather(*waiting, governor.enter(), return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, Drained) for result in results[1:])
        assert adaptive.in_flight == 0

    run(main())


def test_failures_and_leavers_are_counted_out() -> None:
    async def main() -> None:
        governor, adaptive, _ = governed()
        stamps = [await governor.enter() for _ in range(4)]
        governor.failed(stamps[0], ServerFault("500"))
        governor.left()
        governor.succeeded(stamps[2], 0.1)
        governor.succeeded(stamps[3], 0.1)
        assert adaptive.in_flight == 0
        governor.resume()
        assert 1 <= adaptive.limit <= 20

    run(main())


def test_slots_grow_and_shrink_while_they_are_in_use() -> None:
    async def main() -> None:
        slots = Slots(1)
        await slots.enter()
        waiting = [asyncio.create_task(slots.enter()) for _ in range(3)]
        await settle()
        slots.resize(3)
        await settle()
        assert [task.done() for task in waiting] == [True, True, False]
        slots.resize(1)
        slots.leave()
        slots.leave()
        await settle()
        assert not waiting[2].done()
        slots.leave()
        await settle()
        assert waiting[2].done()

    run(main())


@pytest.mark.anyio
async def test_a_crew_grows_with_its_size() -> None:
    busy, most, gate = 0, 0, anyio.Event()

    async def work() -> bool:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await gate.wait()
        busy -= 1
        return False

    async with anyio.create_task_group() as group:
        crew = Crew(2, work)
        Crew.start(group, crew)
        await settle()
        assert most == 2
        crew.resize(5)
        await settle()
        assert most == 5
        gate.set()
