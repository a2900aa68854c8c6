"""How many requests may be under way, where the YAML gives only bounds: learned from how the service answers.

Pure: it is told what happened and when, and keeps no clock. Three things are learned apart, for they differ:

- the *limit*, a number in flight (`climb.Climb`): up while the throughput rises with it, back to where it stopped;
- the *pace*, requests a second (`Pace`): most 429s come from a rate, which no number in flight can hold exactly;
- the *cooldown*, a moment before which nobody sends.
"""

from __future__ import annotations

from math import exp

from runner.online.climb import Climb, Measure

IN_USE = 0.8
"""A round tells something about its limit only where so much of it was used."""

STRAY = 0.05
"""So small a share of 429s, or of failures, is no sign of anything."""

WAVE = 5
"""So many 429s, the stray ones discounted, are a wave."""

CUT = 0.8
COOLDOWN = 0.1
LONGEST = 10.0
"""Seconds of silence after a wave where the service asks for none: it lets a bucket recover. They double from wave to
wave while nothing that was sent since the last cut has succeeded.
"""

AGAIN = 20
"""After an outage no more than so many begin."""

EVEN = 1.25
"""The pace is at most so much above what the limit lets through on average."""

LATE = 0.01
EARLY = 1.0
"""Seconds that a sender may be late and still catch up, as timers are; and so much is made up for at most."""

SLOWEST = 1 / 60
MARGIN = 0.98
ALIKE = 0.25
"""Waves whose rates differ by less confirm each other."""

FIRST_APPROACH = (1.0, 10.0)
LAST_APPROACH = (16.0, 800.0)
"""How long the pace takes back to the rate of the last wave: seconds, and at least so many requests."""


class Pace:
    """The rate at which to send, once 429s have shown that there is one.

    After a wave its logarithm follows a cubic, as TCP CUBIC's window does: from a little below the rate that was
    accepted back up to it, long just there, then ever faster beyond, to see whether there is more. Waves that come at
    the same rate again and again make the approach longer.

    Attributes:
        level: requests a second that were accepted when the last wave came, or None.
        tolerance: the share of 429s that is taken for stray. It rises with waves that a lower rate did not prevent.
    """

    def __init__(self) -> None:
        self.level: float | None = None
        self.tolerance = STRAY
        self._since = 0.0
        self._approach = 0.0
        self._depth = 0.0

    def at(self, now: float) -> float | None:
        """Requests a second, or None while no rate is known."""
        if self.level is None:
            return None
        progress = min(10.0, max(0.0, now - self._since) / self._approach - 1)
        return max(SLOWEST, self.level * exp(self._depth * progress**3))

    def cut(self, begin: float, rate: float, share: float) -> None:
        """A wave came.

        Args:
            begin: when sending begins again.
            rate: requests a second that were sent.
            share: how much of that got a 429. An outage, and a bucket for one, make it larger than it should be: at
                once it takes the rate down to the known level or by a fifth, and by half where none is known.
        """
        known = self.level
        lowest = rate / 2 if known is None else min(known, CUT * rate)
        accepted = rate * (1 - share)
        futile = known is not None and lowest < accepted and rate < known
        self.tolerance = min(0.5, self.tolerance * 1.5) if futile else max(STRAY, self.tolerance / 1.5)
        level = max(SLOWEST, MARGIN * max(lowest, accepted))
        if known is not None and abs(level - known) < ALIKE * known:
            self._approach = min(max(LAST_APPROACH[0], LAST_APPROACH[1] / level), 2 * self._approach)
            self._depth = 0.1
        else:
            self._approach = max(FIRST_APPROACH[0], FIRST_APPROACH[1] / level)
            self._depth = 0.2
        self.level, self._since = level, begin

    def resume(self, now: float) -> None:
        """Approach the level once more from below."""
        self._since = now


class Adaptive:
    """How many requests may be under way, and when the next one may be sent.

    Every request is announced with `sent` and ends in exactly one of `succeeded`, `throttled`, `failed` and `left`.
    Who sends keeps `in_flight` below `limit`, and sends nothing for as long as `wait` says.

    Args:
        start: the first limit.
        most: the limit is never larger.
        patience: seconds of silence that a service can ask for at most.
    """

    def __init__(self, start: int, most: int, patience: float) -> None:
        self.limit = max(1, min(start, most))
        self.in_flight = 0
        self.quiet_until = 0.0
        self._most = most
        self._patience = patience
        self._climb = Climb(self.limit, most)
        self._pace = Pace()
        self._next = 0.0
        self._sent = self._cut = self._good = 0
        self._lowered = -1
        self._cooldown = COOLDOWN
        self._latency: float | None = None
        self._heat = 0.0
        self._hint = 0.0
        self._hot = self._first_hot = 0
        self._measure = Measure()
        self._answers = self._failures = self._peak = 0

    def wait(self, now: float) -> float:
        """Seconds from now in which nobody should send: the cooldown, and the pace."""
        if now < self.quiet_until:
            return self.quiet_until - now
        return 0.0 if self._pace.level is None else max(0.0, self._next - now)

    def pace(self, now: float) -> float | None:
        """Requests a second that are sent at most, or None while no such rate is known.

        Never much more than the limit lets through: where answers come in clumps, requests would as well.
        """
        pace = self._pace.at(now)
        return None if pace is None else min(pace, EVEN * self.limit / self._usual_latency())

    def sent(self, now: float) -> int:
        """A request goes out; the stamp that it comes back with."""
        self._sent += 1
        self.in_flight = in_flight = self.in_flight + 1
        if in_flight > self._peak:
            self._peak = in_flight
        pace = self.pace(now)
        if pace is not None:
            self._next = min(max(self._next, now - LATE), now + EARLY) + 1 / pace
        return self._sent

    def succeeded(self, stamp: int, seconds: float) -> None:
        """The request was answered after so many seconds."""
        in_flight = self._end()
        if self._latency is None:
            self._latency = seconds
        self._latency += 0.02 * (seconds - self._latency)
        if stamp > self._good:
            self._good = stamp
        if stamp <= self._cut:
            return
        if self._heat > 0.0:
            self._heat -= self._pace.tolerance
        measure = self._measure
        measure.answers += 1
        measure.seconds += seconds
        measure.squares += seconds * seconds
        measure.in_flight += in_flight
        self._answers += 1
        if self._answers >= self.limit:
            self._end_round()

    def throttled(self, stamp: int, now: float, hint: float | None = None) -> bool:
        """The request got a 429; whether this completes a wave, so that everybody slows down.

        The 429s of requests that were sent before the cut belong to its wave and change nothing any more.

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
        if self._heat < WAVE:
            return False
        self._slow_down(now, in_flight, (self._hot - 1) / max(1, stamp - self._first_hot))
        return True

    def failed(self, stamp: int) -> None:
        """The request got a 5xx, or no answer in time."""
        self._end()
        if stamp > self._cut:
            self._failures += 1

    def left(self) -> None:
        """The request was given up, or ended in a way that says nothing about load."""
        self._end()

    def resume(self, now: float) -> None:
        """The service answers again after an outage: begin with few, whatever it took before."""
        self._pace.resume(now)
        self._restart(min(self.limit, AGAIN), fast=False)

    def _end(self) -> int:
        """Count a request out; how many were in flight with it."""
        in_flight = self.in_flight
        if in_flight <= 0:
            return 1
        self.in_flight = in_flight - 1
        return in_flight

    def _slow_down(self, now: float, in_flight: int, share: float) -> None:
        """Keep still for a while; cut the limit and set the pace, if the last cut had time to show what it does.

        Where nothing that was sent since then has succeeded, this is an outage, or a queue of old sins. The first wave
        says more of a rate than of a number in flight: with a pace from then on, growth stays fast.
        """
        heard = self._good > self._lowered
        self._cooldown = COOLDOWN if heard else min(LONGEST, 2 * self._cooldown)
        self.quiet_until = max(self.quiet_until, now + min(self._patience, max(self._cooldown, self._hint)))
        pace = self.pace(now)
        if not heard:
            self._restart(self.limit, fast=False)
            return
        if pace is not None:
            self._pace.cut(self.quiet_until, pace, share)
        elif self._latency is not None:
            self._pace.cut(self.quiet_until, in_flight / self._usual_latency(), 0.0)
        self._lowered = self._sent
        self._restart(int(CUT * self.limit), fast=pace is None)

    def _restart(self, limit: int, fast: bool) -> None:
        self._cut = self._sent
        self._heat = 0.0
        self._climb.cut(limit, fast)
        self._measure = Measure()
        self._begin_round()

    def _usual_latency(self) -> float:
        return max(self._latency or 0.0, 1e-6)

    def _begin_round(self) -> None:
        self.limit = self._climb.limit
        self._answers = self._failures = 0
        self._peak = self.in_flight

    def _end_round(self) -> None:
        afresh = True
        if self._failures > max(1.0, STRAY * self._answers):
            self._climb.trouble()
        elif self._peak >= IN_USE * self.limit:
            afresh = self._climb.clean_round(self._measure)
        if afresh:
            self._measure = Measure()
        self._begin_round()
