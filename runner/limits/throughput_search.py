"""The smallest number in flight with about the best throughput, found by trying.

A saturated server sends no 429: it answers later, and the throughput no longer rises with the number in flight.
"""

from __future__ import annotations

from math import inf, log, sqrt

import msgspec

GENTLE = 0.05
"""Growth per clean round after the first sign of trouble; it doubles each time that growth has paid."""

STRIDE = 1.4
"""Limits so far apart are compared: closer ones cannot be told from noise."""

WORTH = 0.03
"""A limit larger by a factor f is worth it where the throughput grows by f to this power."""

ENOUGH = 400
"""After so many answers a comparison is decided, however close it is."""

DRIFT = 4e-4
"""Relative variance of a throughput on top of what its answers show: they come in clumps and are not independent."""

CLUMP = 0.02
"""Answers within this part of the latency are a clump."""

FIRST_HOLD = 4
LAST_HOLD = 32
FELL = 0.7
"""Rests between two probes, in rounds; at the top there is no probe unless the throughput fell to this share."""


class ThroughputSample(msgspec.Struct, frozen=True):
    """What a limit gave: answers a second, and the relative variance of that figure."""

    limit: int
    rate: float
    doubt: float


class ThroughputMeter:
    """Answers of the rounds at one limit, for their throughput: by Little's law, number in flight over latency.

    Unlike a count per second it is right where answers come in clumps. Of a clump the first one counts: that fewer are
    in flight for the moment until others take their places says nothing.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.seconds = 0.0
        self.squares = 0.0
        self.in_flight = 0
        self._clump, self._there = -inf, 0

    def add(self, seconds: float, in_flight: int, now: float, usual: float) -> None:
        """Note an answer, and how many were in flight with it; `usual` is the latency of late."""
        self.answers += 1
        self.seconds += seconds
        self.squares += seconds * seconds
        if now - self._clump > CLUMP * usual:
            self._clump, self._there = now, in_flight
        elif in_flight > self._there:
            self._there = in_flight
        self.in_flight += self._there

    def seen(self, limit: int) -> ThroughputSample:
        """The throughput at this limit."""
        seconds = max(self.seconds, 1e-9)
        spread = max(0.0, self.squares * self.answers / (seconds * seconds) - 1)
        return ThroughputSample(limit, self.in_flight / seconds, spread / self.answers)


class ThroughputSearch:
    """Looks for the smallest limit with about the best throughput.

    A base that was measured is compared with a limit above it, later with one below, and so on; what proves better is
    the next base. Between the probes it rests at the base, longer each time that nothing better was found.

    Attributes:
        limit: the limit just now.
        fast: whether nothing went wrong yet, so that each clean round doubles the limit.

    Args:
        start: the first limit.
        most: the largest one.
    """

    def __init__(self, start: int, most: int) -> None:
        self.limit = self._goal = start
        self.fast = True
        self._most = most
        self._step = GENTLE
        self._base: ThroughputSample | None = None
        self._up = True
        self._settling = 1
        self._resting = 0
        self._hold = FIRST_HOLD

    def cut(self, limit: int, fast: bool) -> None:
        """Begin again from a lower limit; whether growth stays as fast as it was."""
        self.limit = self._goal = max(1, min(limit, self.limit))
        self.fast = self.fast and fast
        self._step, self._hold, self._resting = GENTLE, FIRST_HOLD, 0
        self._base, self._up = None, True

    def again(self, limit: int) -> None:
        """Begin again from few: back to where it was in a few rounds, gently from there."""
        goal = self._goal
        self.cut(limit, fast=False)
        self._goal, self._step = goal, 1.0

    def trouble(self) -> None:
        """Something is wrong that is no 429: grow gently from now on."""
        self.fast, self._step = False, GENTLE

    def clean_round(self, measure: ThroughputMeter) -> bool:
        """Choose the next limit after a clean round at this one; whether to measure afresh."""
        if self.limit < self._goal:
            return self._grow()
        if self._settling:
            self._settling -= 1
            return True
        seen = measure.seen(self.limit)
        if self._resting:
            self._resting -= 1
            return False if self._resting else self._rested(seen)
        if self._base is None:
            return self._set_out(seen)
        return self._compare(self._base, seen, measure.answers)

    def _compare(self, base: ThroughputSample, seen: ThroughputSample, answers: int) -> bool:
        """Take what was seen for the new base, go back to the old one, or look longer.

        Down only where it is certain, up where it is likely: a limit too high costs less than one too low.
        """
        low, high = (base, seen) if self._up else (seen, base)
        surplus = log(high.rate / low.rate) - WORTH * log(high.limit / low.limit)
        better = (surplus >= 0) is self._up
        doubt = sqrt(low.doubt + high.doubt + DRIFT)
        if answers < ENOUGH and abs(surplus) < (doubt if better and self._up else 2 * doubt):
            return False
        if better:
            self._hold = FIRST_HOLD
            if self._up:
                self._step = min(1.0, 2 * self._step)
            return self._set_out(seen)
        self.trouble()
        self._up = not self._up
        return self._rest(base.limit)

    def _rested(self, seen: ThroughputSample) -> bool:
        """Set out again; from the top only where the throughput fell, or the probe would cost for nothing."""
        before = self._base
        if before is not None and seen.rate < FELL * before.rate:
            self._up = False
        elif self._up and self.limit == self._most:
            self._base = seen
            return self._rest(self.limit)
        return self._set_out(seen)

    def _set_out(self, base: ThroughputSample) -> bool:
        """Go from a new base to the next limit in the direction taken."""
        self._base = base
        if self._up:
            goal = min(self._most, base.limit * 2 if self.fast else max(base.limit + 1, int(base.limit * STRIDE)))
        else:
            goal = max(1, int(base.limit / STRIDE))
        if goal == base.limit:
            self._up = not self._up
            return self._rest(goal)
        self._goal = goal
        self._settling = 0 if self.fast else 1 if self._up else 2
        if self._up and not self.fast:
            return self._grow()
        self.limit = goal
        return True

    def _grow(self) -> bool:
        self.limit = min(self._goal, self.limit + max(1, int(self.limit * self._step)))
        return True

    def _rest(self, limit: int) -> bool:
        self.limit = self._goal = limit
        self._settling = 2
        self._resting = self._hold
        self._hold = min(LAST_HOLD, 2 * self._hold)
        return True
