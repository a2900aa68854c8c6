"""Exponential backoff with full jitter, as a value: seconds until the next attempt, or None to give up."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from runner.config import RetryConfig
from runner.errors import RateLimited, Transient


def backoff(error: Transient, failures: int, charged: int, policy: RetryConfig, rng: random.Random) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up.

    The wait is random between zero and `base`, which doubles with each failure up to `ceiling`. It is never shorter
    than the wait that the service requested, of which at most `longest_wait` counts.

    Args:
        error: the latest failure.
        failures: the failures of this request in a row, from 1.
        charged: how many of them count as attempts (a 429 never does, nor does a failure in an outage).
        policy: the YAML's `online.retry`.
        rng: the source of the jitter.
    """
    if charged >= policy.attempts and not isinstance(error, RateLimited):
        return None
    max_jitter = min(policy.ceiling, policy.base * 2 ** min(failures - 1, 30))
    requested = min(error.retry_after or 0.0, policy.longest_wait)
    return max(rng.uniform(0.0, max_jitter), requested)


def clock_text(moment: float) -> str:
    """Return a moment (Unix time in seconds) in the local time zone; with the date if it is not today."""
    local = datetime.fromtimestamp(moment, UTC).astimezone()
    is_today = local.date() == datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S %Z" if is_today else "%Y-%m-%d %H:%M:%S %Z")


def too_long_a_wait(error: Transient, policy: RetryConfig, now: float) -> str | None:
    """Return why a run does not wait as long as a service asks; None if it does.

    Args:
        error: the failure with which the service asked for it.
        policy: the YAML's `online.retry`.
        now: the Unix time in seconds.
    """
    if error.retry_after is None or error.retry_after <= policy.longest_wait:
        return None
    return (
        f"the service asks to wait until {clock_text(now + error.retry_after)}, longer than {policy.longest_wait:g} s "
        f"(online.retry.max_retry_after): {error}. Run the same command again then, or raise max_retry_after"
    )
