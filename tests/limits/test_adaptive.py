"""The limit finds the best concurrency and the whole quota, and neither noise nor strays nor any order confuse it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_service import Bucket, Curve, Log, Noise, Parallel, Run, Service, Stalls, noisy

from runner.limits import AdaptiveController
from runner.limits.adaptive import COOLDOWN_MAX_SECONDS, COOLDOWN_MIN_SECONDS, RESTART_LIMIT
from runner.limits.send_rate import BURST_SECONDS, DECREASE_FACTOR, EPISODE_MIN_429S

PATIENCE = 600.0
SEEDS = (1, 2, 3)
MOST = 32


def serve(
    make: Callable[[Noise], Service],
    seconds: float,
    seed: int = 1,
    sigma: float = 0.0,
    most: int = 512,
    **faults: Any,
) -> Log:
    """Run against a service on a fresh limit of 20 to `most`."""
    rng = random.Random(seed)
    run = Run(AdaptiveController(20, most, PATIENCE), make(noisy(sigma, rng)), rng, **faults)
    return run.go(seconds)


def rounds(adaptive: AdaptiveController, count: int, latency: float = 0.3) -> None:
    """Answer so many whole rounds, with the limit in use."""
    for _ in range(count):
        for stamp in [adaptive.on_send(0.0) for _ in range(adaptive.limit)]:
            adaptive.on_success(stamp, latency, 0.0)


def wave(adaptive: AdaptiveController, now: float) -> float:
    """So many 429s, one after the other, that they are no stall; when the last came."""
    for stamp in [adaptive.on_send(now) for _ in range(EPISODE_MIN_429S)]:
        adaptive.on_throttle(stamp, now)
        now += BURST_SECONDS
    return now - BURST_SECONDS


# growth


def test_clean_rounds_double_the_limit_up_to_the_largest() -> None:
    log = serve(lambda noise: Curve(lambda n: 1.0, noise), seconds=20)
    assert log.limits[:6] == [20, 40, 80, 160, 320, 512]


def test_a_round_that_did_not_use_the_limit_says_nothing() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(1000):
        for stamp in [adaptive.on_send(0.0) for _ in range(15)]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 20


def test_after_a_wave_growth_is_gentle() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    rounds(adaptive, 1)
    for begin in (10.0, 11.0):  # the first one brings the pace, the second comes in spite of it
        wave(adaptive, begin)
        adaptive.on_success(adaptive.on_send(begin + 0.5), 0.3, begin + 0.8)
    assert adaptive.limit == 64
    limits = [adaptive.limit]
    for _ in range(3):
        rounds(adaptive, 1)
        limits.append(adaptive.limit)
    assert all(after <= before * 1.05 for before, after in pairwise(limits))
    rounds(adaptive, 40)
    assert adaptive.limit > 100


def test_answers_from_before_the_cut_do_not_count_for_growth() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    stamps = [adaptive.on_send(0.0) for _ in range(1000)]
    for stamp in stamps[:EPISODE_MIN_429S]:
        adaptive.on_throttle(stamp, 1.0)
    for stamp in stamps[EPISODE_MIN_429S:]:
        adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 80


def test_failures_end_the_fast_growth_and_neither_cut_nor_raise() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(50):
        stamps = [adaptive.on_send(0.0) for _ in range(20)]
        for stamp in stamps[:3]:
            adaptive.on_failure(stamp)
        for stamp in stamps[3:]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 20
    rounds(adaptive, 4)
    assert 20 <= adaptive.limit <= 24


def test_a_failure_now_and_then_does_not_hold_up_the_growth() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(40):
        stamps = [adaptive.on_send(0.0) for _ in range(adaptive.limit)]
        adaptive.on_failure(stamps[0])
        for stamp in stamps[1:]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 512


# waves


def test_one_wave_cuts_once_and_late_429s_change_nothing() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    rounds(adaptive, 1)
    stamps = [adaptive.on_send(10.0) for _ in range(100)]
    cuts = [adaptive.on_throttle(stamp, 10.0) for stamp in stamps[:60]]
    assert sum(cuts) == 1
    assert adaptive.limit == int(DECREASE_FACTOR * 100)
    assert adaptive.quiet_until == 10.0 + COOLDOWN_MIN_SECONDS
    assert not any(adaptive.on_throttle(stamp, 30.0, hint=60.0) for stamp in stamps[60:])
    assert adaptive.limit == int(DECREASE_FACTOR * 100)
    assert adaptive.delay(30.0) == 0.0


def test_the_longest_hint_of_the_wave_is_the_cooldown_within_patience() -> None:
    for asked, kept in ((7.0, 7.0), (1e6, PATIENCE), (0.001, COOLDOWN_MIN_SECONDS)):
        adaptive = AdaptiveController(100, 512, PATIENCE)
        stamps = [adaptive.on_send(0.0) for _ in range(EPISODE_MIN_429S)]
        for stamp, hint in zip(stamps, (None, asked, None, 0.0, None), strict=True):
            adaptive.on_throttle(stamp, 10.0, hint)
        assert adaptive.delay(10.0) == pytest.approx(kept)


def test_a_429_alone_delays_nobody_else() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    for _ in range(200):
        adaptive.on_throttle(adaptive.on_send(0.0), 0.0, hint=30.0)
        rounds(adaptive, 1)
    assert adaptive.delay(0.0) == 0.0
    assert adaptive.send_rate(0.0) is None
    assert adaptive.limit == 512


@pytest.mark.parametrize("seed", SEEDS)
def test_stray_429s_cost_nothing(seed: int) -> None:
    log = serve(lambda noise: Curve(lambda n: 0.05, noise), seconds=40, seed=seed, sigma=0.3, most=200, stray=0.02)
    assert log.rate(20, 40) > 0.9 * 200 / 0.05


def test_while_nothing_succeeds_waves_cut_no_further_and_the_silence_grows() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    rounds(adaptive, 1)
    now, silences = 10.0, []
    for _ in range(10):
        now = wave(adaptive, now)
        silences.append(adaptive.quiet_until - now)
        now += silences[-1]
    assert adaptive.limit == int(DECREASE_FACTOR * 100)
    assert silences[:4] == pytest.approx(
        [COOLDOWN_MIN_SECONDS, 2 * COOLDOWN_MIN_SECONDS, 4 * COOLDOWN_MIN_SECONDS, 8 * COOLDOWN_MIN_SECONDS]
    )
    assert silences[-1] == pytest.approx(COOLDOWN_MAX_SECONDS)


def test_after_an_outage_few_begin() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    rounds(adaptive, 40)
    assert adaptive.limit == 512
    adaptive.resume(100.0)
    assert adaptive.limit == RESTART_LIMIT
    rounds(adaptive, 6)  # soon back where it was
    assert adaptive.limit == 512


# quotas nobody told us


@pytest.mark.parametrize("sigma", [0.0, 0.5])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rate", "burst"), [(1000, 50), (200, 10)])
def test_an_unknown_quota_is_used_and_hardly_exceeded(rate: int, burst: int, seed: int, sigma: float) -> None:
    end = 60_000 / rate
    log = serve(lambda noise: Bucket(rate, burst, 0.3, noise), end, seed, sigma)
    assert log.rate(10, end) > 0.95 * rate
    assert log.refused(10) < 0.01
    assert log.refused(0) < 0.02


@pytest.mark.parametrize("late", ["stalls", "served_late"])
@pytest.mark.parametrize("seed", SEEDS)
def test_stalls_of_either_side_cost_little(seed: int, late: str) -> None:
    stalls: dict[str, Any] = {late: Stalls(4.0, 0.12, random.Random(seed))}
    log = serve(lambda noise: Bucket(1000, 50, 0.3, noise), 60, seed, sigma=0.3, **stalls)
    assert log.rate(10, 60) > 0.9 * 1000
    assert log.refused(10) < 0.015


@pytest.mark.parametrize(("rpm", "burst"), [(6, 1), (6, 6), (20, 1), (60, 1), (300, 1), (300, 10)])
def test_a_slow_quota_is_used_also_where_its_bucket_holds_one(rpm: int, burst: int) -> None:
    hour = 3600.0
    log = serve(lambda noise: Bucket(rpm / 60, burst, 2.0, noise), hour, sigma=0.3)
    assert log.rate(hour / 3, hour) > (0.8 if rpm < 20 else 0.9) * rpm / 60
    assert log.refused(hour / 3) < (0.12 if rpm < 20 else 0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stray", [0.05, 0.1, 0.2, 0.3])
def test_many_stray_429s_are_told_from_a_quota(stray: float, seed: int) -> None:
    free, bound = 200 / 0.3 * (1 - stray), 200 * (1 - stray)
    log = serve(lambda noise: Curve(lambda n: 0.3, noise), 120, seed, sigma=0.3, most=200, stray=stray)
    assert log.rate(60, 120) > 0.6 * free
    log = serve(lambda noise: Bucket(200, 20, 0.3, noise), 120, seed, sigma=0.3, stray=stray)
    assert log.rate(60, 120) > 0.6 * bound
    assert log.refused(60) < 0.05 + 1.3 * stray


@pytest.mark.parametrize("most", [200, 512, 2000])
def test_the_quota_is_found_whatever_the_bounds(most: int) -> None:
    log = serve(lambda noise: Bucket(200, 10, 0.3, noise), 120, sigma=0.3, most=most)
    assert log.rate(10, 120) > 0.93 * 200
    assert log.refused(10) < 0.01


def test_a_bucket_that_holds_a_minute_is_drained_and_then_kept_to() -> None:
    log = serve(lambda noise: Bucket(20, 1200, 1.0, noise), 900, sigma=0.5)
    assert log.rate(0, 900) > 0.98 * (20 + 1200 / 900)
    assert log.refused(0) < 0.03


def test_a_long_retry_after_and_slow_429s_cost_little() -> None:
    log = serve(lambda noise: Bucket(1000, 50, 0.3, noise), 60, sigma=0.3, hint=1.0)
    assert log.rate(10, 60) > 0.88 * 1000
    log = serve(lambda noise: Bucket(1000, 50, 0.3, noise), 60, sigma=0.3, trip=0.1)
    assert log.rate(10, 60) > 0.93 * 1000
    assert log.refused(10) < 0.02


@pytest.mark.parametrize("factor", [0.2, 0.7, 3.0])
def test_a_quota_that_changes_is_found_again(factor: float) -> None:
    rng = random.Random(1)
    bucket = Bucket(300, 20, 0.3, noisy(0.3, rng))
    run = Run(AdaptiveController(20, 512, PATIENCE), bucket, rng)
    run.go(60)
    bucket.rate *= factor
    log = run.go(160)
    assert log.rate(110, 160) > 0.93 * bucket.rate
    assert log.refused(60) < 0.03


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_a_server_that_refuses_beyond_a_number_in_flight(sigma: float) -> None:
    log = serve(lambda noise: Curve(lambda n: 0.3, noise, most=100), 120, sigma=sigma)
    assert log.rate(10, 120) > 0.7 * 100 / 0.3
    assert log.refused(10) < 0.02


@pytest.mark.parametrize("told", [False, True])
def test_a_minute_of_429s_alone_is_survived(told: bool) -> None:
    rng = random.Random(1)
    bucket = Bucket(300, 20, 0.3, noisy(0.3, rng))
    adaptive = AdaptiveController(20, 512, PATIENCE)
    run = Run(adaptive, bucket, rng)
    run.go(40)
    run.service = Curve(lambda n: 0.3, noisy(0.3, rng), most=0)
    if told:  # the weather lets nobody out, and says when it is over
        run.go(40.5)
        run.now = 100.0
        adaptive.resume(run.now)
    log = run.go(100)
    run.service = bucket
    log = run.go(180)
    assert log.rate(150, 180) > 0.9 * 300


# saturation without 429s

CURVES: dict[str, tuple[Callable[[Noise], Service], float]] = {
    "64 slots": (lambda noise: Parallel(64, 1.0, noise), 64.0),
    "8 slots": (lambda noise: Parallel(8, 1.0, noise), 8.0),
    "200 slots": (lambda noise: Parallel(200, 3.0, noise), 200 / 3),
    "linear": (lambda noise: Curve(lambda n: 0.3 + 0.005 * n, noise), 512 / (0.3 + 0.005 * 512)),
    "linear, steep": (lambda noise: Curve(lambda n: 0.3 + 0.02 * n, noise), 512 / (0.3 + 0.02 * 512)),
    "free": (lambda noise: Curve(lambda n: 1.0, noise), 512.0),
    "thrashing": (lambda noise: Curve(lambda n: max(1.0, (n / 60) ** 2), noise), 60.0),
}


@pytest.mark.parametrize(("seed", "sigma"), [(1, 0.0), (1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)])
@pytest.mark.parametrize("name", CURVES)
def test_the_throughput_settles_near_that_of_the_best_fixed_limit(name: str, seed: int, sigma: float) -> None:
    make, best = CURVES[name]
    log = serve(make, 300, seed, sigma)
    assert log.rate(150, 300) > 0.9 * best


@pytest.mark.parametrize("slots", [16, 64])
def test_a_saturated_server_is_not_asked_far_more_than_it_can_do(slots: int) -> None:
    log = serve(lambda noise: Parallel(slots, 1.0, noise), 300, sigma=0.1)
    later = log.limits[len(log.limits) // 2 :]
    assert sorted(later)[len(later) // 2] <= 2.5 * slots


@pytest.mark.parametrize("slots", [16, 256])
def test_a_server_that_becomes_slower_or_faster_is_followed(slots: int) -> None:
    rng = random.Random(1)
    server = Parallel(64, 1.0, noisy(0.3, rng))
    run = Run(AdaptiveController(20, 512, PATIENCE), server, rng)
    run.go(100)
    server.resize(slots, run.now)
    assert run.go(300).rate(200, 300) > 0.9 * slots


# whatever comes

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "succeeded", "throttled", "failed", "left", "resume"]),
        st.integers(0, 60),
        st.floats(0, 100),
        st.none() | st.floats(0, 1e4),
    ),
    max_size=300,
)


def play(adaptive: AdaptiveController, events: list[tuple[str, int, float, float | None]]) -> float:
    """Let things happen in any order, also what cannot; the moment after the last of them."""
    now = 0.0
    for what, stamp, seconds, hint in events:
        now += seconds / 10
        if what == "sent":
            for _ in range(stamp):
                adaptive.on_send(now)
        elif what == "succeeded":
            for late in range(stamp):
                adaptive.on_success(stamp + late, seconds, now)
        elif what == "throttled":
            for late in range(min(stamp, 10)):
                adaptive.on_throttle(stamp + late, now, hint)
        elif what == "failed":
            adaptive.on_failure(stamp)
        elif what == "left":
            adaptive.on_release()
        else:
            adaptive.resume(now)
        assert 1 <= adaptive.limit <= MOST
        assert adaptive.in_flight >= 0
        assert 0 <= adaptive.delay(now) <= PATIENCE + 60
        pace = adaptive.send_rate(now)
        assert pace is None or pace > 0
    return now


@settings(max_examples=100, deadline=None)
@given(events=EVENTS, start=st.integers(1, MOST))
def test_no_order_of_events_breaks_the_bounds_and_a_clean_time_ends_at_the_top(
    events: list[tuple[str, int, float, float | None]], start: int
) -> None:
    adaptive = AdaptiveController(start, MOST, PATIENCE)
    now = play(adaptive, events)
    while adaptive.in_flight:
        adaptive.on_release()
    run = Run(adaptive, Curve(lambda n: 0.3, lambda: 1.0), random.Random(1))
    run.now = now
    run.go(now + 1e6, until=lambda: adaptive.limit == MOST)
    assert adaptive.limit == MOST


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(EPISODE_MIN_429S, 400),
    order=st.randoms(use_true_random=False),
    hints=st.lists(st.none() | st.floats(0, 100), min_size=1, max_size=5),
)
def test_of_all_429s_that_were_sent_before_the_cut_only_one_cuts(
    size: int, order: random.Random, hints: list[float | None]
) -> None:
    adaptive = AdaptiveController(400, 400, PATIENCE)
    stamps = [adaptive.on_send(0.0) for _ in range(size)]
    order.shuffle(stamps)
    cuts = sum(adaptive.on_throttle(stamp, 1.0 + i, hints[i % len(hints)]) for i, stamp in enumerate(stamps))
    assert cuts == 1
    assert adaptive.limit == int(DECREASE_FACTOR * 400)
    assert adaptive.quiet_until <= EPISODE_MIN_429S + max(COOLDOWN_MIN_SECONDS, *(hint or 0.0 for hint in hints))


def test_a_clean_event_costs_next_to_nothing() -> None:
    adaptive = AdaptiveController(512, 512, PATIENCE)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        rounds(adaptive, 4)
        best = min(best, (time.perf_counter() - began) / (8 * 512))
    assert best < 5e-6
