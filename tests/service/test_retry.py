"""Backoff as a value: bounds, full jitter, hints, attempts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.config import RetryConfig
from runner.errors import BadReply, ConnectFailed, ConnectionLost, RateLimited, ServerFault, TimedOut, Transient
from runner.service import backoff

POLICY = RetryConfig(attempts=6, base=0.5, ceiling=30, patience=1800)
KINDS = (ConnectFailed, ConnectionLost, TimedOut, RateLimited, ServerFault, BadReply)


@given(
    kind=st.sampled_from(KINDS),
    failures=st.integers(1, 100_000),
    hint=st.none() | st.floats(0, 1e9),
    seed=st.integers(0, 2**32),
)
def test_the_wait_is_between_the_hint_and_the_maximum(
    kind: type[Transient], failures: int, hint: float | None, seed: int
) -> None:
    wait = backoff(kind("x", retry_after=hint), failures, 0, POLICY, random.Random(seed))
    assert wait is not None
    requested = min(hint or 0.0, POLICY.patience)
    longest = min(POLICY.ceiling, POLICY.base * 2.0 ** min(failures - 1, 60))
    assert requested <= wait <= max(requested, longest)


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (2000, 30)])
def test_the_jitter_is_full_and_doubles_up_to_the_ceiling(failures: int, longest: float) -> None:
    rng = random.Random(1)
    waits = [backoff(ServerFault("x"), failures, 1, POLICY, rng) or 0.0 for _ in range(4000)]
    assert min(waits) < 0.01 * longest
    assert 0.99 * longest < max(waits) <= longest
    assert sum(waits) / len(waits) == pytest.approx(longest / 2, rel=0.05)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not RateLimited])
def test_there_is_no_wait_after_the_last_attempt(kind: type[Transient]) -> None:
    rng = random.Random(1)
    assert backoff(kind("x"), 5, 5, POLICY, rng) is not None
    assert backoff(kind("x"), 6, 6, POLICY, rng) is None
    assert backoff(kind("x"), 60, 5, POLICY, rng) is not None


def test_a_429_never_ends_the_attempts() -> None:
    assert backoff(RateLimited("x"), 99, 99, POLICY, random.Random(1)) is not None


def test_the_hint_counts_up_to_the_patience() -> None:
    rng = random.Random(1)
    assert backoff(ServerFault("x", retry_after=77.0), 1, 1, POLICY, rng) == 77.0
    assert backoff(RateLimited("x", retry_after=1e8), 1, 0, POLICY, rng) == POLICY.patience
    assert (backoff(RateLimited("x", retry_after=0.0), 1, 0, POLICY, rng) or 0.0) <= 0.5
