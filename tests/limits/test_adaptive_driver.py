"""Adaptive concurrency inside the limiter: which requests wait, in which order, and that each one is counted out."""

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


def adaptive_limiter(start: int = 4, max_limit: int = 64) -> tuple[RequestLimiter, AdaptiveController, list[int]]:
    sizes: list[int] = []
    adaptive = AdaptiveController(start, max_limit, 60.0)
    return RequestLimiter(adaptive, None, None, None, sizes.append), adaptive, sizes


async def acquire_lease(limiter: RequestLimiter) -> Lease:
    return await acquire(limiter)


async def throttle(limiter: RequestLimiter, retry_after: float) -> None:
    """Cause an episode of 429s with a cooldown of `retry_after` seconds."""
    for lease in [await acquire_lease(limiter) for _ in range(limiter.size)]:
        fail(lease, RateLimited("busy", retry_after=retry_after))


def test_without_errors_no_request_waits_and_the_limit_rises() -> None:
    async def main() -> None:
        limiter, adaptive, sizes = adaptive_limiter()
        for _ in range(20):
            for lease in [await acquire_lease(limiter) for _ in range(adaptive.limit)]:
                lease.answered(Usage(), 0.1)
        assert now() < 0.001
        assert sizes[:4] == [8, 16, 32, 64]  # afterwards it also tries lower limits
        assert max(sizes) == sizes[-1] == adaptive.limit == 64
        assert adaptive.in_flight == 0

    run(main())


def test_during_the_cooldown_requests_wait_and_then_leave_in_fifo_order() -> None:
    async def main() -> None:
        limiter, adaptive, _ = adaptive_limiter(start=10)
        (await acquire_lease(limiter)).answered(Usage(), 0.1)
        await throttle(limiter, 5.0)
        order: list[tuple[int, float]] = []

        async def send(number: int) -> None:
            lease = await acquire_lease(limiter)
            order.append((number, now()))
            lease.answered(Usage(), 0.1)

        await asyncio.gather(*(send(number) for number in range(10)))
        assert [number for number, _ in order] == list(range(10))
        assert order[0][1] >= 5.0
        assert adaptive.in_flight == 0

    run(main())


def test_cancelled_and_drained_waiters_are_not_in_flight() -> None:
    async def main() -> None:
        limiter, adaptive, _ = adaptive_limiter(start=10)
        (await acquire_lease(limiter)).answered(Usage(), 0.1)
        await throttle(limiter, 5.0)
        waiting = [asyncio.create_task(acquire_lease(limiter)) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        await asyncio.sleep(4.9)
        assert not any(task.done() for task in waiting[1:])
        limiter.drain()
        results = await asyncio.gather(*waiting, acquire_lease(limiter), return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, Drained) for result in results[1:])
        assert adaptive.in_flight == 0

    run(main())


def test_failed_and_unsent_requests_are_not_in_flight_any_more() -> None:
    async def main() -> None:
        limiter, adaptive, _ = adaptive_limiter()
        leases = [await acquire_lease(limiter) for _ in range(4)]
        fail(leases[0], ServerFault("500"))
        release_unsent(leases[1])
        fail(leases[2], ServerFault("500"))
        leases[3].answered(Usage(), 0.1)
        assert adaptive.in_flight == 0
        limiter.resume()
        assert 1 <= adaptive.limit <= 20

    run(main())


def test_the_concurrency_limit_can_be_resized_while_it_is_in_use() -> None:
    async def main() -> None:
        concurrency = ConcurrencyLimiter(1)
        await concurrency.acquire()
        waiting = [asyncio.create_task(concurrency.acquire()) for _ in range(3)]
        await settle()
        concurrency.resize(3)
        await settle()
        assert [task.done() for task in waiting] == [True, True, False]
        concurrency.resize(1)
        concurrency.release()
        concurrency.release()
        await settle()
        assert not waiting[2].done()
        concurrency.release()
        await settle()
        assert waiting[2].done()

    run(main())


@pytest.mark.anyio
async def test_a_worker_pool_starts_workers_when_it_is_resized() -> None:
    busy, max_busy, finish = 0, 0, anyio.Event()

    async def work() -> bool:
        nonlocal busy, max_busy
        busy += 1
        max_busy = max(max_busy, busy)
        await finish.wait()
        busy -= 1
        return False

    async with anyio.create_task_group() as group:
        pool = WorkerPool(2, work)
        WorkerPool.start(group, pool)
        await settle()
        assert max_busy == 2
        pool.resize(5)
        await settle()
        assert max_busy == 5
        finish.set()
