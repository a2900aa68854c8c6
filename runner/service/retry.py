"""Exponential backoff with full jitter, as a value: seconds until the next attempt, or None to give up."""

from __future__ import annotations

import random

from runner.config import RetryConfig
from runner.errors import RateLimited, Transient


def backoff(error: Transient, failures: int, charged: int, policy: RetryConfig, rng: random.Random) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up.

    The wait is random between zero and `base`, which doubles with each failure up to `ceiling`. It is never shorter
    than the wait that the service requested, of which at most `patience` counts.

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
    requested = min(error.retry_after or 0.0, policy.patience)
    return max(rng.uniform(0.0, max_jitter), requested)
