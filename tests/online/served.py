"""A service and a run that keeps it as busy as the adaptive limit lets it, as a simulation of events: no loop, no clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from runner.online.adaptive import Adaptive

REFUSAL_S = 0.001
TIMER_S = 0.001
"""Timers are late by up to so much."""


class Service(Protocol):
    """Decides at its arrival what becomes of a request."""

    def take(self, now: float, in_flight: int) -> float | None:
        """Seconds until the answer, or None for a 429."""


def noisy(sigma: float, rng: random.Random) -> Callable[[], float]:
    """Factors of median 1 for latencies, lognormal."""
    return lambda: rng.lognormvariate(0.0, sigma) if sigma else 1.0


class Bucket:
    """A quota: so many a second, so many at once; each answer takes `latency` times the noise."""

    def __init__(self, rate: float, burst: float, latency: float, noise: Callable[[], float]) -> None:
        self.rate, self.burst, self.latency, self.noise = rate, burst, latency, noise
        self._left, self._then = burst, 0.0

    def take(self, now: float, in_flight: int) -> float | None:
        self._left = min(self.burst, self._left + (now - self._then) * self.rate)
        self._then = now
        if self._left < 1:
            return None
        self._left -= 1
        return self.latency * self.noise()


class Parallel:
    """So many slots, each request taking `latency` in one; who finds none waits in a queue."""

    def __init__(self, slots: int, latency: float, noise: Callable[[], float]) -> None:
        self.latency, self.noise = latency, noise
        self._free = [0.0] * slots
        heapq.heapify(self._free)

    def resize(self, slots: int, now: float) -> None:
        self._free = (sorted(self._free) + [now] * slots)[:slots]
        heapq.heapify(self._free)

    def take(self, now: float, in_flight: int) -> float | None:
        end = max(now, heapq.heappop(self._free)) + self.latency * self.noise()
        heapq.heappush(self._free, end)
        return end - now


class Curve:
    """Latency as a function of how many are in flight."""

    def __init__(self, latency: Callable[[int], float], noise: Callable[[], float]) -> None:
        self.latency, self.noise = latency, noise

    def take(self, now: float, in_flight: int) -> float | None:
        return self.latency(in_flight) * self.noise()


@dataclass
class Seen:
    """What happened: times of answers and of 429s, and the limit over time."""

    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)

    def rate(self, begin: float, end: float) -> float:
        return sum(begin <= t < end for t in self.answers) / (end - begin)

    def refused(self, begin: float, end: float) -> float:
        bad = sum(begin <= t < end for t in self.refusals)
        good = sum(begin <= t < end for t in self.answers)
        return bad / max(1, bad + good)

    def settled(self, begin: float) -> float:
        found = [limit for t, limit in self.limits if t >= begin]
        return sum(found) / len(found)


def serve(
    adaptive: Adaptive,
    service: Service,
    seconds: float,
    rng: random.Random,
    hint: float | None = None,
    at: dict[float, Callable[[float], None]] | None = None,
    stray: float = 0.0,
) -> Seen:
    """Keep the service busy; `at` holds what is done to it at given times, `stray` a share of 429s without cause."""
    seen = Seen()
    events: list[tuple[float, int, str, int, float]] = []
    order = 0
    planned = False

    def plan(when: float, what: str, stamp: int = 0, began: float = 0.0) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, order, what, stamp, began))

    def fill(now: float) -> None:
        nonlocal planned
        while not planned and adaptive.in_flight < adaptive.limit:
            wait = adaptive.wait(now)
            if wait > 0:
                planned = True
                return plan(now + wait + TIMER_S * rng.random(), "wake")
            stamp = adaptive.sent(now)
            took = None if stray and rng.random() < stray else service.take(now, adaptive.in_flight)
            plan(now + (REFUSAL_S if took is None else took), "refused" if took is None else "answered", stamp, now)
        return None

    for when in at or {}:
        plan(when, "change")
    plan(0.0, "wake")
    while events:
        now, _, what, stamp, began = heapq.heappop(events)
        if now > seconds:
            break
        if what == "answered":
            adaptive.succeeded(stamp, now - began)
            seen.answers.append(now)
        elif what == "refused":
            adaptive.throttled(stamp, now, hint)
            seen.refusals.append(now)
        elif what == "change":
            (at or {})[now](now)
        else:
            planned = False
        if not seen.limits or seen.limits[-1][1] != adaptive.limit:
            seen.limits.append((now, adaptive.limit))
        fill(now)
    return seen
