"""Adaptive concurrency: AIMD with cooldown, a learned send rate and a throughput search.

Pure: callers pass in what happened and when; there is no clock. Three values are learned separately:

- the *limit* on requests in flight (`ThroughputSearch`): it rises while the throughput rises with it;
- the *send rate* in requests per second (`SendRate`): most 429s come from a rate limit, and no limit on requests in
  flight can hold a rate exactly;
- the *cooldown*, a moment before which nothing is sent.
"""

from __future__ import annotations

from math import sqrt

from runner.limits.send_rate import DECREASE_FACTOR, NOISE_SHARE, SendRate, ThrottleDetector, ThrottleEpisode
from runner.limits.throughput_search import ThroughputMeter, ThroughputSearch

MIN_UTILISATION = 0.8  # a round says something about its limit only if this share of it was in use

# A service that fails more often than this in the first round may be overloaded by the smallest limit.
FIRST_FAILURE_SHARE = 0.6
FAILURES_SMOOTHING = 0.1

# Cooldown after a throttle episode if the service asks for none: it lets a token bucket recover. It doubles with each
# episode while no request that was sent since the last cut has succeeded.
COOLDOWN_MIN_SECONDS = 0.1
COOLDOWN_MAX_SECONDS = 10.0

RESTART_LIMIT = 20  # largest limit right after an outage
SEND_RATE_HEADROOM = 1.25  # the send rate is at most this factor above what the limit lets through on average

# A request may be sent this late and still keep its place in the schedule, because timers are late,
MAX_LATENESS_SECONDS = 0.02
# and the schedule runs at most this far ahead.
MAX_CATCH_UP_SECONDS = 1.0


class AdaptiveController:
    """How many requests may be in flight, and when the next one may be sent.

    Every request begins with `on_send` and ends with exactly one of `on_success`, `on_throttle`, `on_failure` and
    `on_release`. The caller must keep `in_flight < limit` and must not send until `delay` returns 0.

    Attributes:
        limit: how many requests may be in flight.
        in_flight: how many are.
        quiet_until: end of the cooldown, in the caller's seconds.

    Args:
        start: the first limit.
        max_limit: the limit is never larger.
        longest_wait: the longest cooldown that a service can ask for, in seconds.
    """

    def __init__(self, start: int, max_limit: int, longest_wait: float) -> None:
        self.limit = max(1, min(start, max_limit))
        self.in_flight = 0
        self.quiet_until = 0.0
        self._max_limit = max_limit
        self._longest_wait = longest_wait
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
        self._usual_failures: float | None = None  # the share of failures that the load does not explain

    def delay(self, now: float) -> float:
        """Return the seconds from now during which nothing must be sent: the cooldown, and the send rate."""
        if now < self.quiet_until:
            return self.quiet_until - now
        return 0.0 if self._rate.level is None else max(0.0, self._next_send_at - now)

    def send_rate(self, now: float) -> float | None:
        """Return the largest send rate in requests per second, or None while none is known.

        It is never much more than the limit lets through: when answers arrive in bursts, requests would as well.
        """
        rate = self._rate.rate_at(now)
        return None if rate is None else min(rate, SEND_RATE_HEADROOM * self.limit / self._typical_latency())

    def on_send(self, now: float) -> int:
        """Note that a request is sent; returns the stamp to pass in when it ends."""
        self._last_stamp += 1
        self.in_flight = in_flight = self.in_flight + 1
        if in_flight > self._round_peak:
            self._round_peak = in_flight
        rate = self.send_rate(now)
        if rate is not None:
            self._next_send_at = (
                min(max(self._next_send_at, now - MAX_LATENESS_SECONDS), now + MAX_CATCH_UP_SECONDS) + 1 / rate
            )
        return self._last_stamp

    def on_success(self, stamp: int, seconds: float, now: float) -> None:
        """Note that a request was answered after this many seconds."""
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
        """Note that a request got a 429; returns True if that completes an episode and slows all requests down.

        The 429s of requests that were sent before the last cut belong to its episode and change nothing.

        Args:
            stamp: returned by `on_send`.
            now: when the 429 came.
            hint: the seconds that the service asks to wait, or None.
        """
        in_flight = self._count_out()
        if stamp <= self._cut_stamp:
            return False
        if not self._detector.add(stamp, now, hint or 0.0, self._rate):
            return False
        self._slow_down(now, in_flight, self._detector.episode(stamp))
        return True

    def on_failure(self, stamp: int) -> None:
        """Note that a request got a 5xx, or no answer in time."""
        self._count_out()
        if stamp > self._cut_stamp:
            self._round_failures += 1

    def on_release(self) -> None:
        """Note that a request was given up, or ended in a way that says nothing about load."""
        self._count_out()

    def resume(self, now: float) -> None:
        """Restart with a small limit after an outage, whatever the service took before."""
        self._rate.resume(now)
        self._search.restart(RESTART_LIMIT)
        self._restart()

    def _count_out(self) -> int:
        """Count a request out; returns how many were in flight, itself included."""
        in_flight = self.in_flight
        if in_flight <= 0:
            return 1
        self.in_flight = in_flight - 1
        return in_flight

    def _slow_down(self, now: float, in_flight: int, episode: ThrottleEpisode) -> None:
        """Start a cooldown; cut the limit and set the send rate if the last cut has had time to take effect.

        It has not if no request that was sent since has succeeded: then this is an outage, or the 429s answer requests
        from before the cut. The first episode says more about a rate than about requests in flight: from then on there
        is a send rate, and the limit keeps growing fast.
        """
        took_effect = self._newest_success > self._lowered_stamp
        self._cooldown = COOLDOWN_MIN_SECONDS if took_effect else min(COOLDOWN_MAX_SECONDS, 2 * self._cooldown)
        self.quiet_until = max(self.quiet_until, now + min(self._longest_wait, max(self._cooldown, episode.hint)))
        rate = self.send_rate(now)
        if not took_effect:
            self._search.cut(self.limit, fast=False)
            self._restart()
            return
        if rate is not None:
            self._rate.cut(rate, episode, self.quiet_until)
        elif self._latency is not None:
            self._rate.start(in_flight / self._typical_latency(), self.quiet_until)
        self._lowered_stamp = self._last_stamp
        self._search.cut(int(DECREASE_FACTOR * self.limit), fast=rate is None)
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
        restarts = True
        if self._has_more_failures():
            self._search.on_trouble()
        elif self._round_peak >= MIN_UTILISATION * self.limit:
            restarts = self._search.on_round(self._meter)
        if restarts:
            self._meter = ThroughputMeter()
        self._begin_round()

    def _has_more_failures(self) -> bool:
        """Return True if this round had more failures than is usual: then the load may be their cause.

        Failures that a service has at any load say nothing about the limit. What is usual is the smallest share so far,
        smoothed; it begins with the first round.
        """
        calls = self._round_answers + self._round_failures
        share, usual = self._round_failures / calls, self._usual_failures
        if usual is None:
            self._usual_failures = share
            return share > FIRST_FAILURE_SHARE
        noise = 3 * sqrt(max(usual * (1 - usual), 1 / calls) / calls)
        if share > usual + max(NOISE_SHARE, noise):
            return True
        self._usual_failures = min(usual, usual + FAILURES_SMOOTHING * (share - usual))
        return False
