"""How many requests may be under way, where the YAML gives only bounds: learned from how the service answers.

Pure: it is told what happened and when, and keeps no clock. Three things are learned apart, because they come apart:

- the *limit*, a number in flight (`Climb`): up while throughput rises with it, back to where it stopped rising;
- the *pace*, requests a second (`Pace`): most 429s come from a rate, which no number in flight can hold exactly;
- the *cooldown*, a moment before which nobody sends.
"""

from __future__ import annotations

from math import log, sqrt

import msgspec

IN_USE = 0.8
"""A round tells something about its limit only where so much of it was used."""

STRAY = 0.05
"""So small a share of 429s or of failures is no sign of anything."""

CUT = 0.8
COOLDOWN = 0.1
"""Seconds of silence after a wave where the service names none: it lets a bucket recover."""

GENTLE = 0.05
"""Growth per clean round after the first sign of trouble; it doubles each time that growth has paid."""

STRIDE = 1.4
"""Limits are compared that lie so far apart: closer ones cannot be told from noise."""

WORTH = 0.07
"""A limit larger by a factor f is worth it where the throughput grows by f to this power."""

ENOUGH = 400
"""After so many answers a comparison is decided, however close it is."""

FIRST_HOLD = 4
LAST_HOLD = 32
FELL = 0.7

FIRST_APPROACH = 1.0
LAST_APPROACH = 16.0
ALIKE = 0.15
LEAST_PACE = 1 / 60
START_AGAIN = 20
LATE = 0.01
"""Seconds that a sender may be late and still catch up: timers are."""


class Seen(msgspec.Struct, frozen=True):
    """What a limit gave: answers a second, and the relative variance of that figure."""

    limit: int
    rate: float
    doubt: float


class Measure:
    """Answers of the rounds at one limit, for their throughput: by Little's law, number in flight over latency.

    That needs no clock, and unlike a count per second it is right where answers come in clumps.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.seconds = 0.0
        self.squares = 0.0
        self.in_flight = 0

    def seen(self, limit: int) -> Seen:
        """The throughput at this limit."""
        seconds = max(self.seconds, 1e-9)
        spread = max(0.0, self.squares * self.answers / (seconds * seconds) - 1)
        return Seen(limit, self.in_flight / seconds, spread / self.answers)


class Climb:
    """Looks for the smallest limit with about the best throughput.

    A base that was measured is compared with a limit above it, later with one below, and so on; what proves better is
    the new base. Between the probes it rests at the base, longer each time that nothing better was found.

    Args:
        start: the first limit.
        most: the largest one.
    """

    def __init__(self, start: int, most: int) -> None:
        self.limit = start
        self.fast = True
        self._most = most
        self._step = GENTLE
        self._base: Seen | None = None
        self._goal = start
        self._up = True
        self._resting = 0
        self._hold = FIRST_HOLD
        self._settling = True

    def cut(self, limit: int) -> None:
        """Begin again from a lower limit, gently."""
        self.limit = self._goal = max(1, min(limit, self.limit))
        self.fast, self._up = False, True
        self._step, self._hold, self._resting = GENTLE, FIRST_HOLD, 0
        self._base = None

    def trouble(self) -> None:
        """Something is wrong that is no 429: grow gently from now on."""
        self.fast = False
        self._step = GENTLE

    def clean_round(self, measure: Measure) -> bool:
        """Choose the next limit after a clean round at this one; whether to measure afresh."""
        if self.limit < self._goal:
            grown = self.limit + max(1, int(self.limit * self._step))
            self.limit = min(self._goal, grown)
            return True
        if self._settling:
            self._settling = False
            return True
        seen = measure.seen(self.limit)
        if self._resting:
            self._resting -= 1
            return False if self._resting else self._rested(seen)
        if self._base is None or self._base.limit == self.limit:
            return self._leave(seen)
        return self._compare(self._base, seen, measure.answers)

    def _compare(self, base: Seen, seen: Seen, answers: int) -> bool:
        low, high = (base, seen) if self._up else (seen, base)
        surplus = log(high.rate / low.rate) - WORTH * log(high.limit / low.limit)
        if abs(surplus) < 2 * sqrt(low.doubt + high.doubt + 1e-4) and answers < ENOUGH:
            return False
        if (surplus >= 0) is self._up:
            self._hold = FIRST_HOLD
            if self._up:
                self._step = min(1.0, 2 * self._step)
            return self._leave(seen)
        self.fast, self._step = False, GENTLE
        self._up = not self._up
        return self._rest(base.limit)

    def _rested(self, seen: Seen) -> bool:
        """Go on to the next probe; at the top only where the throughput fell, or it would cost for nothing."""
        before = self._base
        if before is not None and before.limit == seen.limit and seen.rate < FELL * before.rate:
            self._up = False
        elif self.limit == self._most:
            self._base = seen
            return self._rest(self.limit)
        return self._leave(seen)

    def _leave(self, base: Seen) -> bool:
        """Set out from a new base to the next limit in the direction taken."""
        self._base = base
        if not self._up:
            goal = int(base.limit / STRIDE)
        elif self.fast:
            goal = base.limit * 2
        else:
            goal = max(base.limit + 1, int(base.limit * STRIDE))
        goal = max(1, min(self._most, goal))
        if goal == base.limit:
            self._up = True
            return self._rest(goal)
        return self._set_out(goal)

    def _set_out(self, goal: int) -> bool:
        self._goal = goal
        self._settling = self._step == GENTLE and not self.fast
        if self.fast or goal < self.limit:
            self.limit = goal
        else:
            self.limit = min(goal, self.limit + max(1, int(self.limit * self._step)))
        return True

    def _rest(self, limit: int) -> bool:
        self.limit = self._goal = limit
        self._settling = True
        self._resting = self._hold
        self._hold = min(LAST_HOLD, 2 * self._hold)
        return True


class Pace:
    """The rate at which to send, once 429s have shown that there is one.

    After a wave it follows a cubic, as TCP CUBIC's window does: from a little below the rate that was accepted back up
    to it, long just there, then ever faster beyond, to find out whether there is more. Waves that come at the same
    rate again and again make the approach longer.
    """

    def __init__(self) -> None:
        self.level: float | None = None
        self._since = 0.0
        self._approach = FIRST_APPROACH
        self._depth = 0.2

    def at(self, now: float) -> float | None:
        """Requests a second, or None while no limit is known."""
        if self.level is None:
            return None
        progress = max(0.0, now - self._since) / self._approach - 1
        return max(LEAST_PACE, self.level * (1 + self._depth * progress**3))

    def cut(self, now: float, rate: float, share: float) -> None:
        """A wave came.

        Args:
            now: when.
            rate: requests a second that were accepted, where no pace was kept.
            share: how much of what was sent at the pace got a 429; in an outage this says nothing, so half of the pace
                is cut at most.
        """
        pace = self.at(now)
        level = max(LEAST_PACE, rate if pace is None else pace * max(0.5, 1 - share))
        if self.level is not None and abs(level - self.level) < ALIKE * self.level:
            self._approach = min(max(LAST_APPROACH, 200 / level), 2 * self._approach)
            self._depth = 0.1
        else:
            self._approach = max(FIRST_APPROACH, 10 / level)
            self._depth = 0.2
        self.level, self._since = level, now

    def lift(self) -> None:
        """Forget the rate: it is so high by now that it holds nobody back."""
        self.level = None


class Adaptive:
    """How many requests may be under way, and when the next one may be sent.

    Every request is announced with `sent` and ends in exactly one of `succeeded`, `throttled`, `failed` and `left`.

    Args:
        start: the first limit.
        most: the limit is never larger.
        patience: the longest time that a service can ask for, in seconds.
    """

    def __init__(self, start: int, most: int, patience: float) -> None:
        self.limit = max(1, min(start, most))
        self.in_flight = 0
        self._most = max(1, most)
        self._patience = patience
        self._climb = Climb(self.limit, self._most)
        self._pace = Pace()
        self._quiet_until = 0.0
        self._next = 0.0
        self._sent = 0
        self._cut = 0
        self._latency: float | None = None
        self._heat = 0.0
        self._hint = 0.0
        self._hot = self._first_hot = 0
        self._begin_round()
        self._measure = Measure()

    def wait(self, now: float) -> float:
        """Seconds from now in which no new request should be sent: the cooldown, and the pace."""
        if now < self._quiet_until:
            return self._quiet_until - now
        return 0.0 if self._pace.level is None else max(0.0, self._next - now)

    def pace(self, now: float) -> float | None:
        """Requests a second that are sent at most, or None while no such limit is known."""
        return self._pace.at(now)

    def sent(self, now: float) -> int:
        """A request goes out; the stamp that it comes back with."""
        self._sent += 1
        self.in_flight = in_flight = self.in_flight + 1
        if in_flight > self._peak:
            self._peak = in_flight
        if self._pace.level is not None:
            self._tick(now)
        return self._sent

    def succeeded(self, stamp: int, seconds: float) -> None:
        """The request was answered after so many seconds."""
        in_flight = self._end()
        if self._latency is None:
            self._latency = seconds
        self._latency += 0.02 * (seconds - self._latency)
        if stamp <= self._cut:
            return
        if self._heat > 0.0:
            self._heat -= STRAY
        measure = self._measure
        measure.answers += 1
        measure.seconds += seconds
        measure.squares += seconds * seconds
        measure.in_flight += in_flight
        self._answers += 1
        if self._answers >= self.limit:
            self._end_round()

    def throttled(self, stamp: int, now: float, hint: float | None = None) -> bool:
        """The request got a 429; whether this was the sign of a wave, and everybody slows down.

        Args:
            stamp: what `sent` gave.
            now: when the 429 came.
            hint: seconds that the service asks to wait.
        """
        in_flight = self._end()
        if stamp <= self._cut:
            return False
        if self._heat <= 0.0:
            self._heat, self._hint, self._hot, self._first_hot = 0.0, 0.0, 0, stamp
        self._heat += 1
        self._hot += 1
        self._hint = max(self._hint, hint or 0.0)
        if self._heat < min(5, max(2, STRAY * self.limit)):
            return False
        self._slow_down(now, in_flight, (self._hot - 1) / max(1, stamp - self._first_hot))
        return True

    def failed(self, stamp: int) -> None:
        """The request got a 5xx, no answer, or none in time."""
        self._end()
        if stamp > self._cut:
            self._failures += 1

    def left(self) -> None:
        """The request was given up, or answered in a way that says nothing about load."""
        self._end()

    def resume(self) -> None:
        """The service answers again after an outage: begin with few, whatever it took before."""
        self._restart(min(self.limit, START_AGAIN))

    def _end(self) -> int:
        in_flight = self.in_flight
        if in_flight:
            self.in_flight = in_flight - 1
        return in_flight

    def _slow_down(self, now: float, in_flight: int, share: float) -> None:
        if self._latency:
            self._pace.cut(now, in_flight / self._latency, share)
        self._quiet_until = max(self._quiet_until, now + min(self._patience, max(COOLDOWN, self._hint)))
        self._restart(int(CUT * self.limit))

    def _restart(self, limit: int) -> None:
        self._cut = self._sent
        self._heat = 0.0
        self._climb.cut(limit)
        self._begin_round()
        self._measure = Measure()

    def _tick(self, now: float) -> None:
        pace = self._pace.at(now)
        if pace is not None:
            self._next = max(self._next, now - LATE) + 1 / pace

    def _begin_round(self) -> None:
        self.limit = self._climb.limit
        self._answers = self._failures = 0
        self._peak = self.in_flight

    def _end_round(self) -> None:
        used = self._peak >= IN_USE * self.limit
        clean = self._failures < 2 or self._failures < STRAY * self._answers
        afresh = True
        if not clean:
            self._climb.trouble()
        elif used:
            afresh = self._climb.clean_round(self._measure)
        if afresh:
            self._measure = Measure()
        self._begin_round()
