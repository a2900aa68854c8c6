"""All limits of a service together: for any schedule, no minute exceeds a quota and every request proceeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from leases import acquire, fail, release_unsent
from virtual_clock import now, run

from runner.config import TokenLimits
from runner.errors import ConnectFailed, RateLimited, Refused, ServerFault, TimedOut
from runner.limits import AdaptiveController, Lease, RequestLimiter, TokenEstimator, TokenQuota
from runner.limits.token_quota import TokenReservation
from runner.limits.token_quota import _counted as counted_tokens
from runner.types import Usage

MINUTE = 60.0
TOLERANCE_SECONDS = 1e-3  # the loop iterations between a grant and the waiter that receives it may take this long

BODY = b"{}"
PATIENCE = 100.0


class Limits(NamedTuple):
    """The `limits` of the YAML. `tpm` has no token quota, one quota, or one for input and one for output."""

    concurrency: int | tuple[int, int]
    rpm: int | None
    tpm: tuple[int, ...]


class Attempt(NamedTuple):
    """How an attempt ends after `seconds`.

    `outcome` is the ratio of counted to reserved tokens of an answer, the error of a failure, or None if nothing was
    sent.
    """

    seconds: float
    outcome: float | Exception | None


class ScheduledRequest(NamedTuple):
    """A request: its arrival in seconds, its estimated tokens, its attempts, and the seconds until it is cancelled."""

    arrival: float
    estimates: tuple[int, int]
    attempts: tuple[Attempt, ...]
    cancel_after: float | None


class Grant:
    """A granted lease: the tokens it reserved, and the tokens that are counted for it from `known_at` on."""

    def __init__(self, at: float, amounts: tuple[int, ...]) -> None:
        self.at = at
        self.reserved = amounts
        self.counted = amounts
        self.known_at = float("inf")


class Harness:
    """A limiter, and its grants in order."""

    def __init__(self, limits: Limits, estimates: Sequence[tuple[int, int]]) -> None:
        size, tpm = limits.concurrency, limits.tpm
        self.adaptive = None if isinstance(size, int) else AdaptiveController(*size, PATIENCE)
        quota = TokenLimits(input=tpm[0], output=tpm[1]) if len(tpm) == 2 else tpm[0] if tpm else None
        estimators = [TokenEstimator(prompt, completion, None) for prompt, completion in estimates]
        tokens = None if quota is None else TokenQuota(quota, estimators)
        self.limiter = RequestLimiter(self.adaptive or size, limits.rpm, tokens, None, lambda _: None)  # type: ignore[arg-type]
        self.grants: list[Grant] = []
        self._rate_limiter_task = asyncio.create_task(self.limiter.run())

    async def acquire(self, variant: int) -> tuple[Lease, Grant]:
        """Acquire a lease, and record the grant."""
        lease = await acquire(self.limiter, variant, BODY)
        grant = Grant(now(), () if lease.tokens is None else lease.tokens.amounts)
        self.grants.append(grant)
        return lease, grant

    async def execute(self, variant: int, attempts: Sequence[Attempt]) -> None:
        """Make the attempts one after the other."""
        for attempt in attempts:
            lease, grant = await self.acquire(variant)
            try:
                await asyncio.sleep(attempt.seconds)
            except asyncio.CancelledError as error:
                fail(lease, error)
                raise
            self.finish(lease, grant, attempt.outcome)
            if isinstance(attempt.outcome, RateLimited):
                await asyncio.sleep(attempt.outcome.retry_after or 0.1)

    def finish(self, lease: Lease, grant: Grant, outcome: float | Exception | None) -> None:
        """Release the lease, and record the tokens that are counted for it from now on."""
        grant.known_at = now()
        if outcome is None:
            grant.counted = tuple(0 for _ in grant.reserved)
            release_unsent(lease)
        elif isinstance(outcome, Exception):
            if not isinstance(outcome, ServerFault | TimedOut):
                grant.counted = tuple(0 for _ in grant.reserved)
            fail(lease, outcome)
        else:
            grant.counted = tuple(round(outcome * amount) for amount in grant.reserved)
            is_split = len(grant.counted) == 2
            lease.answered(Usage(*grant.counted) if is_split else Usage(None, None, sum(grant.counted)), 0.3)

    def close(self) -> None:
        self._rate_limiter_task.cancel()


def run_scenario(
    limits: Limits, scenario: Callable[[Harness], Awaitable[None]], estimates: Sequence[tuple[int, int]] = ()
) -> Harness:
    """Run a scenario on a virtual clock, and return its harness."""

    async def main() -> Harness:
        harness = Harness(limits, estimates)
        await scenario(harness)
        harness.close()
        return harness

    return run(main())


def request_quota_holds(grants: Sequence[Grant], rpm: int) -> bool:
    """Return True if no 60 seconds have more grants than `rpm`."""
    return all(
        last.at - first.at >= MINUTE - TOLERANCE_SECONDS for first, last in zip(grants, grants[rpm:], strict=False)
    )


def token_quotas_hold(grants: Sequence[Grant], tpm: Sequence[int]) -> bool:
    """Return True if each grant kept the quotas by the tokens known at that time. One above a quota must be alone."""
    for index, quota in enumerate(tpm):
        for number, grant in enumerate(grants):
            wanted = grant.reserved[index]
            before = sum(_tokens_in_window(other, grant.at, index) for other in grants[:number])
            if before + wanted > quota and (before or wanted <= quota):
                return False
    return True


def _tokens_in_window(grant: Grant, at: float, index: int) -> int:
    """Return the tokens of a grant that are known, at a time, to be in the 60 seconds before it."""
    excess = grant.counted[index] - grant.reserved[index]
    total = 0
    if at - grant.at < MINUTE - TOLERANCE_SECONDS:
        total += grant.reserved[index] + (min(0, excess) if grant.known_at <= at else 0)
    if grant.known_at < at and at - grant.known_at < MINUTE - TOLERANCE_SECONDS:
        total += max(0, excess)
    return total


def throttled(retry_after: float | None) -> RateLimited:
    return RateLimited("busy", retry_after=retry_after)


ERRORS = (ServerFault("500"), TimedOut("late"), ConnectFailed("refused"), Refused("bad"))
DURATIONS = st.sampled_from([0.0, 0.3, 30.0, 60.0]) | st.floats(0, 90)
RETRY_AFTERS = st.none() | st.sampled_from([0.2, 5.0, 70.0])
OUTCOMES = st.floats(0, 3) | st.just(1.0) | RETRY_AFTERS.map(throttled) | st.sampled_from(ERRORS) | st.none()
FINAL_OUTCOMES = st.floats(0, 3) | st.sampled_from(ERRORS)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Limits, list[ScheduledRequest]]:
    """Draw limits, and requests, alone and in groups, of every size up to several times the quota."""
    rpm = draw(st.none() | st.sampled_from([1, 2, 6, 20]) | st.integers(1, 40))
    tpm = tuple(draw(st.lists(st.sampled_from([7, 60, 1000]) | st.integers(2, 2_000_000), max_size=2)))
    concurrency = draw(st.integers(1, 40) | st.tuples(st.integers(1, 20), st.just(40)))
    sizes = st.sampled_from([0.001, 0.03, 0.2, 0.5, 1.0]) | st.floats(0.0001, 2.5)
    requests = []
    for _ in range(draw(st.integers(1, 10))):
        arrival, size, attempts = (
            draw(DURATIONS),
            draw(sizes),
            draw(st.lists(st.tuples(DURATIONS, OUTCOMES), max_size=2)),
        )
        estimates = (max(1, round(size * (tpm or (1,))[0])), max(1, round(size * (tpm or (1,))[-1])))
        all_attempts = tuple(Attempt(*attempt) for attempt in [*attempts, (draw(DURATIONS), draw(FINAL_OUTCOMES))])
        requests += [ScheduledRequest(arrival, estimates, all_attempts, draw(st.none() | DURATIONS))] * draw(
            st.sampled_from([1, 1, 3, 12])
        )
    return Limits(concurrency, rpm, tpm), requests


async def run_schedule(harness: Harness, requests: Sequence[ScheduledRequest]) -> None:
    """Run the requests, and check that each one that is not cancelled finishes."""

    async def start(number: int, request: ScheduledRequest) -> None:
        await asyncio.sleep(request.arrival)
        await harness.execute(number, request.attempts)

    tasks = [asyncio.create_task(start(number, request)) for number, request in enumerate(requests)]
    for task, request in zip(tasks, requests, strict=True):
        if request.cancel_after is not None:
            asyncio.get_running_loop().call_later(request.arrival + request.cancel_after, task.cancel)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1e6)
    may_be_cancelled = [request.cancel_after is not None for request in requests]
    assert all(result is None or may for result, may in zip(results, may_be_cancelled, strict=True))


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_no_schedule_exceeds_a_quota_or_leaves_a_request_waiting(
    schedule: tuple[Limits, list[ScheduledRequest]],
) -> None:
    limits, requests = schedule

    async def scenario(harness: Harness) -> None:
        await run_schedule(harness, requests)
        assert harness.adaptive is None or harness.adaptive.in_flight == 0
        for _ in range(harness.limiter.size):  # all slots are free again
            release_unsent(await asyncio.wait_for(acquire(harness.limiter, 0, BODY), 1e6))

    grants = run_scenario(limits, scenario, [request.estimates for request in requests]).grants
    assert all(first.at <= second.at for first, second in pairwise(grants))
    assert limits.rpm is None or request_quota_holds(grants, limits.rpm)
    assert token_quotas_hold(grants, limits.tpm)


@settings(max_examples=12, deadline=None, phases=[Phase.generate])  # thousands of tasks per example: too slow to shrink
@given(
    rpm=st.sampled_from([1200, 1201, 3000]) | st.integers(1200, 6000),
    groups=st.lists(st.tuples(st.sampled_from([0.0, 0.02, 59.9]) | st.floats(0, 70), st.integers(1, 1500)), max_size=4),
    cooldown=st.none() | st.floats(0, 70),
)
def test_the_burst_of_a_fast_quota_is_part_of_the_quota(
    rpm: int, groups: list[tuple[float, int]], cooldown: float | None
) -> None:
    async def scenario(harness: Harness) -> None:
        if cooldown is not None:  # an episode of 429s, after which all requests wait
            for lease, grant in [await harness.acquire(0) for _ in range(20)]:
                harness.finish(lease, grant, throttled(cooldown))
        tasks = []
        for gap, count in [*groups, (0.0, rpm + 20)]:
            await asyncio.sleep(gap)
            tasks += [asyncio.create_task(harness.execute(0, [Attempt(0.0, 1.0)])) for _ in range(count)]
            tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    harness = run_scenario(Limits(10**6 if cooldown is None else (20, 10**6), rpm, ()), scenario)
    assert len(harness.grants) >= rpm
    assert request_quota_holds(harness.grants, rpm)


def test_neither_a_cooldown_nor_a_wait_for_tokens_saves_up_permits() -> None:
    for limits, first in (
        (Limits((20, 40), 60, ()), [Attempt(0.0, throttled(60.0))]),
        (Limits(100, 60, (1000,)), [Attempt(0.0, 1.0)]),
    ):

        async def scenario(harness: Harness, first: list[Attempt] = first) -> None:
            await asyncio.gather(*(harness.execute(0, first) for _ in range(10)))
            await asyncio.gather(*(harness.execute(1, [Attempt(0.0, 1.0)]) for _ in range(90)))

        grants = run_scenario(limits, scenario, [(50, 50), (1, 1)]).grants
        assert request_quota_holds(grants, 60)
        assert token_quotas_hold(grants, limits.tpm)


def test_the_permit_of_a_cancelled_waiter_is_not_saved() -> None:
    async def scenario(harness: Harness) -> None:
        await harness.acquire(0)
        cancelled = asyncio.create_task(harness.acquire(0))
        await asyncio.sleep(5)
        cancelled.cancel()
        await asyncio.sleep(200)
        await asyncio.gather(*(harness.acquire(0) for _ in range(20)))

    assert request_quota_holds(run_scenario(Limits(100, 6, ()), scenario).grants, 6)


def test_a_request_that_waits_for_a_permit_reserves_no_tokens() -> None:
    """Forty small requests wait for permits. The large ones after them reserve tokens only when they are granted."""

    async def scenario(harness: Harness) -> None:
        small = [harness.execute(0, [Attempt(0.0, 1.0)]) for _ in range(40)]
        large = [harness.execute(1, [Attempt(0.0, 1.0)]) for _ in range(30)]
        await asyncio.gather(*small, *large)

    grants = run_scenario(Limits(100, 12, (1000,)), scenario, [(1, 1), (150, 40)]).grants
    assert request_quota_holds(grants, 12)
    assert token_quotas_hold(grants, [1000])
    assert grants[-1].at - grants[40].at <= 30 / 5 * MINUTE + 2


def test_refunded_tokens_admit_the_next_request_at_once() -> None:
    for outcome, expected in (
        (0.1, 20.0),
        (throttled(None), 20.0),
        (Refused("bad"), 20.0),
        (None, 20.0),
        (TimedOut("late"), 60.0),
    ):

        async def scenario(harness: Harness, outcome: float | Exception | None = outcome) -> None:
            lease, grant = await harness.acquire(0)
            other = asyncio.create_task(harness.acquire(0))
            await asyncio.sleep(20)
            harness.finish(lease, grant, outcome)
            await other

        first, second = run_scenario(Limits(9, None, (1000,)), scenario, [(700, 200)]).grants
        assert abs(second.at - first.at - expected) < 0.2


def test_a_waiter_cancelled_at_its_grant_releases_everything() -> None:
    async def scenario(harness: Harness) -> None:
        lease, grant = await harness.acquire(0)
        cancelled, waiting = (asyncio.create_task(harness.acquire(0)) for _ in range(2))
        await asyncio.sleep(5)
        harness.finish(lease, grant, None)
        cancelled.cancel()  # in the same loop iteration: it has its grant, but never resumes
        await asyncio.wait_for(waiting, 1)
        assert cancelled.cancelled()

    for limits in (Limits(9, None, (1000,)), Limits((9, 9), None, (1000,)), Limits(1, None, ())):
        harness = run_scenario(limits, scenario, [(700, 200)])
        assert harness.adaptive is None or harness.adaptive.in_flight == 1


class RecordingQuota(TokenQuota):
    """Records what is charged in place of each reservation; None is a refund."""

    def __init__(self) -> None:
        super().__init__(6000, [TokenEstimator(0, 10, None)])
        self.charged: list[Usage | None] = []

    def correct(self, reservation: TokenReservation, usage: Usage, granted: float, now: float) -> None:
        self.charged.append(usage)
        super().correct(reservation, usage, granted, now)

    def refund(self, reservation: TokenReservation, granted: float, now: float) -> None:
        self.charged.append(None)
        super().refund(reservation, granted, now)


def test_tokens_that_the_service_counted_are_charged_whatever_the_outcome() -> None:
    quota, counted = RecordingQuota(), Usage(10, 40, 50)
    outcomes = [(RateLimited, counted), (Refused, counted), (Refused, None), (TimedOut, None), (ServerFault, counted)]

    async def main() -> None:
        limiter = RequestLimiter(9, None, quota, None, lambda _: None)
        server = asyncio.create_task(limiter.run())
        for kind, usage in outcomes:
            lease = await acquire(limiter)
            error = kind("no")
            error.usage = usage
            fail(lease, error)
        server.cancel()

    run(main())
    assert quota.charged == [counted, counted, None, counted]


@pytest.mark.parametrize(
    ("usage", "one", "two"),
    [
        (Usage(40, 9, 49), (49,), (40, 9)),
        (Usage(40, 9, 900), (900,), (40, 9)),
        (Usage(), (300,), (200, 100)),
        (Usage(40), (300,), (40, 100)),
        (Usage(4000), (4000,), (4000, 100)),
        (Usage(None, 9), (300,), (200, 9)),
        (Usage(None, None, 900), (900,), (200, 100)),
    ],
)
def test_what_is_counted_for_the_quotas(usage: Usage, one: tuple[int, ...], two: tuple[int, ...]) -> None:
    assert counted_tokens((300,), usage) == one
    assert counted_tokens((200, 100), usage) == two
