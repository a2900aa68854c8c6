"""Tokens per minute: known usage never exceeds the quota, nearly all of it is used, and no request waits for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leases import acquire, fail
from virtual_clock import now, run, settle

from runner.config import TokenLimits
from runner.core import Drained
from runner.emulator.quota import Quota
from runner.errors import RateLimited
from runner.limits import Lease, RequestLimiter, TokenEstimator, TokenQuota
from runner.limits.rate_limiter import RateLimiter
from runner.limits.token_quota import QuotaSet, SlidingWindowQuota
from runner.types import Usage

MINUTE = 60.0


class ScheduledRequest(NamedTuple):
    """A request: its arrival, its estimated and actual tokens, its latency, and the seconds until it is cancelled."""

    arrival: float
    estimates: tuple[int, ...]
    actual: tuple[int, ...]
    latency: float
    cancel_after: float | None


class Grant(NamedTuple):
    """A granted request. Its actual tokens are known from `known_at` on."""

    at: float
    estimates: tuple[int, ...]
    known_at: float
    actual: tuple[int, ...]


def clock() -> float:
    """Return the time of the event loop, which the limiter uses too."""
    return asyncio.get_running_loop().time()


class TokenLimiter:
    """A rate limiter with token quotas only."""

    def __init__(self, *tpm: int) -> None:
        self._quotas = QuotaSet(tpm)
        self._rate_limiter = RateLimiter(None, self._quotas)
        self.drain = self._rate_limiter.drain

    async def acquire(self, amounts: tuple[int, ...]) -> float:
        """Wait until the tokens are granted, and return when they were."""
        return (await self._rate_limiter.acquire(amounts)).at

    def correct(self, estimates: tuple[int, ...], actual: tuple[int, ...], granted: float) -> None:
        self._quotas.correct(estimates, actual, granted, clock())
        self._rate_limiter.recheck()

    def refund(self, amounts: tuple[int, ...], granted: float) -> None:
        self._quotas.refund(amounts, granted, clock())
        self._rate_limiter.recheck()


async def run_schedule(tpm: Sequence[int], requests: Sequence[ScheduledRequest]) -> list[Grant]:
    """Run the requests, and return the grants in the order of arrival."""
    limiter = TokenLimiter(*tpm)
    grants: dict[int, Grant] = {}
    arrived: list[int] = []

    async def run_request(number: int, request: ScheduledRequest) -> None:
        await asyncio.sleep(request.arrival)
        arrived.append(number)
        at = await limiter.acquire(request.estimates)
        grants[number] = Grant(at, request.estimates, float("inf"), request.estimates)
        await asyncio.sleep(request.latency)
        grants[number] = Grant(at, request.estimates, clock(), request.actual)
        if any(request.actual):
            limiter.correct(request.estimates, request.actual, at)
        else:
            limiter.refund(request.estimates, at)

    tasks = [asyncio.create_task(run_request(number, one)) for number, one in enumerate(requests)]
    for task, one in zip(tasks, requests, strict=True):
        if one.cancel_after is not None:
            asyncio.get_running_loop().call_later(one.arrival + one.cancel_after, task.cancel)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert all(one.cancel_after is not None or number in grants for number, one in enumerate(requests))
    return [grants[number] for number in arrived if number in grants]


def tokens_in_window(grants: Sequence[Grant], at: float, index: int) -> int:
    """Return the tokens that are known, at a time, to be in the 60 seconds before it."""
    total = 0
    for grant in grants:
        surplus = grant.estimates[index] - grant.actual[index]
        if at - grant.at < MINUTE:
            total += grant.estimates[index] - (max(0, surplus) if grant.known_at <= at else 0)
        if grant.known_at < at and at - grant.known_at < MINUTE:
            total += max(0, -surplus)
    return total


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[int], list[ScheduledRequest]]:
    """Draw one or two quotas, and requests of every size up to several times the quota."""
    tpm = draw(st.lists(st.sampled_from([1, 7, 60, 1000]) | st.integers(1, 2_000_000), min_size=1, max_size=2))
    seconds = st.floats(0, 90)
    sizes = st.sampled_from([0.001, 0.01, 0.03, 0.5, 1.0]) | st.floats(0.0001, 2.5)
    factors = st.sampled_from([0.0, 1.0]) | st.floats(0, 3)
    requests = []
    for _ in range(draw(st.integers(1, 25))):
        size, factor = draw(sizes), draw(factors)
        estimates = tuple(max(1, round(size * quota)) for quota in tpm)
        actual = tuple(round(factor * estimate) for estimate in estimates)
        requests.append(ScheduledRequest(draw(seconds), estimates, actual, draw(seconds), draw(st.none() | seconds)))
    return tpm, requests


@settings(max_examples=300, deadline=None)
@given(schedules())
def test_no_minute_has_more_tokens_than_the_quota_and_no_request_waits_for_ever(
    schedule: tuple[list[int], list[ScheduledRequest]],
) -> None:
    tpm, requests = schedule

    async def main() -> list[Grant]:
        # Factor 2: two requests that do not fit into one minute need two. An excess may be reported last of all.
        minutes = max(
            sum(max(e, a) / quota for e, a in ((r.estimates[index], r.actual[index]) for r in requests))
            for index, quota in enumerate(tpm)
        )
        large = sum(any(e > q for e, q in zip(r.estimates, tpm, strict=True)) for r in requests)
        return await asyncio.wait_for(run_schedule(tpm, requests), 400 + MINUTE * (2 * minutes + 4 * large))

    grants = run(main())
    assert all(first.at <= second.at for first, second in pairwise(grants))
    for index, quota in enumerate(tpm):
        for number, grant in enumerate(grants):
            before, wanted = tokens_in_window(grants[:number], grant.at, index), grant.estimates[index]
            assert before + wanted <= quota or (before == 0 and wanted > quota)


async def saturate(
    limiter: TokenLimiter,
    minutes: float,
    draw: Callable[[], tuple[int, int]],
    workers: int = 40,
    latency: float = 2.0,
    granted: Callable[[int], None] = lambda amount: None,
) -> tuple[list[tuple[float, int]], float]:
    """Let workers request tokens without a pause. Return the time and the tokens of each grant, and the longest wait.

    Args:
        limiter: grants the tokens.
        minutes: duration.
        draw: returns the estimate of a request, and the tokens that the service counts.
        workers: requests at once.
        latency: seconds from the grant to the answer.
        granted: called with the estimate of each grant.
    """
    times: list[tuple[float, int]] = []
    longest = 0.0

    async def work() -> None:
        nonlocal longest
        while True:
            estimate, actual = draw()
            requested_at = clock()
            at = await limiter.acquire((estimate,))
            granted(estimate)
            times.append((now(), estimate))
            longest = max(longest, at - requested_at)
            await asyncio.sleep(latency)
            limiter.correct((estimate,), (actual,), at)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await asyncio.sleep(minutes * MINUTE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return times, longest


def used_per_minute(times: Sequence[tuple[float, int]], start: float, end: float) -> float:
    """Return the average tokens per minute between two times in minutes."""
    return sum(amount for at, amount in times if start * MINUTE <= at < end * MINUTE) / (end - start)


def skewed(seed: int, median: int) -> Callable[[], tuple[int, int]]:
    """Return a source of sizes, of which 1 % are 50 times the median. The service counts what is estimated."""
    rng = random.Random(seed)

    def draw() -> tuple[int, int]:
        size = round(median * rng.lognormvariate(0, 0.2)) * (50 if rng.random() < 0.01 else 1)
        return size, size

    return draw


@pytest.mark.parametrize("weight", [50, 500, 3000])
def test_a_steady_load_uses_the_quota(weight: int) -> None:
    tpm = 300_000
    limiter = TokenLimiter(tpm)
    times, longest = run(saturate(limiter, 6, lambda: (weight, weight), latency=0.1))
    assert used_per_minute(times, 1, 6) >= 0.98 * tpm
    assert longest <= 40 * weight / (tpm / MINUTE) + 5


@pytest.mark.parametrize("seed", range(4))
def test_a_skewed_load_uses_the_quota_with_bounded_waits_and_no_rejection(seed: int) -> None:
    tpm = 1_000_000
    rejected: list[int] = []

    async def main() -> tuple[list[tuple[float, int]], float]:
        quota = Quota(tpm=tpm, clock=clock)

        def serve(tokens: int) -> None:
            if quota.take(tokens) is not None:
                rejected.append(tokens)

        return await saturate(TokenLimiter(tpm), 5, skewed(seed, 1000), granted=serve)

    times, longest = run(main())
    assert used_per_minute(times, 0, 5) >= 0.95 * tpm
    assert longest <= 20  # the requests of 40 workers need 3.6 s of the quota, a large one alone 3 s
    assert rejected == []


def test_a_token_bucket_of_one_minute_never_rejects_a_granted_request() -> None:
    async def main(seed: int) -> list[int]:
        rng = random.Random(seed)
        tpm = rng.choice([600, 5000, 100_000])
        quota, rejected = Quota(tpm=tpm, clock=clock), []

        def draw() -> tuple[int, int]:
            size = max(1, round(tpm * rng.choice([0.001, 0.02, 0.3, 1.0, 1.7]) * rng.random()))
            return size, size

        def serve(tokens: int) -> None:
            if quota.take(tokens) is not None:
                rejected.append(tokens)

        times, _ = await saturate(TokenLimiter(tpm), 30, draw, workers=8, granted=serve)
        assert times
        return rejected

    assert [run(main(seed)) for seed in range(8)] == [[]] * 8


def test_estimates_that_are_right_on_average_waste_no_quota() -> None:
    tpm, rng = 500_000, random.Random(5)
    counted: list[int] = []

    def draw() -> tuple[int, int]:
        counted.append(round(1000 * rng.uniform(0.2, 1.8)))
        return 1000, counted[-1]

    times, _ = run(saturate(TokenLimiter(tpm), 6, draw))
    assert 0.97 * tpm <= sum(counted[: len(times)]) / 6 <= 1.01 * tpm


def test_a_pause_saves_up_at_most_a_short_burst() -> None:
    tpm = 60_000
    quota = SlidingWindowQuota(tpm)
    burst_tokens = 0
    while quota.delay_until(100, 500.0) == 0:
        quota.reserve(100, 500.0)
        burst_tokens += 100
    assert 1000 <= burst_tokens <= 2200


def test_a_large_request_is_not_paced_but_the_requests_after_it_are() -> None:
    quota = SlidingWindowQuota(60_000)
    assert quota.delay_until(30_000, 100.0) == 0
    quota.reserve(30_000, 100.0)
    assert quota.delay_until(100, 100.0) == pytest.approx(27, abs=1)


def test_a_request_above_the_quota_is_granted_alone_and_charged_in_full() -> None:
    quota = SlidingWindowQuota(1000)
    quota.reserve(1, 0.0)
    assert quota.delay_until(5000, 1.0) == pytest.approx(59.1, abs=0.1)
    assert quota.delay_until(5000, 60.1) == 0
    quota.reserve(5000, 60.1)
    assert quota.delay_until(1, 61.0) == pytest.approx(5 * MINUTE, abs=5)


def test_a_request_is_granted_after_the_returned_delays() -> None:
    rng = random.Random(3)
    for _ in range(300):
        quota, at = SlidingWindowQuota(rng.randint(1, 100_000)), rng.uniform(0, 1e6)
        for _ in range(20):
            amount = max(1, round(quota.tpm * rng.choice([0.01, 0.2, 1.2]) * rng.random()))
            checks = 0
            while wait := quota.delay_until(amount, at):
                at += wait
                checks += 1
                assert checks < 5
            quota.reserve(amount, at)


def test_excess_is_charged_when_it_is_known_and_a_refund_reduces_the_original_charge() -> None:
    quota = SlidingWindowQuota(1000)
    quota.reserve(400, 0.0)
    quota.correct(400, 900, granted=0.0, now=20.0)
    assert quota.delay_until(500, 59.0) == pytest.approx(1.1, abs=0.2)  # when the 400 are a minute old
    assert quota.delay_until(501, 59.0) == pytest.approx(21.1, abs=0.2)  # when the excess is
    quota = SlidingWindowQuota(1000)
    quota.reserve(400, 0.0)
    quota.reserve(400, 30.0)
    quota.refund(400, granted=0.0, now=59.0)
    assert quota.delay_until(600, 59.9) == 0
    assert quota.delay_until(601, 60.5) == pytest.approx(29.6, abs=0.2)  # it is not refunded twice
    quota.refund(400, granted=30.0, now=200.0)  # the charge has left the window: nothing to refund
    quota.reserve(1000, 200.0)
    assert quota.delay_until(1, 259.9) > 0


def test_the_window_is_exact_after_a_long_run() -> None:
    quota, rng, at = SlidingWindowQuota(6_000_000), random.Random(1), 1.7e9
    granted_at = []
    for _ in range(200_000):
        at += quota.delay_until(1000, at) + rng.random() / 100
        quota.reserve(1000, at)
        granted_at.append(at)
        quota.correct(
            1000, rng.randint(0, 2000), granted_at[rng.randrange(len(granted_at))] if rng.random() < 0.01 else at, at
        )
    assert quota.delay_until(6_000_000, at) > 0
    assert quota.delay_until(6_000_001, at + 60.2) == 0  # this fits only if the window is empty to the last token


def test_a_refund_admits_the_head_of_the_queue_early() -> None:
    async def main() -> tuple[float, float]:
        limiter = TokenLimiter(6000)
        first = await limiter.acquire((6000,))
        second = asyncio.create_task(limiter.acquire((3000,)))
        third = asyncio.create_task(limiter.acquire((10,)))
        await asyncio.sleep(30)
        assert not second.done()
        limiter.correct((6000,), (1000,), first)
        await settle()
        return (await second) - first, (await third) - first

    second, third = run(main())
    assert second == pytest.approx(30, abs=0.1)
    assert 30 <= third < 60


def test_small_requests_do_not_overtake_a_large_one() -> None:
    async def main() -> list[int]:
        limiter, order = TokenLimiter(60_000), []

        async def request(number: int, amount: int) -> None:
            await asyncio.sleep(number)
            await limiter.acquire((amount,))
            order.append(number)

        await asyncio.gather(*(request(number, 50_000 if number % 7 == 3 else 50) for number in range(40)))
        return order

    assert run(main()) == list(range(40))


def test_a_cancelled_waiter_keeps_no_tokens() -> None:
    async def main() -> tuple[float, int]:
        limiter = TokenLimiter(6000)
        started_at = await limiter.acquire((6000,))
        waiting = [asyncio.create_task(limiter.acquire((amount,))) for amount in (6000, 40, 6000, 50)]
        await asyncio.sleep(1)
        waiting[0].cancel()
        waiting[2].cancel()
        await settle()
        await asyncio.sleep(58)
        limiter.refund((6000,), started_at)  # frees enough for all remaining waiters
        waiting[1].cancel()  # it has its grant, but never resumes
        with suppress(asyncio.CancelledError):
            await waiting[1]
        assert await waiting[3] - started_at == pytest.approx(59, abs=0.1)
        after = await limiter.acquire((5950,))
        return after - started_at, sum(task.cancelled() for task in waiting)

    waited, cancelled = run(main())
    assert waited == pytest.approx(59, abs=0.6)  # the pacing includes the granted requests
    assert cancelled == 3


def test_if_a_large_waiter_is_cancelled_those_behind_it_proceed_at_once() -> None:
    async def main() -> tuple[float, float]:
        limiter = TokenLimiter(6000)
        started_at = await limiter.acquire((3000,))
        large, small, other = (asyncio.create_task(limiter.acquire((amount,))) for amount in (4000, 40, 2965))
        await asyncio.sleep(40)
        large.cancel()
        await settle()
        first = await small
        await asyncio.sleep(5)
        other.cancel()
        # In the same loop iteration: the head is cancelled, but still in the queue.
        limiter.correct((40,), (30,), first)
        return first - started_at, (await limiter.acquire((2960,))) - started_at

    assert run(main()) == pytest.approx((40, 45), abs=0.01)


def test_acquire_does_not_suspend_if_the_tokens_are_available() -> None:
    async def main() -> None:
        acquiring = TokenLimiter(1000, 50).acquire((10, 1))
        with pytest.raises(StopIteration) as stop:
            acquiring.send(None)
        assert stop.value.value <= clock()

    run(main())


def test_a_drain_cancels_waiters_and_rejects_new_requests() -> None:
    async def main() -> list[object]:
        limiter = TokenLimiter(1000)
        await limiter.acquire((1000,))
        waiting = [asyncio.create_task(limiter.acquire((10,))) for _ in range(3)]
        await settle()
        waiting[1].cancel()
        limiter.drain()
        return list(await asyncio.gather(*waiting, limiter.acquire((1,)), return_exceptions=True))

    first, second, *others = run(main())
    assert isinstance(second, asyncio.CancelledError)
    assert all(isinstance(other, Drained) for other in (first, *others))


def test_an_estimate_starts_from_the_template_and_learns_the_line_and_the_answer_length() -> None:
    rng, estimator = random.Random(2), TokenEstimator(700, 300, None)
    assert (estimator.prompt(50), estimator.completion) == (750, 300)
    for _ in range(60):
        size = rng.randint(50, 400)
        estimator.update(size, Usage(round(120 + 1.6 * size), rng.randint(350, 450)))
    assert estimator.prompt(200) == pytest.approx(440, rel=0.03)
    assert estimator.prompt(4000) == pytest.approx(6520, rel=0.1)
    assert estimator.completion == pytest.approx(400, rel=0.05)


def test_bodies_of_equal_length_teach_their_mean_but_no_slope() -> None:
    estimator = TokenEstimator(0, 300, None)
    for tokens in (990, 1000, 1010) * 20:
        estimator.update(500, Usage(tokens, 1))
    assert estimator.prompt(500) == pytest.approx(1000, abs=5)
    assert estimator.prompt(700) == pytest.approx(1200, abs=5)


def test_answers_are_not_estimated_above_max_tokens() -> None:
    estimator = TokenEstimator(0, 300, 64)
    assert estimator.completion == 64
    for _ in range(40):
        estimator.update(10, Usage(10, 100))
    assert estimator.completion == 64


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.none() | st.integers(0, 10**8), st.none() | st.integers(0, 10**6))),
    st.integers(1, 10**7),
)
def test_an_estimate_is_never_below_one(answers: list[tuple[int, int | None, int | None]], size: int) -> None:
    estimator = TokenEstimator(0, 300, 5000)
    for body, prompt, completion in answers * 3:
        estimator.update(body, Usage(prompt, completion))
    assert estimator.prompt(size) >= 1
    assert 1 <= estimator.completion <= 5000


def request_limiter(tokens: TokenQuota) -> RequestLimiter:
    """Return a request limiter that limits only tokens."""
    return RequestLimiter(1000, None, tokens, None, lambda _: None)


def amounts(lease: Lease) -> tuple[int, ...]:
    """Return the tokens that the lease reserved."""
    return () if lease.tokens is None else lease.tokens.amounts


def body(size: int) -> bytes:
    """Return a body that is estimated at about `size` tokens."""
    return b'{"messages":"' + b"word" * size + b'"}'


def test_usage_of_twice_the_estimate_is_learned_soon() -> None:
    tpm = 200_000
    rng = random.Random(4)
    spent: list[tuple[float, int]] = []

    async def main() -> list[tuple[int, int]]:
        limiter = request_limiter(TokenQuota(tpm, [TokenEstimator(0, 300, None)]))
        estimates: list[tuple[int, int]] = []

        async def work() -> None:
            while True:
                size = rng.randint(100, 400)
                usage = Usage(2 * size, 600)
                lease = await acquire(limiter, 0, body(size))
                estimates.append((sum(amounts(lease)), 2 * size + 600))
                await asyncio.sleep(1)
                spent.append((now(), 2 * size + 600))
                lease.answered(usage, 1)

        tasks = [asyncio.create_task(work()) for _ in range(10)]
        await asyncio.sleep(5 * MINUTE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return estimates

    estimates = run(main())
    assert estimates[0][0] < 0.55 * estimates[0][1]
    assert all(estimate == pytest.approx(actual, rel=0.03) for estimate, actual in estimates[40:])
    assert 0.97 * tpm <= used_per_minute(spent, 1, 5) <= 1.03 * tpm


@pytest.mark.parametrize("seed", range(3))
def test_skewed_sizes_use_the_quota_while_their_usage_is_learned(seed: int) -> None:
    """1 % of the sizes are 50 times the median. The service counts more than first estimated, and has a hard quota."""
    tpm = 1_000_000
    rng, draw = random.Random(seed), skewed(seed, 600)
    spent: list[tuple[float, int]] = []
    waits: dict[bool, float] = {False: 0.0, True: 0.0}
    rejected = 0

    async def main() -> None:
        quota, limiter = Quota(tpm=tpm, clock=clock), request_limiter(TokenQuota(tpm, [TokenEstimator(0, 100, None)]))

        async def work() -> None:
            nonlocal rejected
            while True:
                size = draw()[0]
                usage = Usage(round(1.4 * size) + 50, rng.randint(100, 500))
                requested_at = clock()
                lease = await acquire(limiter, 0, body(size))
                waits[size > 6000] = max(waits[size > 6000], clock() - requested_at)
                if quota.take(total := (usage.prompt or 0) + (usage.completion or 0)) is None:
                    spent.append((now(), total))
                    await asyncio.sleep(rng.uniform(0.2, 2))
                    lease.answered(usage, 1)
                else:
                    rejected += 1
                    fail(lease, RateLimited("busy"))
                    await asyncio.sleep(1)

        tasks = [asyncio.create_task(work()) for _ in range(40)]
        await asyncio.sleep(5 * MINUTE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    assert used_per_minute(spent, 1, 5) >= 0.95 * tpm
    assert rejected <= 0.001 * len(spent)
    assert waits[True] <= 15  # the requests of 40 workers need 4 s of the quota, a large one alone 2.5 s
    assert waits[False] <= 15


def test_input_and_output_have_their_own_quotas() -> None:
    async def main() -> tuple[Lease, float]:
        limiter = request_limiter(TokenQuota(TokenLimits(input=100_000, output=900), [TokenEstimator(700, 300, None)]))
        leases = [await acquire(limiter, 0, body(100)) for _ in range(4)]
        return leases[0], now()

    lease, fourth_at = run(main())
    assert amounts(lease)[0] == pytest.approx(800, abs=10)
    assert amounts(lease)[1] == 300
    assert fourth_at == pytest.approx(MINUTE, abs=0.2)


@pytest.mark.parametrize(
    ("usage", "remaining"),
    [(Usage(100, 50, 150), 850), (Usage(None, None, 400), 600), (Usage(100, None, None), 600), (Usage(), 600)],
)
def test_usage_that_is_not_reported_counts_as_estimated(usage: Usage, remaining: int) -> None:
    async def main() -> tuple[bool, bool]:
        limiter = request_limiter(
            TokenQuota(1000, [TokenEstimator(0, 300, None), TokenEstimator(0, remaining - 5, None)])
        )
        lease = await acquire(limiter, 0, body(96))
        assert amounts(lease) == (400,)
        lease.answered(usage, 0.3)
        await asyncio.sleep(50)
        fits = asyncio.create_task(acquire(limiter, 1, b'{"a": "bcdefghijkl"}'))
        await settle()
        more = asyncio.create_task(acquire(limiter, 1, b"{}"))
        await settle()
        more.cancel()
        return fits.done(), more.done()

    assert run(main()) == (True, False)


def test_the_tokens_of_a_429_are_refunded() -> None:
    async def main() -> float:
        limiter = request_limiter(TokenQuota(1000, [TokenEstimator(0, 900, None)]))
        lease = await acquire(limiter, 0, body(10))
        await asyncio.sleep(20)
        fail(lease, RateLimited("busy"))
        await acquire(limiter, 0, body(10))
        limiter.drain()
        with pytest.raises(Drained):
            await acquire(limiter, 0, body(10))
        return now()

    assert run(main()) == pytest.approx(20, abs=0.01)
