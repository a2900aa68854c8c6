"""Intervals by drawing whole clusters again, on sums instead of rows.

Every figure of the report is a function of sums over rows. So the rows are summed up once for each cluster (a question
and everything asked about it), and a resample is a weighted sum of these few lines: memory and time do not depend on
how many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runner.report.models import Figure

Floats = NDArray[np.floating[Any]]
Statistic = Callable[[Floats], Floats]
"""From sums (..., cells) to values (...); not a number where it is not defined."""

REPLICATES = 2000
LEVEL = 0.95
BLOCKS = 1024
"""With more clusters than this, clusters are put together at random into this many: still independent ones, and the
variance between that many is known to 2 % of an interval's width."""

_DEFINED = 0.9
_KEPT = 32
_SAME = 1e-12


class Resampler:
    """Draws units with replacement; the same seed and number of units give the same draws."""

    def __init__(self, seed: int = 0, replicates: int = REPLICATES) -> None:
        self.replicates = replicates
        self._seed = seed
        self._drawn: dict[int, NDArray[np.uint8]] = {}

    def weights(self, units: int) -> NDArray[np.uint8]:
        """How often each unit was drawn, (replicates, units)."""
        drawn = self._drawn.get(units)
        if drawn is None:
            generator = np.random.default_rng([self._seed, units])
            picks = generator.integers(units, size=(self.replicates, units), dtype=np.int32)
            picks += units * np.arange(self.replicates, dtype=np.int32)[:, None]
            counts = np.bincount(picks.ravel(), minlength=self.replicates * units)
            drawn = counts.astype(np.uint8).reshape(self.replicates, units)
            if len(self._drawn) == _KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[units] = drawn
        return drawn

    def resample(self, sums: Floats) -> Resampled:
        """Resample sums (units, cells)."""
        return Resampled(sums, self.weights(len(sums)).astype(np.float64) @ sums)


class Resampled:
    """Sums over all units, over each resample, and over all units but one.

    Attributes:
        units: how many were drawn from.
        total: (cells,).
        again: (replicates, cells).
    """

    def __init__(self, sums: Floats, again: Floats) -> None:
        self.units = len(sums)
        self.total = sums.sum(axis=0)
        self.again = again
        self._without = self.total - sums

    def figure(
        self, statistic: Statistic, n: float, left_out: float, undefined: str, value: float | None = None
    ) -> Figure:
        """A statistic of the sums with its interval.

        Args:
            statistic: what is computed.
            n: what it is about.
            left_out: what could not be read.
            undefined: the reason given where it is not defined.
            value: its value, where the sums tell only how it varies (about a value near to this one).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            here, again, without = (statistic(sums) for sums in (self.total, self.again, self._without))
        own = float(here)
        if not np.isfinite(own):
            return Figure(n=round(n), left_out=round(left_out), reason=undefined)
        ends = None if self.units < 2 else bca(own, again, without)
        shift = 0.0 if value is None else value - own
        low, high = (None, None) if ends is None else (ends[0] + shift, ends[1] + shift)
        return Figure(own + shift, low, high, round(n), round(left_out), reason=self._why(ends, again))

    def share(self, part: Floats, whole: Floats, left_out: Floats, undefined: str) -> Figure:
        """A share of two weighted sums of cells; one of 0 or 1 has Clopper and Pearson's interval over the units."""
        count, n, left = (float(self.total @ cells) for cells in (part, whole, left_out))
        figure = self.figure(lambda sums: (sums @ part) / (sums @ whole), n, left, undefined)
        ends: tuple[float | None, float | None] = (figure.low, figure.high)
        reason = figure.reason
        if figure.value in (0.0, 1.0) and self.units > 1:
            tail = float(special.betaincinv(1, min(self.units, n), LEVEL + (1 - LEVEL) / 2))
            ends, reason = ((0.0, tail) if figure.value == 0.0 else (1 - tail, 1.0)), None
        return Figure(figure.value, *ends, figure.n, figure.left_out, round(count) if n else None, reason)

    def _why(self, ends: tuple[float, float] | None, again: Floats) -> str | None:
        if ends is not None:
            return None
        if self.units < 2:
            return "no interval: everything belongs to one question"
        if np.isfinite(again).mean() < _DEFINED:
            return "no interval: not defined in most resamples"
        return "no interval: the same in every resample"


def bca(value: float, again: Floats, without: Floats) -> tuple[float, float] | None:
    """The bias-corrected and accelerated bootstrap interval (Efron 1987).

    Args:
        value: of the whole sample.
        again: of each resample.
        without: with each unit left out in turn.

    Returns None where fewer than nine in ten resamples have a value, or all have the same.
    """
    finite = np.sort(again[np.isfinite(again)])
    near = _SAME * max(1.0, abs(value))
    if len(finite) < _DEFINED * len(again) or finite[-1] - finite[0] <= near:
        return None
    below = (np.searchsorted(finite, value - near) + np.searchsorted(finite, value + near, "right")) / 2 / len(finite)
    bias = special.ndtri(np.clip(below, 1 / len(finite), 1 - 1 / len(finite)))
    acceleration = _acceleration(without[np.isfinite(without)], near)
    ends = bias + special.ndtri([(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2])
    stretch = np.maximum(1 - acceleration * ends, 0.1)  # a far outlier would turn the ends around
    low, high = np.quantile(finite, special.ndtr(bias + ends / stretch))
    return float(low), float(high)


def _acceleration(without: Floats, near: float) -> float:
    """A sixth of the skewness of how much each unit matters; nothing where none does."""
    change = without.mean() - without if len(without) else without
    most = np.abs(change).max(initial=0.0)
    if most <= near:
        return 0.0
    change = change / most
    return float((change**3).sum() / (6 * (change**2).sum() ** 1.5))


def bounds(again: Floats) -> tuple[float, float] | None:
    """The middle 95 % of the resamples; None where fewer than nine in ten have a value, or all have the same."""
    finite = again[np.isfinite(again)]
    if len(finite) < _DEFINED * len(again) or np.ptp(finite) <= _SAME:
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2])
    return float(low), float(high)
