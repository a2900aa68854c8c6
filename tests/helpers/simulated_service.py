"""Simulated services, and a sender that sends as much as the adaptive limit allows: a discrete-event simulation."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from runner.limits import AdaptiveController

MAX_TIMER_DELAY_SECONDS = 0.001  # how late a timer can fire

Noise = Callable[[], float]


class Stalls:
    """Periods in which a busy machine does nothing.

    Args:
        gap: seconds between two stalls, on average.
        longest: the maximum length of a stall, in seconds; the minimum is 0.02.
        rng: the source of random numbers.
    """

    def __init__(self, gap: float, longest: float, rng: random.Random) -> None:
        self._gap, self._longest, self._rng = gap, longest, rng
        self._start = self._end = 0.0

    def after(self, moment: float) -> float:
        """Return when an event that is due at `moment` takes place. Successive calls must not go back in time."""
        while moment >= self._end:
            self._start = self._end + self._rng.expovariate(1 / self._gap)
            self._end = self._start + self._rng.uniform(0.02, self._longest)
        return self._end if moment >= self._start else moment


class Service(Protocol):
    """Decides the result of a request when it arrives."""

    def take(self, now: float, in_flight: int) -> float | None:
        """Return the seconds until the answer, or None for a 429."""


def noisy(sigma: float, rng: random.Random) -> Noise:
    """Return a source of latency factors, lognormal with mean 1."""
    return lambda: rng.lognormvariate(-sigma * sigma / 2, sigma) if sigma else 1.0


class Bucket:
    """A token bucket: `rate` requests a second, at most `burst` at once. Answers take `latency` seconds on average."""

    def __init__(self, rate: float, burst: float, latency: float, noise: Noise) -> None:
        self.rate = rate
        self._burst, self._latency, self._noise = burst, latency, noise
        self._level, self._updated_at = burst, 0.0

    def take(self, now: float, in_flight: int) -> float | None:
        self._level = min(self._burst, self._level + (now - self._updated_at) * self.rate)
        self._updated_at = now
        if self._level < 1:
            return None
        self._level -= 1
        return self._latency * self._noise()


class Parallel:
    """A number of slots. Each request occupies one for `latency` seconds, or waits in a queue; there are no 429s."""

    def __init__(self, slots: int, latency: float, noise: Noise) -> None:
        self._latency, self._noise = latency, noise
        self._free_at = [0.0] * slots

    def resize(self, slots: int, now: float) -> None:
        self._free_at = (sorted(self._free_at) + [now] * slots)[:slots]

    def take(self, now: float, in_flight: int) -> float | None:
        end = max(now, self._free_at[0]) + self._latency * self._noise()
        heapq.heapreplace(self._free_at, end)
        return end - now


class Curve:
    """A service whose latency is a function of the requests in flight; more than `most` in flight get a 429."""

    def __init__(self, latency: Callable[[int], float], noise: Noise, most: float = float("inf")) -> None:
        self.latency = latency
        self._noise, self._most = noise, most

    def take(self, now: float, in_flight: int) -> float | None:
        return None if in_flight > self._most else self.latency(in_flight) * self._noise()


@dataclass
class Log:
    """The times of answers and of 429s, in seconds, and each new value of the limit."""

    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def rate(self, start: float, end: float) -> float:
        """Return the answers per second between two times."""
        return sum(start <= t < end for t in self.answers) / (end - start)

    def refused(self, start: float) -> float:
        """Return the share of 429s from a time on."""
        refusals = sum(t >= start for t in self.refusals)
        return refusals / max(1, refusals + sum(t >= start for t in self.answers))


class Run:
    """Sends as many requests as the limit allows, until stopped.

    Args:
        adaptive: the controller that sets the limit.
        service: decides the result of each request.
        rng: the source of random numbers for timer delays and stray 429s.
        hint: the Retry-After of a 429, in seconds.
        stray: share of 429s without a cause.
        trip: seconds until a 429 arrives.
        stalls: when the sender stalls.
        served_late: when the service stalls, so that requests reach it in bursts.
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
        self._timer_is_set = False

    def go(self, end: float, until: Callable[[], bool] = lambda: False) -> Log:
        """Run until the time `end`, or until `until()` is true."""
        self._fill()
        while self._events and self._events[0][0] <= end and not until():
            due, stamp, seconds, _ = heapq.heappop(self._events)
            self.now = max(self.now, due if self._stalls is None else self._stalls.after(due))
            if stamp == 0:
                self._timer_is_set = False
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
        while not self._timer_is_set and self._adaptive.in_flight < self._adaptive.limit:
            wait = self._adaptive.delay(self.now)
            if wait > 0:
                self._timer_is_set = True
                self._schedule(wait + MAX_TIMER_DELAY_SECONDS * self._rng.random(), 0, None)
                return
            stamp = self._adaptive.on_send(self.now)
            arrival = self.now if self._served_late is None else self._served_late.after(self.now)
            seconds = self.service.take(arrival, self._adaptive.in_flight)
            if seconds is None or self._rng.random() < self._stray:
                self._schedule(arrival - self.now + self._trip, stamp, None)
            else:
                self._schedule(arrival - self.now + seconds, stamp, arrival - self.now + seconds)

    def _schedule(self, delay: float, stamp: int, seconds: float | None) -> None:
        heapq.heappush(self._events, (self.now + delay, stamp, seconds, len(self._events)))
