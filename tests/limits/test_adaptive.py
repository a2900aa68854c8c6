"""The adaptive controller finds the best concurrency and an unknown quota, despite noise and stray 429s."""

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
MAX_LIMIT = 32


def serve(
    make: Callable[[Noise], Service],
    seconds: float,
    seed: int = 1,
    sigma: float = 0.0,
    max_limit: int = 512,
    **faults: Any,
) -> Log:
    """Run a new controller, with a limit from 20 to `max_limit`, against a service for `seconds`."""
    rng = random.Random(seed)
    run = Run(AdaptiveController(20, max_limit, PATIENCE), make(noisy(sigma, rng)), rng, **faults)
    return run.go(seconds)


def answer_rounds(adaptive: AdaptiveController, count: int, latency: float = 0.3) -> None:
    """Answer `count` whole rounds, with the limit fully used."""
    for _ in range(count):
        for stamp in [adaptive.on_send(0.0) for _ in range(adaptive.limit)]:
            adaptive.on_success(stamp, latency, 0.0)


def throttle_episode(adaptive: AdaptiveController, now: float) -> float:
    """Send enough successive 429s for an episode, too far apart for one burst, and return when the last one arrived."""
    for stamp in [adaptive.on_send(now) for _ in range(EPISODE_MIN_429S)]:
        adaptive.on_throttle(stamp, now)
        now += BURST_SECONDS
    return now - BURST_SECONDS


# growth


def test_rounds_without_errors_double_the_limit_up_to_the_maximum() -> None:
    log = serve(lambda noise: Curve(lambda n: 1.0, noise), seconds=20)
    assert log.limits[:6] == [20, 40, 80, 160, 320, 512]


def test_a_round_that_did_not_use_the_limit_does_not_raise_it() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(1000):
        for stamp in [adaptive.on_send(0.0) for _ in range(15)]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 20


def test_after_an_episode_the_limit_grows_slowly() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    answer_rounds(adaptive, 1)
    for start in (10.0, 11.0):  # the first starts the send rate, the second happens in spite of it
        throttle_episode(adaptive, start)
        adaptive.on_success(adaptive.on_send(start + 0.5), 0.3, start + 0.8)
    assert adaptive.limit == 64
    limits = [adaptive.limit]
    for _ in range(3):
        answer_rounds(adaptive, 1)
        limits.append(adaptive.limit)
    assert all(after <= before * 1.05 for before, after in pairwise(limits))
    answer_rounds(adaptive, 40)
    assert adaptive.limit > 100


def test_answers_to_requests_sent_before_the_cut_do_not_raise_the_limit() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    stamps = [adaptive.on_send(0.0) for _ in range(1000)]
    for stamp in stamps[:EPISODE_MIN_429S]:
        adaptive.on_throttle(stamp, 1.0)
    for stamp in stamps[EPISODE_MIN_429S:]:
        adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 80


def test_failures_that_come_with_the_load_end_the_fast_growth_and_neither_cut_nor_raise_the_limit() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    while adaptive.limit < 40:
        answer_rounds(adaptive, 1)
    for _ in range(50):
        stamps = [adaptive.on_send(0.0) for _ in range(20)]
        for stamp in stamps[:3]:
            adaptive.on_failure(stamp)
        for stamp in stamps[3:]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 40
    answer_rounds(adaptive, 4)
    assert 40 <= adaptive.limit < 80  # without trouble it would have doubled each time


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_failures_at_random_do_not_stop_the_growth(share: float) -> None:
    draws = random.Random(7)
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(60):
        stamps = [adaptive.on_send(0.0) for _ in range(adaptive.limit)]
        for stamp in stamps:
            if draws.random() < share:
                adaptive.on_failure(stamp)
            else:
                adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit >= 300


def test_a_service_that_fails_most_requests_at_the_smallest_limit_is_not_asked_for_more() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(50):
        stamps = [adaptive.on_send(0.0) for _ in range(adaptive.limit)]
        capacity = 6
        for stamp in stamps[capacity:]:
            adaptive.on_failure(stamp)
        for stamp in stamps[:capacity]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit <= 40


def test_rare_failures_do_not_slow_down_the_growth() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    for _ in range(40):
        stamps = [adaptive.on_send(0.0) for _ in range(adaptive.limit)]
        adaptive.on_failure(stamps[0])
        for stamp in stamps[1:]:
            adaptive.on_success(stamp, 0.3, 0.0)
    assert adaptive.limit == 512


# throttle episodes


def test_an_episode_cuts_once_and_late_429s_change_nothing() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    answer_rounds(adaptive, 1)
    stamps = [adaptive.on_send(10.0) for _ in range(100)]
    cuts = [adaptive.on_throttle(stamp, 10.0) for stamp in stamps[:60]]
    assert sum(cuts) == 1
    assert adaptive.limit == int(DECREASE_FACTOR * 100)
    assert adaptive.quiet_until == 10.0 + COOLDOWN_MIN_SECONDS
    assert not any(adaptive.on_throttle(stamp, 30.0, hint=60.0) for stamp in stamps[60:])
    assert adaptive.limit == int(DECREASE_FACTOR * 100)
    assert adaptive.delay(30.0) == 0.0


def test_the_longest_retry_after_of_an_episode_is_the_cooldown_up_to_the_patience() -> None:
    for retry_after, cooldown in ((7.0, 7.0), (1e6, PATIENCE), (0.001, COOLDOWN_MIN_SECONDS)):
        adaptive = AdaptiveController(100, 512, PATIENCE)
        stamps = [adaptive.on_send(0.0) for _ in range(EPISODE_MIN_429S)]
        for stamp, hint in zip(stamps, (None, retry_after, None, 0.0, None), strict=True):
            adaptive.on_throttle(stamp, 10.0, hint)
        assert adaptive.delay(10.0) == pytest.approx(cooldown)


def test_an_isolated_429_delays_no_other_request() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    for _ in range(200):
        adaptive.on_throttle(adaptive.on_send(0.0), 0.0, hint=30.0)
        answer_rounds(adaptive, 1)
    assert adaptive.delay(0.0) == 0.0
    assert adaptive.send_rate(0.0) is None
    assert adaptive.limit == 512


@pytest.mark.parametrize("seed", SEEDS)
def test_stray_429s_cost_hardly_any_throughput(seed: int) -> None:
    log = serve(lambda noise: Curve(lambda n: 0.05, noise), seconds=40, seed=seed, sigma=0.3, max_limit=200, stray=0.02)
    assert log.rate(20, 40) > 0.9 * 200 / 0.05


def test_without_a_success_episodes_cut_no_further_and_the_cooldown_grows() -> None:
    adaptive = AdaptiveController(100, 512, PATIENCE)
    answer_rounds(adaptive, 1)
    now, cooldowns = 10.0, []
    for _ in range(10):
        now = throttle_episode(adaptive, now)
        cooldowns.append(adaptive.quiet_until - now)
        now += cooldowns[-1]
    assert adaptive.limit == int(DECREASE_FACTOR * 100)
    assert cooldowns[:4] == pytest.approx(
        [COOLDOWN_MIN_SECONDS, 2 * COOLDOWN_MIN_SECONDS, 4 * COOLDOWN_MIN_SECONDS, 8 * COOLDOWN_MIN_SECONDS]
    )
    assert cooldowns[-1] == pytest.approx(COOLDOWN_MAX_SECONDS)


def test_after_an_outage_the_limit_restarts_low() -> None:
    adaptive = AdaptiveController(20, 512, PATIENCE)
    answer_rounds(adaptive, 40)
    assert adaptive.limit == 512
    adaptive.resume(100.0)
    assert adaptive.limit == RESTART_LIMIT
    answer_rounds(adaptive, 6)  # soon at the previous limit again
    assert adaptive.limit == 512


# unknown quotas


@pytest.mark.parametrize("sigma", [0.0, 0.5])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rate", "burst"), [(1000, 50), (200, 10)])
def test_an_unknown_quota_is_used_and_rarely_exceeded(rate: int, burst: int, seed: int, sigma: float) -> None:
    end = 60_000 / rate
    log = serve(lambda noise: Bucket(rate, burst, 0.3, noise), end, seed, sigma)
    assert log.rate(10, end) > 0.95 * rate
    assert log.refused(10) < 0.01
    assert log.refused(0) < 0.02


@pytest.mark.parametrize("stalled_side", ["stalls", "served_late"])
@pytest.mark.parametrize("seed", SEEDS)
def test_stalls_of_the_sender_or_the_service_cost_little(seed: int, stalled_side: str) -> None:
    stalls: dict[str, Any] = {stalled_side: Stalls(4.0, 0.12, random.Random(seed))}
    log = serve(lambda noise: Bucket(1000, 50, 0.3, noise), 60, seed, sigma=0.3, **stalls)
    assert log.rate(10, 60) > 0.9 * 1000
    assert log.refused(10) < 0.015


@pytest.mark.parametrize(("rpm", "burst"), [(6, 1), (6, 6), (20, 1), (60, 1), (300, 1), (300, 10)])
def test_a_slow_quota_is_used_even_if_its_bucket_holds_one_request(rpm: int, burst: int) -> None:
    hour = 3600.0
    log = serve(lambda noise: Bucket(rpm / 60, burst, 2.0, noise), hour, sigma=0.3)
    assert log.rate(hour / 3, hour) > (0.8 if rpm < 20 else 0.9) * rpm / 60
    assert log.refused(hour / 3) < (0.12 if rpm < 20 else 0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stray", [0.05, 0.1, 0.2, 0.3])
def test_many_stray_429s_are_distinguished_from_a_quota(stray: float, seed: int) -> None:
    unlimited_rate, quota_rate = 200 / 0.3 * (1 - stray), 200 * (1 - stray)
    log = serve(lambda noise: Curve(lambda n: 0.3, noise), 120, seed, sigma=0.3, max_limit=200, stray=stray)
    assert log.rate(60, 120) > 0.6 * unlimited_rate
    log = serve(lambda noise: Bucket(200, 20, 0.3, noise), 120, seed, sigma=0.3, stray=stray)
    assert log.rate(60, 120) > 0.6 * quota_rate
    assert log.refused(60) < 0.05 + 1.3 * stray


@pytest.mark.parametrize("max_limit", [200, 512, 2000])
def test_an_unknown_quota_is_found_for_any_maximum_limit(max_limit: int) -> None:
    log = serve(lambda noise: Bucket(200, 10, 0.3, noise), 120, sigma=0.3, max_limit=max_limit)
    assert log.rate(10, 120) > 0.93 * 200
    assert log.refused(10) < 0.01


def test_a_bucket_of_one_minute_is_emptied_and_then_its_rate_is_used() -> None:
    log = serve(lambda noise: Bucket(20, 1200, 1.0, noise), 900, sigma=0.5)
    assert log.rate(0, 900) > 0.98 * (20 + 1200 / 900)
    assert log.refused(0) < 0.03


def test_a_long_retry_after_and_slow_429s_cost_little_throughput() -> None:
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
def test_a_limit_on_requests_in_flight_at_the_service_is_found(sigma: float) -> None:
    log = serve(lambda noise: Curve(lambda n: 0.3, noise, most=100), 120, sigma=sigma)
    assert log.rate(10, 120) > 0.7 * 100 / 0.3
    assert log.refused(10) < 0.02


@pytest.mark.parametrize("outage_detected", [False, True])
def test_the_quota_is_used_again_after_a_minute_of_429s_only(outage_detected: bool) -> None:
    rng = random.Random(1)
    bucket = Bucket(300, 20, 0.3, noisy(0.3, rng))
    adaptive = AdaptiveController(20, 512, PATIENCE)
    run = Run(adaptive, bucket, rng)
    run.go(40)
    run.service = Curve(lambda n: 0.3, noisy(0.3, rng), most=0)
    if outage_detected:  # nothing is sent in the outage, and its end is reported
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
    "unlimited": (lambda noise: Curve(lambda n: 1.0, noise), 512.0),
    "thrashing": (lambda noise: Curve(lambda n: max(1.0, (n / 60) ** 2), noise), 60.0),
}


@pytest.mark.parametrize(("seed", "sigma"), [(1, 0.0), (1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)])
@pytest.mark.parametrize("name", CURVES)
def test_the_throughput_approaches_that_of_the_best_fixed_limit(name: str, seed: int, sigma: float) -> None:
    make, best = CURVES[name]
    log = serve(make, 300, seed, sigma)
    assert log.rate(150, 300) > 0.9 * best


@pytest.mark.parametrize("slots", [16, 64])
def test_the_limit_does_not_grow_far_beyond_saturation(slots: int) -> None:
    log = serve(lambda noise: Parallel(slots, 1.0, noise), 300, sigma=0.1)
    second_half = log.limits[len(log.limits) // 2 :]
    assert sorted(second_half)[len(second_half) // 2] <= 2.5 * slots


@pytest.mark.parametrize("slots", [16, 256])
def test_the_limit_follows_a_server_that_becomes_slower_or_faster(slots: int) -> None:
    rng = random.Random(1)
    server = Parallel(64, 1.0, noisy(0.3, rng))
    run = Run(AdaptiveController(20, 512, PATIENCE), server, rng)
    run.go(100)
    server.resize(slots, run.now)
    assert run.go(300).rate(200, 300) > 0.9 * slots


# any order of events

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "succeeded", "throttled", "failed", "released", "resume"]),
        st.integers(0, 60),
        st.floats(0, 100),
        st.none() | st.floats(0, 1e4),
    ),
    max_size=300,
)


def replay(adaptive: AdaptiveController, events: list[tuple[str, int, float, float | None]]) -> float:
    """Report events in any order, also in impossible ones, and return the time of the last."""
    now = 0.0
    for kind, stamp, seconds, hint in events:
        now += seconds / 10
        if kind == "sent":
            for _ in range(stamp):
                adaptive.on_send(now)
        elif kind == "succeeded":
            for offset in range(stamp):
                adaptive.on_success(stamp + offset, seconds, now)
        elif kind == "throttled":
            for offset in range(min(stamp, 10)):
                adaptive.on_throttle(stamp + offset, now, hint)
        elif kind == "failed":
            adaptive.on_failure(stamp)
        elif kind == "left":
            adaptive.on_release()
        else:
            adaptive.resume(now)
        assert 1 <= adaptive.limit <= MAX_LIMIT
        assert adaptive.in_flight >= 0
        assert 0 <= adaptive.delay(now) <= PATIENCE + 60
        rate = adaptive.send_rate(now)
        assert rate is None or rate > 0
    return now


@settings(max_examples=100, deadline=None)
@given(events=EVENTS, start=st.integers(1, MAX_LIMIT))
def test_no_order_of_events_breaks_the_bounds_and_without_errors_the_limit_reaches_its_maximum(
    events: list[tuple[str, int, float, float | None]], start: int
) -> None:
    adaptive = AdaptiveController(start, MAX_LIMIT, PATIENCE)
    now = replay(adaptive, events)
    while adaptive.in_flight:
        adaptive.on_release()
    run = Run(adaptive, Curve(lambda n: 0.3, lambda: 1.0), random.Random(1))
    run.now = now
    run.go(now + 1e6, until=lambda: adaptive.limit == MAX_LIMIT)
    assert adaptive.limit == MAX_LIMIT


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(EPISODE_MIN_429S, 400),
    order=st.randoms(use_true_random=False),
    hints=st.lists(st.none() | st.floats(0, 100), min_size=1, max_size=5),
)
def test_of_the_429s_to_requests_sent_before_the_cut_only_one_cuts(
    size: int, order: random.Random, hints: list[float | None]
) -> None:
    adaptive = AdaptiveController(400, 400, PATIENCE)
    stamps = [adaptive.on_send(0.0) for _ in range(size)]
    order.shuffle(stamps)
    cuts = sum(adaptive.on_throttle(stamp, 1.0 + i, hints[i % len(hints)]) for i, stamp in enumerate(stamps))
    assert cuts == 1
    assert adaptive.limit == int(DECREASE_FACTOR * 400)
    assert adaptive.quiet_until <= EPISODE_MIN_429S + max(COOLDOWN_MIN_SECONDS, *(hint or 0.0 for hint in hints))


def test_an_event_without_an_error_takes_less_than_5_microseconds() -> None:
    adaptive = AdaptiveController(512, 512, PATIENCE)
    best = float("inf")
    for _ in range(20):
        started_at = time.perf_counter()
        answer_rounds(adaptive, 4)
        best = min(best, (time.perf_counter() - started_at) / (8 * 512))
    assert best < 5e-6
