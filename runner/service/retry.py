"""Retry as a value: how long to wait before the next attempt, or None to give up."""

from __future__ import annotations

import random

from runner.config import RetryConfig
from runner.errors import RateLimited, Transient


def backoff(error: Transient, failures: int, charged: int, policy: RetryConfig, rng: random.Random) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Full jitter between nothing and `base` doubled per failure, at most `ceiling`; never shorter than what the service
    asked for, nor longer than the run's patience.

    Args:
        error: the failure just seen.
        failures: how many this request has seen in a row, from 1.
        charged: how many of them count as attempts (a 429 never does, nor does a failure in an outage).
        policy: the YAML's `online.retry`.
        rng: where the jitter comes from.
    """
    if charged >= policy.attempts and not isinstance(error, RateLimited):
        return None
    span = min(policy.ceiling, policy.base * 2 ** min(failures - 1, 30))
    hint = min(error.retry_after or 0.0, policy.patience)
    return max(rng.uniform(0.0, span), hint)
