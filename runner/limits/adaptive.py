"""How many requests may be under way, where the YAML gives only bounds: learned from how the service answers.

Pure: it is told what happened and when, and keeps no clock. Three things are learned apart, for they differ:

- the *limit*, a number in flight (`climb.Climb`): up while the throughput rises with it, back to where it stopped;
- the *pace*, requests a second (`pace.Pace`): most 429s come from a rate, which no number in flight can hold exactly;
- the *cooldown*, a moment before which nobody sends.
"""

from __future__ import annotations

from runner.limits.send_rate import CUT, STRAY, SendRate, ThrottleDetector, ThrottleEpisode
from runner.limits.throughput_search import ThroughputMeter, ThroughputSearch

IN_USE = 0.8
"""A round tells something about its limit only where so much of it was used."""

COOLDOWN = 0.1
LONGEST = 10.0
"""Seconds of silence after a wave where the service asks for none: it lets a bucket recover. They double from wave to
wave while nothing that was sent since the last cut has succeeded.
"""

AGAIN = 20
"""After an outage no more than so many begin."""

EVEN = 1.25
"""The pace is at most so much above what the limit lets through on average."""

LATE = 0.02
EARLY = 1.0
"""Seconds that a sender may be late and still catch up, as timers are; and so much is made up for at most."""


class AdaptiveController:
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
        self._climb = ThroughputSearch(self.limit, most)
        self._pace = SendRate()
        self._next = 0.0
        self._sent = self._cut = self._good = 0
        self._lowered = -1
        self._cooldown = COOLDOWN
        self._latency: float | None = None
        self._swell = ThrottleDetector(0)
        self._measure = ThroughputMeter()
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

    def succeeded(self, stamp: int, seconds: float, now: float) -> None:
        """The request was answered after so many seconds."""
        in_flight = self._end()
        if self._latency is None:
            self._latency = seconds
        self._latency += 0.02 * (seconds - self._latency)
        if stamp > self._good:
            self._good = stamp
        if stamp <= self._cut:
            return
        self._swell.cool(self._pace.tolerance)
        self._measure.add(seconds, in_flight, now, self._latency)
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
        if not self._swell.rise(stamp, now, hint or 0.0, self._pace):
            return False
        self._slow_down(now, in_flight, self._swell.wave(stamp))
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
        self._climb.again(AGAIN)
        self._restart()

    def _end(self) -> int:
        """Count a request out; how many were in flight with it."""
        in_flight = self.in_flight
        if in_flight <= 0:
            return 1
        self.in_flight = in_flight - 1
        return in_flight

    def _slow_down(self, now: float, in_flight: int, wave: ThrottleEpisode) -> None:
        """Keep still for a while; cut the limit and set the pace, if the last cut had time to show what it does.

        Where nothing that was sent since then has succeeded, this is an outage, or a queue of old sins. The first wave
        says more of a rate than of a number in flight: with a pace from then on, growth stays fast.
        """
        heard = self._good > self._lowered
        self._cooldown = COOLDOWN if heard else min(LONGEST, 2 * self._cooldown)
        self.quiet_until = max(self.quiet_until, now + min(self._patience, max(self._cooldown, wave.hint)))
        pace = self.pace(now)
        if not heard:
            self._climb.cut(self.limit, fast=False)
            self._restart()
            return
        if pace is not None:
            self._pace.cut(pace, wave, self.quiet_until)
        elif self._latency is not None:
            self._pace.begin(in_flight / self._usual_latency(), self.quiet_until)
        self._lowered = self._sent
        self._climb.cut(int(CUT * self.limit), fast=pace is None)
        self._restart()

    def _restart(self) -> None:
        self._cut = self._sent
        self._swell = ThrottleDetector(self._sent)
        self._measure = ThroughputMeter()
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
            self._measure = ThroughputMeter()
        self._begin_round()
