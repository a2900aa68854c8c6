"""The emulator's counters, for tests and checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# The state of a body is one small integer: two flags for the routes that answered it, above them how often it was seen.
_ONLINE, _BATCH, _ANSWERED, _SEEN_ONCE = 1, 2, 3, 4


class Stats:
    """The counters of one emulator.

    A body takes 16 bytes and one small integer, so a million bodies fit easily in memory. A body counts as *answered*
    when a complete 200 with a complete answer was written. Reset, truncated, hanging and malformed responses do not
    count.

    Args:
        clock: returns seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Reset everything except the number of requests in flight."""
        self.requests = 0
        self.max_in_flight = self.in_flight
        self.status: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.distinct_ok = 0
        self.dup_ok = 0
        self.paid_twice = 0
        self.batches = 0
        self.batch_lines = 0
        self.lines_twice = 0
        self.lines_lost = 0
        self.files = 0
        self.polls = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._bodies: dict[bytes, int] = {}
        self._lines: set[bytes] = set()
        self._first_accepted: float | None = None
        self._accepted_per_second: list[int] = []

    @contextmanager
    def track_request(self) -> Iterator[None]:
        """Count one online request, and count it as in flight inside the `with` block."""
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def times_seen(self, body: bytes) -> int:
        """Return how often this body was marked as seen; a new body is added with zero."""
        return self._bodies.setdefault(body, 0) // _SEEN_ONCE

    def mark_seen(self, body: bytes) -> None:
        """Count this body as seen once more, so that its next attempt gets new draws."""
        self._bodies[body] = self._bodies.get(body, 0) + _SEEN_ONCE

    def count_accepted(self) -> None:
        """Count one online request that passed the quota, in its second since the first such request."""
        now = self._clock()
        if self._first_accepted is None:
            self._first_accepted = now
        second = int(now - self._first_accepted)
        self._accepted_per_second.extend([0] * (second + 1 - len(self._accepted_per_second)))
        self._accepted_per_second[second] += 1

    @property
    def accepted_total(self) -> int:
        """Number of online requests that passed the quota."""
        return sum(self._accepted_per_second)

    def count_answer(self, body: bytes, prompt_tokens: int, completion_tokens: int, *, batch: bool = False) -> None:
        """Count one complete answer, sent online or written as a line of a batch's output file."""
        route = _BATCH if batch else _ONLINE
        state = self._bodies.get(body, 0)
        self.paid_twice += 1 if state & _ANSWERED else 0
        self.dup_ok += 1 if state & route else 0
        self.distinct_ok += 0 if state & _ANSWERED else 1
        self._bodies[body] = state | route
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def count_batch(self, lines: list[bytes]) -> None:
        """Count one batch job and its accepted lines.

        Args:
            lines: the key of each line, derived from its custom_id and body.
        """
        self.batches += 1
        self.batch_lines += len(lines)
        self.lines_twice += sum(line in self._lines for line in lines)
        self._lines.update(lines)

    def snapshot(self) -> dict[str, Any]:
        """Return all counters, in the form of `GET /emulator/stats`."""
        return {
            "requests": self.requests,
            "status": {str(code): count for code, count in sorted(self.status.items())},
            "distinct": len(self._bodies),
            "distinct_ok": self.distinct_ok,
            "dup_ok": self.dup_ok,
            "paid_twice": self.paid_twice,
            "max_in_flight": self.max_in_flight,
            "in_flight": self.in_flight,
            "accepted_per_s": list(self._accepted_per_second),
            "batches": self.batches,
            "batch_lines": self.batch_lines,
            "lines_twice": self.lines_twice,
            "lines_lost": self.lines_lost,
            "files": self.files,
            "polls": self.polls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "faults": dict(sorted(self.faults.items())),
        }
