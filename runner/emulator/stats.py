"""What the emulator has seen and answered: counters for tests and checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ONLINE, _BATCH, _ANSWERED, _ONCE = 1, 2, 3, 4
"""A body's state in one small number: two flags for the lanes that answered it; above them how often it was seen."""


class Stats:
    """Counters of one emulator.

    A body is 16 bytes and one small number, so that a million of them fit easily. `answered` means that a whole
    200 with a whole answer was written: what was reset, cut off, hung or broken does not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but the requests that are under way."""
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
        self._accepted: list[int] = []

    @contextmanager
    def flight(self) -> Iterator[None]:
        """Count one online request from its arrival to its end."""
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def times_seen(self, body: bytes) -> int:
        """Return how often this body was let in before; a body that never was is noted."""
        return self._bodies.setdefault(body, 0) // _ONCE

    def let_in(self, body: bytes) -> None:
        """Note that this body was let in, so that its next attempt draws anew."""
        self._bodies[body] = self._bodies.get(body, 0) + _ONCE

    def accepted(self) -> None:
        """Count one online request that passed the quota, in its second since the first."""
        now = self._clock()
        if self._first_accepted is None:
            self._first_accepted = now
        second = int(now - self._first_accepted)
        self._accepted.extend([0] * (second + 1 - len(self._accepted)))
        self._accepted[second] += 1

    @property
    def accepted_in_all(self) -> int:
        """Online requests that passed the quota."""
        return sum(self._accepted)

    def answered(self, body: bytes, prompt_tokens: int, completion_tokens: int, *, batch: bool = False) -> None:
        """Count one whole answer, written online or as a line of a batch's output."""
        lane = _BATCH if batch else _ONLINE
        state = self._bodies.get(body, 0)
        self.paid_twice += 1 if state & _ANSWERED else 0
        self.dup_ok += 1 if state & lane else 0
        self.distinct_ok += 0 if state & _ANSWERED else 1
        self._bodies[body] = state | lane
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def created(self, lines: list[bytes]) -> None:
        """Count one batch job with its accepted lines, each by what identifies its custom_id and body."""
        self.batches += 1
        self.batch_lines += len(lines)
        self.lines_twice += sum(line in self._lines for line in lines)
        self._lines.update(lines)

    def snapshot(self) -> dict[str, Any]:
        """Return all counters as `GET /emulator/stats` gives them."""
        return {
            "requests": self.requests,
            "status": {str(code): count for code, count in sorted(self.status.items())},
            "distinct": len(self._bodies),
            "distinct_ok": self.distinct_ok,
            "dup_ok": self.dup_ok,
            "paid_twice": self.paid_twice,
            "max_in_flight": self.max_in_flight,
            "in_flight": self.in_flight,
            "accepted_per_s": list(self._accepted),
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
