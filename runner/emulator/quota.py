"""The service's quota: token buckets for requests and for tokens, refilled continuously."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple


class Denial(NamedTuple):
    """A denied request: which quota denied it (`requests` or `tokens`), and the seconds until it would pass."""

    kind: str
    wait: float


class Bucket:
    """A bucket that holds at most `capacity` permits and refills at `per_minute` permits a minute.

    Args:
        clock: returns seconds, monotonic.
    """

    def __init__(self, per_minute: int, capacity: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._capacity = capacity
        self._level = float(capacity)
        self._clock = clock
        self._updated_at = clock()

    @property
    def level(self) -> float:
        """Permits in the bucket now."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._updated_at) * self.per_minute / 60)
        self._updated_at = now
        return self._level

    def seconds_until(self, amount: float) -> float:
        """Return the seconds until `amount` is available; an amount above the capacity only needs a full bucket."""
        missing = min(amount, self._capacity) - self.level
        # Refilling in small steps loses a few bits. Without this tolerance, a caller that waits exactly the returned
        # time would still be denied.
        return missing * 60 / self.per_minute if missing > 1e-6 else 0.0

    def take(self, amount: float) -> None:
        """Remove `amount` permits; the level does not fall below zero."""
        self._level = max(0.0, self.level - amount)


class Quota:
    """Requests and tokens per minute.

    Args:
        rpm: requests per minute; None is unlimited.
        tpm: tokens per minute; None is unlimited.
        burst: requests that can pass at once; None is a full minute's worth.
        clock: returns seconds, monotonic.
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
        """Take one request and its tokens from the quota.

        Returns:
            None if the request passes, else the reason why not. A denied request takes nothing.
        """
        requests_wait = self._requests.seconds_until(1) if self._requests else 0.0
        tokens_wait = self._tokens.seconds_until(tokens) if self._tokens else 0.0
        if requests_wait or tokens_wait:
            kind = "requests" if requests_wait >= tokens_wait else "tokens"
            return Denial(kind, max(requests_wait, tokens_wait))
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)
        return None

    def headers(self) -> dict[str, str]:
        """Return the current `x-ratelimit-*` headers."""
        headers: dict[str, str] = {}
        for kind, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket:
                headers[f"x-ratelimit-limit-{kind}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{kind}"] = str(int(bucket.level))
        return headers


def retry_headers(wait: float) -> dict[str, str]:
    """Return `Retry-After` in whole seconds and `retry-after-ms`, both rounded up.

    Args:
        wait: seconds.
    """
    return {"Retry-After": str(max(1, math.ceil(wait))), "retry-after-ms": str(max(1, math.ceil(wait * 1000)))}
