"""Simulated services, and a run that keeps one as busy as the adaptive limit lets it: events on a heap, no loop."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from runner.limits import AdaptiveController

TIMER_S = 0.001
"""Timers are late by up to so much."""

Noise = Callable[[], float]


class Stalls:
    """Times in which a machine that has other things to do stands still.

    Args:
        gap: seconds between them on average.
        longest: each lasts up to so many.
        rng: where they come from.
    """

    def __init__(self, gap: float, longest: float, rng: random.Random) -> None:
        self._gap, self._longest, self._rng = gap, longest, rng
        self._begin = self._end = 0.0

    def after(self, moment: float) -> float:
        """When something is done that should have been at a moment; the moments asked about do not go back."""
        while moment >= self._end:
            self._begin = self._end + self._rng.expovariate(1 / self._gap)
            self._end = self._begin + self._rng.uniform(0.02, self._longest)
        return self._end if moment >= self._begin else moment


class Service(Protocol):
    """Decides at its arrival what becomes of a request."""

    def take(self, now: float, in_flight: int) -> float | None:
        """Seconds until the answer, or None for a 429."""


def noisy(sigma: float, rng: random.Random) -> Noise:
    """Factors for latencies: lognormal with mean 1."""
    return lambda: rng.lognormvariate(-sigma * sigma / 2, sigma) if sigma else 1.0


class Bucket:
    """A quota: so many a second, so many at once."""

    def __init__(self, rate: float, burst: float, latency: float, noise: Noise) -> None:
        self.rate = rate
        self._burst, self._latency, self._noise = burst, latency, noise
        self._left, self._then = burst, 0.0

    def take(self, now: float, in_flight: int) -> float | None:
        self._left = min(self._burst, self._left + (now - self._then) * self.rate)
        self._then = now
        if self._left < 1:
            return None
        self._left -= 1
        return self._latency * self._noise()


class Parallel:
    """So many slots, each request taking `latency` in one; who finds none waits in a queue. Never a 429."""

    def __init__(self, slots: int, latency: float, noise: Noise) -> None:
        self._latency, self._noise = latency, noise
        self._free = [0.0] * slots

    def resize(self, slots: int, now: float) -> None:
        self._free = (sorted(self._free) + [now] * slots)[:slots]

    def take(self, now: float, in_flight: int) -> float | None:
        end = max(now, self._free[0]) + self._latency * self._noise()
        heapq.heapreplace(self._free, end)
        return end - now


class Curve:
    """Latency as a function of how many are in flight."""

    def __init__(self, latency: Callable[[int], float], noise: Noise, most: float = float("inf")) -> None:
        self.latency = latency
        self._noise, self._most = noise, most

    def take(self, now: float, in_flight: int) -> float | None:
        return None if in_flight > self._most else self.latency(in_flight) * self._noise()


@dataclass
class Log:
    """When there were answers and 429s, and the limit each time it changed."""

    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def rate(self, begin: float, end: float) -> float:
        """Answers a second."""
        return sum(begin <= t < end for t in self.answers) / (end - begin)

    def refused(self, begin: float) -> float:
        """The share of 429s from a moment on."""
        bad = sum(t >= begin for t in self.refusals)
        return bad / max(1, bad + sum(t >= begin for t in self.answers))


class Run:
    """Sends whatever the limit allows, for ever.

    Args:
        adaptive: says how much that is.
        service: decides what becomes of it.
        rng: where delays and strays come from.
        hint: the Retry-After of a 429.
        stray: share of 429s without any cause.
        trip: seconds until a 429 is back.
        stalls: when the sender stands still.
        served_late: when the service does, so that requests come to it in clumps.
    """

    def __init__(
        self,
        adaptive: AdaptiveController,
        service: Service,
        rng: random.Random,
        hint: float | None = None,
        stray: float = 0.0,
        trip: float = 0.001,
        stalls: Stalls | None = None,
        served_late: Stalls | None = None,
    ) -> None:
        self.log = Log()
        self.now = 0.0
        self.service = service
        self._adaptive, self._rng = adaptive, rng
        self._hint, self._stray, self._trip = hint, stray, trip
        self._stalls, self._served_late = stalls, served_late
        self._events: list[tuple[float, int, float | None, int]] = []
        self._waking = False

    def go(self, end: float, until: Callable[[], bool] = lambda: False) -> Log:
        """Go on until a moment, or until something is true."""
        self._fill()
        while self._events and self._events[0][0] <= end and not until():
            due, stamp, seconds, _ = heapq.heappop(self._events)
            self.now = max(self.now, due if self._stalls is None else self._stalls.after(due))
            if stamp == 0:
                self._waking = False
            elif seconds is None:
                self._adaptive.on_throttle(stamp, self.now, self._hint)
                self.log.refusals.append(self.now)
            else:
                self._adaptive.on_success(stamp, seconds + self.now - due, self.now)
                self.log.answers.append(self.now)
            if not self.log.limits or self.log.limits[-1] != self._adaptive.limit:
                self.log.limits.append(self._adaptive.limit)
            self._fill()
        return self.log

    def _fill(self) -> None:
        while not self._waking and self._adaptive.in_flight < self._adaptive.limit:
            wait = self._adaptive.delay(self.now)
            if wait > 0:
                self._waking = True
                self._plan(wait + TIMER_S * self._rng.random(), 0, None)
                return
            stamp = self._adaptive.on_send(self.now)
            arrival = self.now if self._served_late is None else self._served_late.after(self.now)
            seconds = self.service.take(arrival, self._adaptive.in_flight)
            if seconds is None or self._rng.random() < self._stray:
                self._plan(arrival - self.now + self._trip, stamp, None)
            else:
                self._plan(arrival - self.now + seconds, stamp, arrival - self.now + seconds)

    def _plan(self, delay: float, stamp: int, seconds: float | None) -> None:
        heapq.heappush(self._events, (self.now + delay, stamp, seconds, len(self._events)))
