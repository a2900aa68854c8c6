"""The rate limiter uses nearly the whole quota, never exceeds it, and is FIFO; so is the concurrency limiter."""

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


def max_in_a_minute(times: Sequence[float], weights: Sequence[int] | None = None) -> int:
    """Return the largest sum of weights in any 60 seconds."""
    sizes = weights or [1] * len(times)
    maximum = total = first = 0
    for at, size in zip(times, sizes, strict=True):
        total += size
        while at - times[first] >= MINUTE:
            total -= sizes[first]
            first += 1
        maximum = max(maximum, total)
    return maximum


async def grants(limiter: RateLimiter, arrivals: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Start requests in groups, and return the times and the numbers of the grants, in order.

    Args:
        limiter: grants the permits.
        arrivals: for each group, the seconds since the previous group and the number of requests.
    """
    times: list[float] = []
    order: list[int] = []

    async def request(number: int) -> None:
        await limiter.acquire()
        times.append(now())
        order.append(number)

    server = asyncio.create_task(limiter.run())
    tasks: list[asyncio.Task[None]] = []
    for gap, count in arrivals:
        await asyncio.sleep(gap)
        tasks += [asyncio.create_task(request(len(tasks) + i)) for i in range(count)]
    await asyncio.gather(*tasks)
    server.cancel()
    return times, order


async def saturate(limiter: RateLimiter, seconds: float, workers: int = 40) -> list[float]:
    """Return the times of all grants while the workers request more than the quota allows."""
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
def test_no_minute_has_more_requests_than_the_quota(rpm: int, arrivals: list[tuple[float, int]]) -> None:
    times, order = run(grants(RateLimiter(rpm), arrivals))
    assert max_in_a_minute(times) <= rpm
    assert order == sorted(order)


@pytest.mark.parametrize("rpm", [1, 6, 60, 600, 6000, 12_100, 30_000])
def test_a_saturated_quota_is_used_but_never_exceeded(rpm: int) -> None:
    minutes = 20 if rpm < 1000 else 1.2
    times = run(saturate(RateLimiter(rpm), minutes * MINUTE))
    assert max_in_a_minute(times) <= rpm
    assert len(times) >= 0.97 * rpm * minutes


def test_a_pause_saves_no_permits_beyond_the_quota() -> None:
    rpm = 13_000
    times, _ = run(grants(RateLimiter(rpm), [(0, 3), (300, rpm + 50)]))
    assert max_in_a_minute(times) <= rpm


def test_the_request_and_the_token_quota_hold_together() -> None:
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
    assert max_in_a_minute(times) <= 30
    assert len(times) >= 0.97 * 300
    times = run(main(600, 6000, 100))
    assert max_in_a_minute(times, [100] * len(times)) <= 6000
    assert len(times) >= 0.97 * 600


def test_a_cancelled_waiter_takes_no_permit_from_others() -> None:
    async def main() -> list[float]:
        limiter = RateLimiter(6)
        server = asyncio.create_task(limiter.run())
        await limiter.acquire()
        times: list[float] = []

        async def request() -> None:
            await limiter.acquire()
            times.append(now())

        tasks = [asyncio.create_task(request()) for _ in range(8)]
        await asyncio.sleep(5)  # the next permit is being bought for the first waiter
        for task in (*tasks[:3], tasks[5]):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        server.cancel()
        return times

    times = run(main())
    assert times == pytest.approx([10, 20, 30, 40], abs=0.1)


def test_a_drain_cancels_waiters_and_rejects_new_requests() -> None:
    async def main() -> list[object]:
        limiter = RateLimiter(6)
        server = asyncio.create_task(limiter.run())
        tasks = [asyncio.create_task(limiter.acquire()) for _ in range(4)]
        await asyncio.sleep(1)
        limiter.drain()
        results = await asyncio.gather(*tasks, limiter.acquire(), return_exceptions=True)
        server.cancel()
        return list(results)

    first, *others = run(main())
    assert isinstance(first, RateGrant)
    assert len(others) == 4
    assert all(isinstance(other, Drained) for other in others)


def test_without_a_quota_the_rate_is_unlimited() -> None:
    assert RateLimiter(None).is_unlimited
    assert not RateLimiter(1).is_unlimited


ScheduledRequest = tuple[float, float, float | None]  # seconds: of arrival, held, and until it is cancelled
schedules = st.tuples(st.floats(0, 5), st.floats(0, 5), st.none() | st.floats(0, 5))


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 5), requests=st.lists(schedules, min_size=1, max_size=40))
def test_the_concurrency_limit_is_never_exceeded(size: int, requests: list[ScheduledRequest]) -> None:
    async def main() -> tuple[int, bool]:
        limiter = ConcurrencyLimiter(size)
        in_flight = max_in_flight = 0

        async def request(arrival: float, duration: float) -> None:
            nonlocal in_flight, max_in_flight
            await asyncio.sleep(arrival)
            await limiter.acquire()
            try:
                in_flight += 1
                max_in_flight = max(max_in_flight, in_flight)
                await asyncio.sleep(duration)
            finally:
                in_flight -= 1
                limiter.release()

        loop = asyncio.get_running_loop()
        tasks = []
        for arrival, duration, cancel_after in requests:
            task = asyncio.create_task(request(arrival, duration))
            tasks.append(task)
            if cancel_after is not None:
                loop.call_later(cancel_after, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(size):  # all slots are free again
            await asyncio.wait_for(limiter.acquire(), 1)
        waiter = asyncio.create_task(limiter.acquire())
        await settle()
        full = not waiter.done()
        waiter.cancel()
        return max_in_flight, full

    max_in_flight, full = run(main())
    assert max_in_flight <= size
    assert full


def test_the_concurrency_limiter_is_fifo() -> None:
    async def main() -> list[int]:
        limiter = ConcurrencyLimiter(2)
        order: list[int] = []

        async def request(number: int) -> None:
            await limiter.acquire()
            order.append(number)
            await asyncio.sleep(1)
            limiter.release()

        tasks = [asyncio.create_task(request(number)) for number in range(9)]
        await asyncio.sleep(0.5)
        tasks[4].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    assert run(main()) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_slot_of_a_cancelled_waiter_passes_to_the_next_one() -> None:
    async def main() -> bool:
        limiter = ConcurrencyLimiter(1)
        await limiter.acquire()
        first, second = (asyncio.create_task(limiter.acquire()) for _ in range(2))
        await settle()
        limiter.release()
        first.cancel()  # in the same loop iteration: it has the slot, but never resumes
        await settle()
        return first.cancelled() and second.done()

    assert run(main())


def test_draining_the_concurrency_limiter_cancels_waiters() -> None:
    async def main() -> list[object]:
        limiter = ConcurrencyLimiter(1)
        await limiter.acquire()
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await settle()
        limiter.drain()
        limiter.release()
        return list(await asyncio.gather(*waiting, limiter.acquire(), return_exceptions=True))

    assert all(isinstance(result, Drained) for result in run(main()))


class _DueAtOnce:
    """An adaptive control that always asks for a wait that uvloop rounds to nothing."""

    def delay(self, now: float) -> float:
        return 1e-5

    def on_release(self) -> None:
        """Needed by the limiter."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_a_recheck_that_is_due_at_once(anyio_backend: object) -> None:
    """For such a timer, uvloop returns a handle without a time."""
    limiter = RateLimiter(None, adaptive=_DueAtOnce())  # type: ignore[arg-type]
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0.005)
    limiter.recheck()
    limiter.drain()
    assert all(isinstance(found, Drained) for found in await asyncio.gather(*tasks, return_exceptions=True))
