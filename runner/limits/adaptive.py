"""How many requests may be under way, where the YAML gives only bounds: learned from how the service answers.

Pure: it is told what happened and when, and keeps no clock. Three things are learned apart, for they differ:

- the *limit*, a number in flight (`climb.Climb`): up while the throughput rises with it, back to where it stopped;
- the *pace*, requests a second (`pace.Pace`): most 429s come from a rate, which no number in flight can hold exactly;
- the *cooldown*, a moment before which nobody sends.
"""

from __future__ import annotations

from runner.limits.send_rate import DECREASE_FACTOR, NOISE_SHARE, SendRate, ThrottleDetector, ThrottleEpisode
from runner.limits.throughput_search import ThroughputMeter, ThroughputSearch

MIN_UTILISATION = 0.8
"""A round tells something about its limit only where so much of it was used."""

COOLDOWN_MIN_SECONDS = 0.1
COOLDOWN_MAX_SECONDS = 10.0
"""Seconds of silence after a wave where the service asks for none: it lets a bucket recover. They double from wave to
wave while nothing that was sent since the last cut has succeeded.
"""

RESTART_LIMIT = 20
"""After an outage no more than so many begin."""

SEND_RATE_HEADROOM = 1.25
"""The pace is at most so much above what the limit lets through on average."""

MAX_LATENESS_SECONDS = 0.02
MAX_CATCH_UP_SECONDS = 1.0
"""Seconds that a sender may be late and still catch up, as timers are; and so much is made up for at most."""


class AdaptiveController:
    """How many requests may be under way, and when the next one may be sent.

    Every request is announced with `sent` and ends in exactly one of `succeeded`, `throttled`, `failed` and `left`.
    Who sends keeps `in_flight` below `limit`, and sends nothing for as long as `wait` says.

    Args:
        start: the first limit.
        max_limit: the limit is never larger.
        patience: seconds of silence that a service can ask for at most.
    """

    def __init__(self, start: int, max_limit: int, patience: float) -> None:
        self.limit = max(1, min(start, max_limit))
        self.in_flight = 0
        self.quiet_until = 0.0
        self._max_limit = max_limit
        self._patience = patience
        self._search = ThroughputSearch(self.limit, max_limit)
        self._rate = SendRate()
        self._next_send_at = 0.0
        self._last_stamp = self._cut_stamp = self._newest_success = 0
        self._lowered_stamp = -1
        self._cooldown = COOLDOWN_MIN_SECONDS
        self._latency: float | None = None
        self._detector = ThrottleDetector(0)
        self._meter = ThroughputMeter()
        self._round_answers = self._round_failures = self._round_peak = 0

    def delay(self, now: float) -> float:
        """Seconds from now in which nobody should send: the cooldown, and the pace."""
        if now < self.quiet_until:
            return self.quiet_until - now
        return 0.0 if self._rate.level is None else max(0.0, self._next_send_at - now)

    def send_rate(self, now: float) -> float | None:
        """Requests a second that are sent at most, or None while no such rate is known.

        Never much more than the limit lets through: where answers come in clumps, requests would as well.
        """
        pace = self._rate.rate_at(now)
        return None if pace is None else min(pace, SEND_RATE_HEADROOM * self.limit / self._typical_latency())

    def on_send(self, now: float) -> int:
        """A request goes out; the stamp that it comes back with."""
        self._last_stamp += 1
        self.in_flight = in_flight = self.in_flight + 1
        if in_flight > self._round_peak:
            self._round_peak = in_flight
        pace = self.send_rate(now)
        if pace is not None:
            self._next_send_at = (
                min(max(self._next_send_at, now - MAX_LATENESS_SECONDS), now + MAX_CATCH_UP_SECONDS) + 1 / pace
            )
        return self._last_stamp

    def on_success(self, stamp: int, seconds: float, now: float) -> None:
        """The request was answered after so many seconds."""
        in_flight = self._count_out()
        if self._latency is None:
            self._latency = seconds
        self._latency += 0.02 * (seconds - self._latency)
        if stamp > self._newest_success:
            self._newest_success = stamp
        if stamp <= self._cut_stamp:
            return
        self._detector.decay(self._rate.tolerance)
        self._meter.add(seconds, in_flight, now, self._latency)
        self._round_answers += 1
        if self._round_answers >= self.limit:
            self._end_round()

    def on_throttle(self, stamp: int, now: float, hint: float | None = None) -> bool:
        """The request got a 429; whether this completes a wave, so that everybody slows down.

        The 429s of requests that were sent before the cut belong to its wave and change nothing any more.

        Args:
            stamp: what `sent` gave.
            now: when the 429 came.
            hint: seconds that the service asks to wait.
        """
        in_flight = self._count_out()
        if stamp <= self._cut_stamp:
            return False
        if not self._detector.add(stamp, now, hint or 0.0, self._rate):
            return False
        self._slow_down(now, in_flight, self._detector.episode(stamp))
        return True

    def on_failure(self, stamp: int) -> None:
        """The request got a 5xx, or no answer in time."""
        self._count_out()
        if stamp > self._cut_stamp:
            self._round_failures += 1

    def on_release(self) -> None:
        """The request was given up, or ended in a way that says nothing about load."""
        self._count_out()

    def resume(self, now: float) -> None:
        """The service answers again after an outage: begin with few, whatever it took before."""
        self._rate.resume(now)
        self._search.restart(RESTART_LIMIT)
        self._restart()

    def _count_out(self) -> int:
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
        heard = self._newest_success > self._lowered_stamp
        self._cooldown = COOLDOWN_MIN_SECONDS if heard else min(COOLDOWN_MAX_SECONDS, 2 * self._cooldown)
        self.quiet_until = max(self.quiet_until, now + min(self._patience, max(self._cooldown, wave.hint)))
        pace = self.send_rate(now)
        if not heard:
            self._search.cut(self.limit, fast=False)
            self._restart()
            return
        if pace is not None:
            self._rate.cut(pace, wave, self.quiet_until)
        elif self._latency is not None:
            self._rate.start(in_flight / self._typical_latency(), self.quiet_until)
        self._lowered_stamp = self._last_stamp
        self._search.cut(int(DECREASE_FACTOR * self.limit), fast=pace is None)
        self._restart()

    def _restart(self) -> None:
        self._cut_stamp = self._last_stamp
        self._detector = ThrottleDetector(self._last_stamp)
        self._meter = ThroughputMeter()
        self._begin_round()

    def _typical_latency(self) -> float:
        return max(self._latency or 0.0, 1e-6)

    def _begin_round(self) -> None:
        self.limit = self._search.limit
        self._round_answers = self._round_failures = 0
        self._round_peak = self.in_flight

    def _end_round(self) -> None:
        afresh = True
        if self._round_failures > max(1.0, NOISE_SHARE * self._round_answers):
            self._search.on_trouble()
        elif self._round_peak >= MIN_UTILISATION * self.limit:
            afresh = self._search.on_round(self._meter)
        if afresh:
            self._meter = ThroughputMeter()
        self._begin_round()
