"""The service's quota: token buckets for requests and tokens, refilled continuously."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple


class Denial(NamedTuple):
    """Why a request does not pass now: `requests` or `tokens`, and the seconds until it would."""

    kind: str
    wait: float


class Bucket:
    """A bucket of `capacity` permits that refills at `per_minute`.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, per_minute: int, capacity: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._capacity = capacity
        self._level = float(capacity)
        self._clock = clock
        self._at = clock()

    @property
    def level(self) -> float:
        """Permits in the bucket now."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def wait_for(self, amount: float) -> float:
        """Return the seconds until `amount` fits; more than the bucket holds fits when it is full."""
        missing = min(amount, self._capacity) - self.level
        # Refilling in small steps loses a few bits: without this a caller that waits as told comes too early.
        return missing * 60 / self.per_minute if missing > 1e-6 else 0.0

    def take(self, amount: float) -> None:
        """Take `amount` out, down to nothing."""
        self._level = max(0.0, self.level - amount)


class Quota:
    """Requests and tokens per minute; None is unlimited.

    Args:
        burst: requests that may pass at once; None: a whole minute's worth.
    """

    def __init__(
        self,
        rpm: int | None = None,
        tpm: int | None = None,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = Bucket(rpm, min(rpm, burst or rpm), clock) if rpm else None
        self._tokens = Bucket(tpm, tpm, clock) if tpm else None

    def take(self, tokens: int) -> Denial | None:
        """Let one request of this many tokens pass, or say why it does not; a denied request takes nothing."""
        requests_wait = self._requests.wait_for(1) if self._requests else 0.0
        tokens_wait = self._tokens.wait_for(tokens) if self._tokens else 0.0
        if requests_wait or tokens_wait:
            kind = "requests" if requests_wait >= tokens_wait else "tokens"
            return Denial(kind, max(requests_wait, tokens_wait))
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)
        return None

    def headers(self) -> dict[str, str]:
        """Return the x-ratelimit headers as they stand now."""
        found: dict[str, str] = {}
        for kind, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket:
                found[f"x-ratelimit-limit-{kind}"] = str(bucket.per_minute)
                found[f"x-ratelimit-remaining-{kind}"] = str(int(bucket.level))
        return found


def retry_headers(wait: float) -> dict[str, str]:
    """Return Retry-After in whole seconds, rounded up, and retry-after-ms."""
    return {"Retry-After": str(max(1, math.ceil(wait))), "retry-after-ms": str(max(1, math.ceil(wait * 1000)))}
