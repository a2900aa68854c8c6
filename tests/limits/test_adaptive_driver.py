"""The adaptive concurrency at work: who waits, in which order, and that nothing that was let out is forgotten."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from leases import acquire, fail, release_unsent
from virtual_clock import now, run, settle

from runner.core import Drained
from runner.errors import RateLimited, ServerFault
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import AdaptiveController, Lease, RequestLimiter
from runner.limits.rate_limiter import ConcurrencyLimiter
from runner.types import Usage


def adaptive_limiter(start: int = 4, most: int = 64) -> tuple[RequestLimiter, AdaptiveController, list[int]]:
    sizes: list[int] = []
    adaptive = AdaptiveController(start, most, 60.0)
    return RequestLimiter(adaptive, None, None, None, sizes.append), adaptive, sizes


async def enter(limiter: RequestLimiter) -> Lease:
    return await acquire(limiter)


async def throttle(limiter: RequestLimiter, hint: float) -> None:
    """So many 429s that everybody has to keep still for `hint` seconds."""
    for held in [await enter(limiter) for _ in range(limiter.size)]:
        fail(held, RateLimited("busy", retry_after=hint))


def test_while_all_is_well_nobody_waits_and_the_limit_rises() -> None:
    async def main() -> None:
        limiter, adaptive, sizes = adaptive_limiter()
        for _ in range(20):
            for held in [await enter(limiter) for _ in range(adaptive.limit)]:
                held.answered(Usage(), 0.1)
        assert now() < 0.001
        assert sizes[:4] == [8, 16, 32, 64]  # then it also tries whether fewer would do
        assert max(sizes) == sizes[-1] == adaptive.limit == 64
        assert adaptive.in_flight == 0

    run(main())


def test_after_a_wave_all_keep_still_and_go_on_in_their_order() -> None:
    async def main() -> None:
        limiter, adaptive, _ = adaptive_limiter(start=10)
        (await enter(limiter)).answered(Usage(), 0.1)
        await throttle(limiter, 5.0)
        order: list[tuple[int, float]] = []

        async def go(number: int) -> None:
            held = await enter(limiter)
            order.append((number, now()))
            held.answered(Usage(), 0.1)

        await asyncio.gather(*(go(number) for number in range(10)))
        assert [number for number, _ in order] == list(range(10))
        assert order[0][1] >= 5.0
        assert adaptive.in_flight == 0

    run(main())


def test_who_is_cancelled_or_sent_home_leaves_nothing_behind() -> None:
    async def main() -> None:
        limiter, adaptive, _ = adaptive_limiter(start=10)
        (await enter(limiter)).answered(Usage(), 0.1)
        await throttle(limiter, 5.0)
        waiting = [asyncio.create_task(enter(limiter)) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        await asyncio.sleep(4.9)
        assert not any(task.done() for task in waiting[1:])
        limiter.drain()
        results = await asyncio.gather(*waiting, enter(limiter), return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, Drained) for result in results[1:])
        assert adaptive.in_flight == 0

    run(main())


def test_failures_and_leavers_are_counted_out() -> None:
    async def main() -> None:
        limiter, adaptive, _ = adaptive_limiter()
        held = [await enter(limiter) for _ in range(4)]
        fail(held[0], ServerFault("500"))
        release_unsent(held[1])
        fail(held[2], ServerFault("500"))
        held[3].answered(Usage(), 0.1)
        assert adaptive.in_flight == 0
        limiter.resume()
        assert 1 <= adaptive.limit <= 20

    run(main())


def test_slots_grow_and_shrink_while_they_are_in_use() -> None:
    async def main() -> None:
        slots = ConcurrencyLimiter(1)
        await slots.acquire()
        waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
        await settle()
        slots.resize(3)
        await settle()
        assert [task.done() for task in waiting] == [True, True, False]
        slots.resize(1)
        slots.release()
        slots.release()
        await settle()
        assert not waiting[2].done()
        slots.release()
        await settle()
        assert waiting[2].done()

    run(main())


@pytest.mark.anyio
async def test_a_crew_grows_with_its_size() -> None:
    busy, most, limiter = 0, 0, anyio.Event()

    async def work() -> bool:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await limiter.wait()
        busy -= 1
        return False

    async with anyio.create_task_group() as group:
        crew = WorkerPool(2, work)
        WorkerPool.start(group, crew)
        await settle()
        assert most == 2
        crew.resize(5)
        await settle()
        assert most == 5
        limiter.set()
