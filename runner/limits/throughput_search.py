"""Finds the smallest concurrency with near-maximal throughput by hill climbing.

A saturated server sends no 429: it answers later, and the throughput no longer rises with the requests in flight.
"""

from __future__ import annotations

from math import inf, log, sqrt

import msgspec

SLOW_GROWTH = 0.05  # growth per clean round after the first sign of trouble; it doubles whenever growth has paid
STEP_RATIO = 1.4  # ratio between two limits that are compared: closer ones differ by less than the noise
GAIN_EXPONENT = 0.03  # a limit larger by a factor f pays if the throughput grows by at least f to this power
MAX_ANSWERS_PER_COMPARISON = 400  # a comparison is decided after this many answers, however close it is

# Relative variance of a throughput beyond what its answers show: they arrive in bursts and are not independent.
EXTRA_VARIANCE = 4e-4

BURST_LATENCY_SHARE = 0.02  # answers within this share of the latency are one burst

# Rounds without a probe between two probes. At the largest limit there is no probe at all
MIN_HOLD_ROUNDS = 4
MAX_HOLD_ROUNDS = 32
# unless the throughput fell to this share.
DROP_SHARE = 0.7


class ThroughputSample(msgspec.Struct, frozen=True):
    """The throughput at one limit: answers per second, and the relative variance of that figure."""

    limit: int
    rate: float
    variance: float


class ThroughputMeter:
    """Measures the throughput of the rounds at one limit by Little's law: requests in flight over latency.

    Unlike a count per second this is right when answers arrive in bursts. The first answer of a burst decides how many
    were in flight: the dip until new requests have replaced the answered ones says nothing.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.seconds = 0.0
        self.squares = 0.0
        self.in_flight = 0
        self._burst_began, self._burst_in_flight = -inf, 0

    def add(self, seconds: float, in_flight: int, now: float, usual: float) -> None:
        """Add an answer, and how many requests were in flight with it; `usual` is the recent latency in seconds."""
        self.answers += 1
        self.seconds += seconds
        self.squares += seconds * seconds
        if now - self._burst_began > BURST_LATENCY_SHARE * usual:
            self._burst_began, self._burst_in_flight = now, in_flight
        elif in_flight > self._burst_in_flight:
            self._burst_in_flight = in_flight
        self.in_flight += self._burst_in_flight

    def sample(self, limit: int) -> ThroughputSample:
        """Return the throughput at this limit."""
        seconds = max(self.seconds, 1e-9)
        spread = max(0.0, self.squares * self.answers / (seconds * seconds) - 1)
        return ThroughputSample(limit, self.in_flight / seconds, spread / self.answers)


class ThroughputSearch:
    """Searches for the smallest limit with near-maximal throughput.

    A measured base is compared with a limit above it, later with one below it, and so on; the better one is the next
    base. Between two probes the search holds the limit at the base, longer each time that nothing better was found.

    Attributes:
        limit: the current limit on requests in flight.
        fast: True until the first problem; each clean round then doubles the limit.

    Args:
        start: the first limit.
        max_limit: the largest limit.
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
        """Start over from a lower limit; `fast` keeps the growth as fast as it was."""
        self.limit = self._goal = max(1, min(limit, self.limit))
        self.fast = self.fast and fast
        self._step, self._hold_rounds, self._rounds_to_hold = SLOW_GROWTH, MIN_HOLD_ROUNDS, 0
        self._base, self._going_up = None, True

    def restart(self, limit: int) -> None:
        """Start over from a small limit: grow back to the old one in a few rounds, and slowly from there."""
        goal = self._goal
        self.cut(limit, fast=False)
        self._goal, self._step = goal, 1.0

    def on_trouble(self) -> None:
        """Note a problem that is no 429: grow slowly from now on."""
        self.fast, self._step = False, SLOW_GROWTH

    def on_round(self, measure: ThroughputMeter) -> bool:
        """Choose the next limit after a clean round at this one; returns True if a new measurement starts."""
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
        """Take the new sample as the base, go back to the old base, or measure longer.

        The limit goes down only if that is certainly better, and up if it is likely better: a limit that is too high
        costs less than one that is too low.
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
        """Probe again; at the largest limit only if the throughput fell, because the probe would cost for nothing."""
        before = self._base
        if before is not None and seen.rate < DROP_SHARE * before.rate:
            self._going_up = False
        elif self._going_up and self.limit == self._max_limit:
            self._base = seen
            return self._hold_at(self.limit)
        return self._next_step(seen)

    def _next_step(self, base: ThroughputSample) -> bool:
        """Go from a new base to the next limit in the current direction."""
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
