"""The smallest number in flight with about the best throughput, found by trying.

A saturated server sends no 429: it answers later, and the throughput no longer rises with the number in flight.
"""

from __future__ import annotations

from math import inf, log, sqrt

import msgspec

SLOW_GROWTH = 0.05
"""Growth per clean round after the first sign of trouble; it doubles each time that growth has paid."""

STEP_RATIO = 1.4
"""Limits so far apart are compared: closer ones cannot be told from noise."""

GAIN_EXPONENT = 0.03
"""A limit larger by a factor f is worth it where the throughput grows by f to this power."""

MAX_ANSWERS_PER_COMPARISON = 400
"""After so many answers a comparison is decided, however close it is."""

EXTRA_VARIANCE = 4e-4
"""Relative variance of a throughput on top of what its answers show: they come in clumps and are not independent."""

BURST_LATENCY_SHARE = 0.02
"""Answers within this part of the latency are a clump."""

MIN_HOLD_ROUNDS = 4
MAX_HOLD_ROUNDS = 32
DROP_SHARE = 0.7
"""Rests between two probes, in rounds; at the top there is no probe unless the throughput fell to this share."""


class ThroughputSample(msgspec.Struct, frozen=True):
    """What a limit gave: answers a second, and the relative variance of that figure."""

    limit: int
    rate: float
    variance: float


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
        self._burst_began, self._burst_in_flight = -inf, 0

    def add(self, seconds: float, in_flight: int, now: float, usual: float) -> None:
        """Note an answer, and how many were in flight with it; `usual` is the latency of late."""
        self.answers += 1
        self.seconds += seconds
        self.squares += seconds * seconds
        if now - self._burst_began > BURST_LATENCY_SHARE * usual:
            self._burst_began, self._burst_in_flight = now, in_flight
        elif in_flight > self._burst_in_flight:
            self._burst_in_flight = in_flight
        self.in_flight += self._burst_in_flight

    def sample(self, limit: int) -> ThroughputSample:
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
        max_limit: the largest one.
    """

    def __init__(self, start: int, max_limit: int) -> None:
        self.limit = self._goal = start
        self.fast = True
        self._max_limit = max_limit
        self._step = SLOW_GROWTH
        self._base: ThroughputSample | None = None
        self._going_up = True
        self._rounds_to_settle = 1
        self._rounds_to_hold = 0
        self._hold_rounds = MIN_HOLD_ROUNDS

    def cut(self, limit: int, fast: bool) -> None:
        """Begin again from a lower limit; whether growth stays as fast as it was."""
        self.limit = self._goal = max(1, min(limit, self.limit))
        self.fast = self.fast and fast
        self._step, self._hold_rounds, self._rounds_to_hold = SLOW_GROWTH, MIN_HOLD_ROUNDS, 0
        self._base, self._going_up = None, True

    def restart(self, limit: int) -> None:
        """Begin again from few: back to where it was in a few rounds, gently from there."""
        goal = self._goal
        self.cut(limit, fast=False)
        self._goal, self._step = goal, 1.0

    def on_trouble(self) -> None:
        """Something is wrong that is no 429: grow gently from now on."""
        self.fast, self._step = False, SLOW_GROWTH

    def on_round(self, measure: ThroughputMeter) -> bool:
        """Choose the next limit after a clean round at this one; whether to measure afresh."""
        if self.limit < self._goal:
            return self._grow()
        if self._rounds_to_settle:
            self._rounds_to_settle -= 1
            return True
        seen = measure.sample(self.limit)
        if self._rounds_to_hold:
            self._rounds_to_hold -= 1
            return False if self._rounds_to_hold else self._after_hold(seen)
        if self._base is None:
            return self._next_step(seen)
        return self._compare(self._base, seen, measure.answers)

    def _compare(self, base: ThroughputSample, seen: ThroughputSample, answers: int) -> bool:
        """Take what was seen for the new base, go back to the old one, or look longer.

        Down only where it is certain, up where it is likely: a limit too high costs less than one too low.
        """
        low, high = (base, seen) if self._going_up else (seen, base)
        surplus = log(high.rate / low.rate) - GAIN_EXPONENT * log(high.limit / low.limit)
        better = (surplus >= 0) is self._going_up
        doubt = sqrt(low.variance + high.variance + EXTRA_VARIANCE)
        if answers < MAX_ANSWERS_PER_COMPARISON and abs(surplus) < (doubt if better and self._going_up else 2 * doubt):
            return False
        if better:
            self._hold_rounds = MIN_HOLD_ROUNDS
            if self._going_up:
                self._step = min(1.0, 2 * self._step)
            return self._next_step(seen)
        self.on_trouble()
        self._going_up = not self._going_up
        return self._hold_at(base.limit)

    def _after_hold(self, seen: ThroughputSample) -> bool:
        """Set out again; from the top only where the throughput fell, or the probe would cost for nothing."""
        before = self._base
        if before is not None and seen.rate < DROP_SHARE * before.rate:
            self._going_up = False
        elif self._going_up and self.limit == self._max_limit:
            self._base = seen
            return self._hold_at(self.limit)
        return self._next_step(seen)

    def _next_step(self, base: ThroughputSample) -> bool:
        """Go from a new base to the next limit in the direction taken."""
        self._base = base
        if self._going_up:
            goal = min(
                self._max_limit, base.limit * 2 if self.fast else max(base.limit + 1, int(base.limit * STEP_RATIO))
            )
        else:
            goal = max(1, int(base.limit / STEP_RATIO))
        if goal == base.limit:
            self._going_up = not self._going_up
            return self._hold_at(goal)
        self._goal = goal
        self._rounds_to_settle = 0 if self.fast else 1 if self._going_up else 2
        if self._going_up and not self.fast:
            return self._grow()
        self.limit = goal
        return True

    def _grow(self) -> bool:
        self.limit = min(self._goal, self.limit + max(1, int(self.limit * self._step)))
        return True

    def _hold_at(self, limit: int) -> bool:
        self.limit = self._goal = limit
        self._rounds_to_settle = 2
        self._rounds_to_hold = self._hold_rounds
        self._hold_rounds = min(MAX_HOLD_ROUNDS, 2 * self._hold_rounds)
        return True
