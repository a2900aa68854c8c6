"""Never more a minute than the quota, nearly all of it, first come first served; never more at once than the size."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import now, run, settle

from runner.core import Drained
from runner.limits.rate_limiter import ConcurrencyLimiter, RateGrant, RateLimiter
from runner.limits.token_quota import QuotaSet

MINUTE = 60.0


def most_in_a_minute(times: Sequence[float], weights: Sequence[int] | None = None) -> int:
    """The largest sum of weights that falls into any 60 seconds."""
    sizes = weights or [1] * len(times)
    most = total = first = 0
    for moment, size in zip(times, sizes, strict=True):
        total += size
        while moment - times[first] >= MINUTE:
            total -= sizes[first]
            first += 1
        most = max(most, total)
    return most


async def grants(limiter: RateLimiter, arrivals: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Let visitors come, after each gap so many at once; the times and numbers of those let through, in order."""
    times: list[float] = []
    order: list[int] = []

    async def visit(number: int) -> None:
        await limiter.acquire()
        times.append(now())
        order.append(number)

    server = asyncio.create_task(limiter.run())
    visitors: list[asyncio.Task[None]] = []
    for gap, count in arrivals:
        await asyncio.sleep(gap)
        visitors += [asyncio.create_task(visit(len(visitors) + i)) for i in range(count)]
    await asyncio.gather(*visitors)
    server.cancel()
    return times, order


async def saturate(limiter: RateLimiter, seconds: float, workers: int = 40) -> list[float]:
    """Times of all grants while more is wanted than allowed."""
    times: list[float] = []

    async def work() -> None:
        while True:
            await limiter.acquire()
            times.append(now())

    tasks = [asyncio.create_task(work()) for _ in range(workers)] + [asyncio.create_task(limiter.run())]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    return times


@settings(max_examples=60, deadline=None)
@given(
    rpm=st.sampled_from([1, 2, 6, 59, 60, 61]) | st.integers(1, 300),
    arrivals=st.lists(st.tuples(st.floats(0, 200), st.integers(1, 90)), min_size=1, max_size=6),
)
def test_no_minute_holds_more_requests_than_the_quota(rpm: int, arrivals: list[tuple[float, int]]) -> None:
    times, order = run(grants(RateLimiter(rpm), arrivals))
    assert most_in_a_minute(times) <= rpm
    assert order == sorted(order)


@pytest.mark.parametrize("rpm", [1, 6, 60, 600, 6000, 12_100, 30_000])
def test_a_saturated_quota_is_used_but_never_overdrawn(rpm: int) -> None:
    minutes = 20 if rpm < 1000 else 1.2
    times = run(saturate(RateLimiter(rpm), minutes * MINUTE))
    assert most_in_a_minute(times) <= rpm
    assert len(times) >= 0.97 * rpm * minutes


def test_a_pause_leaves_no_credit_beyond_the_quota() -> None:
    rpm = 13_000
    times, _ = run(grants(RateLimiter(rpm), [(0, 3), (300, rpm + 50)]))
    assert most_in_a_minute(times) <= rpm


def test_both_quotas_hold_together() -> None:
    async def main(rpm: int, tpm: int, weight: int) -> list[float]:
        limiter, times = RateLimiter(rpm, QuotaSet([tpm])), list[float]()
        server = asyncio.create_task(limiter.run())

        async def work() -> None:
            while True:
                await limiter.acquire((weight,))
                times.append(now())

        workers = [asyncio.create_task(work()) for _ in range(40)]
        await asyncio.sleep(10 * MINUTE)
        for task in (server, *workers):
            task.cancel()
        return times

    times = run(main(30, 6000, 100))
    assert most_in_a_minute(times) <= 30
    assert len(times) >= 0.97 * 300
    times = run(main(600, 6000, 100))
    assert most_in_a_minute(times, [100] * len(times)) <= 6000
    assert len(times) >= 0.97 * 600


def test_who_gives_up_waiting_costs_nobody_a_permit() -> None:
    async def main() -> list[float]:
        limiter = RateLimiter(6)
        server = asyncio.create_task(limiter.run())
        await limiter.acquire()
        times: list[float] = []

        async def visit() -> None:
            await limiter.acquire()
            times.append(now())

        visitors = [asyncio.create_task(visit()) for _ in range(8)]
        await asyncio.sleep(5)  # the first permit is being bought for the first visitor
        for visitor in (*visitors[:3], visitors[5]):
            visitor.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*visitors, return_exceptions=True)
        server.cancel()
        return times

    times = run(main())
    assert times == pytest.approx([10, 20, 30, 40], abs=0.1)


def test_drain_sends_waiters_home_and_lets_nobody_in() -> None:
    async def main() -> list[object]:
        limiter = RateLimiter(6)
        server = asyncio.create_task(limiter.run())
        visitors = [asyncio.create_task(limiter.acquire()) for _ in range(4)]
        await asyncio.sleep(1)
        limiter.drain()
        results = await asyncio.gather(*visitors, limiter.acquire(), return_exceptions=True)
        server.cancel()
        return list(results)

    first, *others = run(main())
    assert isinstance(first, RateGrant)
    assert len(others) == 4
    assert all(isinstance(other, Drained) for other in others)


def test_without_quotas_the_turnstile_is_open() -> None:
    assert RateLimiter(None).is_unlimited
    assert not RateLimiter(1).is_unlimited


Stay = tuple[float, float, float | None]
stays = st.tuples(st.floats(0, 5), st.floats(0, 5), st.none() | st.floats(0, 5))


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 5), visits=st.lists(stays, min_size=1, max_size=40))
def test_slots_never_hold_more_than_their_size(size: int, visits: list[Stay]) -> None:
    async def main() -> tuple[int, bool]:
        slots = ConcurrencyLimiter(size)
        inside = most = 0

        async def visit(arrival: float, stay: float) -> None:
            nonlocal inside, most
            await asyncio.sleep(arrival)
            await slots.acquire()
            try:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(stay)
            finally:
                inside -= 1
                slots.release()

        loop = asyncio.get_running_loop()
        tasks = []
        for arrival, stay, cancelled in visits:
            task = asyncio.create_task(visit(arrival, stay))
            tasks.append(task)
            if cancelled is not None:
                loop.call_later(cancelled, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(size):  # every slot was given back
            await asyncio.wait_for(slots.acquire(), 1)
        another = asyncio.create_task(slots.acquire())
        await settle()
        full = not another.done()
        another.cancel()
        return most, full

    most, full = run(main())
    assert most <= size
    assert full


def test_slots_are_first_come_first_served() -> None:
    async def main() -> list[int]:
        slots = ConcurrencyLimiter(2)
        order: list[int] = []

        async def visit(number: int) -> None:
            await slots.acquire()
            order.append(number)
            await asyncio.sleep(1)
            slots.release()

        tasks = [asyncio.create_task(visit(number)) for number in range(9)]
        await asyncio.sleep(0.5)
        tasks[4].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    assert run(main()) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_slot_handed_to_one_who_was_cancelled_goes_on_to_the_next() -> None:
    async def main() -> bool:
        slots = ConcurrencyLimiter(1)
        await slots.acquire()
        first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
        await settle()
        slots.release()
        first.cancel()  # in the same turn of the loop: it holds the slot, but never learns of it
        await settle()
        return first.cancelled() and second.done()

    assert run(main())


def test_draining_slots_sends_waiters_home() -> None:
    async def main() -> list[object]:
        slots = ConcurrencyLimiter(1)
        await slots.acquire()
        waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
        await settle()
        slots.drain()
        slots.release()
        return list(await asyncio.gather(*waiting, slots.acquire(), return_exceptions=True))

    assert all(isinstance(result, Drained) for result in run(main()))
