"""All limits of a service together: whatever comes, no minute holds more than its quotas, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from leases import acquire, fail, release_unsent
from virtual_clock import now, run

from runner.config import TokenLimits
from runner.errors import ConnectFailed, RateLimited, Refused, ServerFault, TimedOut
from runner.limits import AdaptiveController, Lease, RequestLimiter, TokenEstimator, TokenQuota
from runner.types import Usage

MINUTE = 60.0
MOMENT = 1e-3
"""What the turns of the loop between a grant and whoever waits for it may take."""

BODY = b"{}"
PATIENCE = 100.0


class Limits(NamedTuple):
    """The YAML's `limits`: quotas of tokens are none, one, or two for input and output."""

    concurrency: int | tuple[int, int]
    rpm: int | None
    tpm: tuple[int, ...]


class Fate(NamedTuple):
    """What becomes of a request after how long: a factor on what it was thought to take, or what went wrong."""

    seconds: float
    end: float | Exception | None


class Visit(NamedTuple):
    """A request: when it comes, what it is thought to take, what becomes of it each time, when it is given up."""

    arrival: float
    amounts: tuple[int, int]
    fates: tuple[Fate, ...]
    cancelled: float | None


class Grant:
    """One request that was let out: what was reserved, and what came of that, when it is known."""

    def __init__(self, at: float, amounts: tuple[int, ...]) -> None:
        self.at = at
        self.reserved = amounts
        self.counted = amounts
        self.known = float("inf")


class Scene:
    """A limiter, and everybody that was let out through it."""

    def __init__(self, limits: Limits, thought: Sequence[tuple[int, int]]) -> None:
        size, tpm = limits.concurrency, limits.tpm
        self.adaptive = None if isinstance(size, int) else AdaptiveController(*size, PATIENCE)
        quota = TokenLimits(input=tpm[0], output=tpm[1]) if len(tpm) == 2 else tpm[0] if tpm else None
        expected = [TokenEstimator(prompt, completion, None) for prompt, completion in thought]
        tokens = None if quota is None else TokenQuota(quota, expected)
        self.limiter = RequestLimiter(self.adaptive or size, limits.rpm, tokens, None, lambda _: None)  # type: ignore[arg-type]
        self.grants: list[Grant] = []
        self._serving = asyncio.create_task(self.limiter.run())

    async def enter(self, variant: int) -> tuple[Lease, Grant]:
        """Go through the limiter."""
        lease = await acquire(self.limiter, variant, BODY)
        grant = Grant(now(), () if lease.tokens is None else lease.tokens.amounts)
        self.grants.append(grant)
        return lease, grant

    async def ask(self, variant: int, fates: Sequence[Fate]) -> None:
        """Go through the limiter and come to an end, once for each fate."""
        for fate in fates:
            lease, grant = await self.enter(variant)
            try:
                await asyncio.sleep(fate.seconds)
            except asyncio.CancelledError as error:
                fail(lease, error)
                raise
            self.end(lease, grant, fate.end)
            if isinstance(fate.end, RateLimited):
                await asyncio.sleep(fate.end.retry_after or 0.1)

    def end(self, lease: Lease, grant: Grant, end: float | Exception | None) -> None:
        """Give back what was lease, and note what is known from now on."""
        grant.known = now()
        if end is None:
            grant.counted = tuple(0 for _ in grant.reserved)
            release_unsent(lease)
        elif isinstance(end, Exception):
            if not isinstance(end, ServerFault | TimedOut):
                grant.counted = tuple(0 for _ in grant.reserved)
            fail(lease, end)
        else:
            grant.counted = tuple(round(end * amount) for amount in grant.reserved)
            apart = len(grant.counted) == 2
            lease.answered(Usage(*grant.counted) if apart else Usage(None, None, sum(grant.counted)), 0.3)

    def close(self) -> None:
        self._serving.cancel()


def scene(limits: Limits, play: Callable[[Scene], Awaitable[None]], thought: Sequence[tuple[int, int]] = ()) -> Scene:
    """Play a scene to its end."""

    async def main() -> Scene:
        stage = Scene(limits, thought)
        await play(stage)
        stage.close()
        return stage

    return run(main())


def requests_hold(grants: Sequence[Grant], rpm: int) -> bool:
    """Whether no 60 seconds hold more grants than `rpm`."""
    return all(last.at - first.at >= MINUTE - MOMENT for first, last in zip(grants, grants[rpm:], strict=False))


def tokens_hold(grants: Sequence[Grant], tpm: Sequence[int]) -> bool:
    """Whether each was let out only as its quotas allowed by what was known then; a large one goes alone."""
    for half, quota in enumerate(tpm):
        for number, grant in enumerate(grants):
            wanted = grant.reserved[half]
            before = sum(_weighs(other, grant.at, half) for other in grants[:number])
            if before + wanted > quota and (before or wanted <= quota):
                return False
    return True


def _weighs(grant: Grant, at: float, half: int) -> int:
    """Tokens that are known, at a moment, to be in the 60 seconds before it."""
    debt = grant.counted[half] - grant.reserved[half]
    total = 0
    if at - grant.at < MINUTE - MOMENT:
        total += grant.reserved[half] + (min(0, debt) if grant.known <= at else 0)
    if grant.known < at and at - grant.known < MINUTE - MOMENT:
        total += max(0, debt)
    return total


def busy(hint: float | None) -> RateLimited:
    return RateLimited("busy", retry_after=hint)


ODD = (ServerFault("500"), TimedOut("late"), ConnectFailed("refused"), Refused("bad"))
MOMENTS = st.sampled_from([0.0, 0.3, 30.0, 60.0]) | st.floats(0, 90)
HINTS = st.none() | st.sampled_from([0.2, 5.0, 70.0])
ENDS = st.floats(0, 3) | st.just(1.0) | HINTS.map(busy) | st.sampled_from(ODD) | st.none()
LAST = st.floats(0, 3) | st.sampled_from(ODD)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Limits, list[Visit]]:
    """Any limits, and visits in clumps and alone, of every size up to several times the quota."""
    rpm = draw(st.none() | st.sampled_from([1, 2, 6, 20]) | st.integers(1, 40))
    tpm = tuple(draw(st.lists(st.sampled_from([7, 60, 1000]) | st.integers(2, 2_000_000), max_size=2)))
    concurrency = draw(st.integers(1, 40) | st.tuples(st.integers(1, 20), st.just(40)))
    sizes = st.sampled_from([0.001, 0.03, 0.2, 0.5, 1.0]) | st.floats(0.0001, 2.5)
    visits = []
    for _ in range(draw(st.integers(1, 10))):
        arrival, size, fates = draw(MOMENTS), draw(sizes), draw(st.lists(st.tuples(MOMENTS, ENDS), max_size=2))
        amounts = (max(1, round(size * (tpm or (1,))[0])), max(1, round(size * (tpm or (1,))[-1])))
        whole = tuple(Fate(*fate) for fate in [*fates, (draw(MOMENTS), draw(LAST))])
        visits += [Visit(arrival, amounts, whole, draw(st.none() | MOMENTS))] * draw(st.sampled_from([1, 1, 3, 12]))
    return Limits(concurrency, rpm, tpm), visits


async def attend(stage: Scene, visits: Sequence[Visit]) -> None:
    """Let visitors come and go; all that do not give up come to their end."""

    async def visit(number: int, one: Visit) -> None:
        await asyncio.sleep(one.arrival)
        await stage.ask(number, one.fates)

    tasks = [asyncio.create_task(visit(number, one)) for number, one in enumerate(visits)]
    for task, one in zip(tasks, visits, strict=True):
        if one.cancelled is not None:
            asyncio.get_running_loop().call_later(one.arrival + one.cancelled, task.cancel)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1e6)
    given_up = [one.cancelled is not None for one in visits]
    assert all(done is None or may for done, may in zip(results, given_up, strict=True))


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_no_schedule_breaks_a_quota_or_leaves_anybody_waiting(schedule: tuple[Limits, list[Visit]]) -> None:
    limits, visits = schedule

    async def play(stage: Scene) -> None:
        await attend(stage, visits)
        assert stage.adaptive is None or stage.adaptive.in_flight == 0
        for _ in range(stage.limiter.size):  # every slot was given back
            release_unsent(await asyncio.wait_for(acquire(stage.limiter, 0, BODY), 1e6))

    grants = scene(limits, play, [visit.amounts for visit in visits]).grants
    assert all(first.at <= second.at for first, second in pairwise(grants))
    assert limits.rpm is None or requests_hold(grants, limits.rpm)
    assert tokens_hold(grants, limits.tpm)


@settings(max_examples=12, deadline=None, phases=[Phase.generate])  # thousands of tasks each: too slow to shrink
@given(
    rpm=st.sampled_from([1200, 1201, 3000]) | st.integers(1200, 6000),
    crowds=st.lists(st.tuples(st.sampled_from([0.0, 0.02, 59.9]) | st.floats(0, 70), st.integers(1, 1500)), max_size=4),
    cooldown=st.none() | st.floats(0, 70),
)
def test_the_burst_of_a_fast_quota_comes_out_of_it(
    rpm: int, crowds: list[tuple[float, int]], cooldown: float | None
) -> None:
    async def play(stage: Scene) -> None:
        if cooldown is not None:  # a wave of 429s, after which all keep still
            for lease, grant in [await stage.enter(0) for _ in range(20)]:
                stage.end(lease, grant, busy(cooldown))
        tasks = []
        for gap, count in [*crowds, (0.0, rpm + 20)]:
            await asyncio.sleep(gap)
            tasks += [asyncio.create_task(stage.ask(0, [Fate(0.0, 1.0)])) for _ in range(count)]
            tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stage = scene(Limits(10**6 if cooldown is None else (20, 10**6), rpm, ()), play)
    assert len(stage.grants) >= rpm
    assert requests_hold(stage.grants, rpm)


def test_neither_a_cooldown_nor_a_shortage_of_tokens_saves_up_permits() -> None:
    for limits, first in (
        (Limits((20, 40), 60, ()), [Fate(0.0, busy(60.0))]),
        (Limits(100, 60, (1000,)), [Fate(0.0, 1.0)]),
    ):

        async def play(stage: Scene, first: list[Fate] = first) -> None:
            await asyncio.gather(*(stage.ask(0, first) for _ in range(10)))
            await asyncio.gather(*(stage.ask(1, [Fate(0.0, 1.0)]) for _ in range(90)))

        grants = scene(limits, play, [(50, 50), (1, 1)]).grants
        assert requests_hold(grants, 60)
        assert tokens_hold(grants, limits.tpm)


def test_a_permit_that_nobody_waits_for_any_more_is_not_kept() -> None:
    async def play(stage: Scene) -> None:
        await stage.enter(0)
        gone = asyncio.create_task(stage.enter(0))
        await asyncio.sleep(5)
        gone.cancel()
        await asyncio.sleep(200)
        await asyncio.gather(*(stage.enter(0) for _ in range(20)))

    assert requests_hold(scene(Limits(100, 6, ()), play).grants, 6)


def test_who_waits_for_a_permit_holds_no_tokens() -> None:
    """Forty small ones queue for permits; the tokens of the large ones behind them are granted when those go out."""

    async def play(stage: Scene) -> None:
        small = [stage.ask(0, [Fate(0.0, 1.0)]) for _ in range(40)]
        large = [stage.ask(1, [Fate(0.0, 1.0)]) for _ in range(30)]
        await asyncio.gather(*small, *large)

    grants = scene(Limits(100, 12, (1000,)), play, [(1, 1), (150, 40)]).grants
    assert requests_hold(grants, 12)
    assert tokens_hold(grants, [1000])
    assert grants[-1].at - grants[40].at <= 30 / 5 * MINUTE + 2


def test_what_is_given_back_lets_the_next_in_at_once() -> None:
    for end, expected in (
        (0.1, 20.0),
        (busy(None), 20.0),
        (Refused("bad"), 20.0),
        (None, 20.0),
        (TimedOut("late"), 60.0),
    ):

        async def play(stage: Scene, end: float | Exception | None = end) -> None:
            lease, grant = await stage.enter(0)
            other = asyncio.create_task(stage.enter(0))
            await asyncio.sleep(20)
            stage.end(lease, grant, end)
            await other

        first, second = scene(Limits(9, None, (1000,)), play, [(700, 200)]).grants
        assert abs(second.at - first.at - expected) < 0.2


def test_who_is_cancelled_as_the_gate_opens_leaves_nothing_behind() -> None:
    async def play(stage: Scene) -> None:
        lease, grant = await stage.enter(0)
        unaware, patient = (asyncio.create_task(stage.enter(0)) for _ in range(2))
        await asyncio.sleep(5)
        stage.end(lease, grant, None)
        unaware.cancel()  # in the same turn of the loop: it was let out, but never learns of it
        await asyncio.wait_for(patient, 1)
        assert unaware.cancelled()

    for limits in (Limits(9, None, (1000,)), Limits((9, 9), None, (1000,)), Limits(1, None, ())):
        stage = scene(limits, play, [(700, 200)])
        assert stage.adaptive is None or stage.adaptive.in_flight == 1
