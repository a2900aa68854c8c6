"""Cluster bootstrap intervals, computed on sums instead of rows.

Every figure of the report is a function of sums over rows. The rows are summed once per cluster (a question and all
requests about it), and a resample is a weighted sum of these few lines. Memory and time therefore do not depend on the
number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from runner.report.models import Figure

Floats = NDArray[np.floating[Any]]
# Maps sums (..., cells) to values (...); NaN means that the value is not defined.
Statistic = Callable[[Floats], Floats]

REPLICATES = 2000
CONFIDENCE_LEVEL = 0.95
# More clusters than this are merged at random into this many blocks. Blocks are still independent, and the variance
# between this many is known to 2 % of an interval's width.
MAX_BLOCKS = 1024

_MIN_DEFINED_SHARE = 0.9  # share of resamples that must have a value, or there is no interval
_MAX_CACHED_DRAWS = 32
_EQUAL_TOLERANCE = 1e-12


class Resampler:
    """Draws units with replacement. The same seed and number of units give the same draws."""

    def __init__(self, seed: int = 0, replicates: int = REPLICATES) -> None:
        self.replicates = replicates
        self._seed = seed
        self._drawn: dict[int, NDArray[np.uint8]] = {}

    def weights(self, units: int) -> NDArray[np.uint8]:
        """Returns how often each unit was drawn: (replicates, units)."""
        drawn = self._drawn.get(units)
        if drawn is None:
            generator = np.random.default_rng([self._seed, units])
            picks = generator.integers(units, size=(self.replicates, units), dtype=np.int32)
            picks += units * np.arange(self.replicates, dtype=np.int32)[:, None]
            counts = np.bincount(picks.ravel(), minlength=self.replicates * units)
            drawn = counts.astype(np.uint8).reshape(self.replicates, units)
            if len(self._drawn) == _MAX_CACHED_DRAWS:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[units] = drawn
        return drawn

    def resample(self, sums: Floats) -> Resampled:
        """Resample sums (units, cells)."""
        return Resampled(sums, self.weights(len(sums)).astype(np.float64) @ sums)


class Resampled:
    """Sums over all units, over each resample, and over all units but one.

    Attributes:
        units: the number of units to draw from.
        sums: sums over each unit: (units, cells).
        total: sums over all units: (cells,).
        resamples: sums over each resample: (replicates, cells).
    """

    def __init__(self, sums: Floats, resamples: Floats) -> None:
        self.units = len(sums)
        self.total = sums.sum(axis=0)
        self.resamples = resamples
        self.sums = sums
        self._leave_one_out = self.total - sums

    def figure(
        self, statistic: Statistic, n: float, left_out: float, undefined: str, value: float | None = None
    ) -> Figure:
        """Returns a statistic of the sums with its interval.

        Args:
            statistic: the function of the sums.
            n: the number of rows, pairs or units it is computed from.
            left_out: the number of those that could not be read.
            undefined: the reason to give if the statistic is not defined.
            value: the exact value, if the sums are too coarse for it; the interval is then moved to this value.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            total, resamples, leave_one_out = map(statistic, (self.total, self.resamples, self._leave_one_out))
        own = float(total)
        if not np.isfinite(own):
            return Figure(n=round(n), left_out=round(left_out), reason=undefined)
        ends = None if self.units < 2 else bca(own, resamples, leave_one_out)
        shift = 0.0 if value is None else value - own
        if ends is None:
            reason = "no interval: all rows belong to one question" if self.units < 2 else no_interval_reason(resamples)
            return Figure(own + shift, None, None, round(n), round(left_out), reason=reason)
        return Figure(own + shift, ends[0] + shift, ends[1] + shift, round(n), round(left_out))

    def share(self, part: Floats, whole: Floats, left_out: Floats, undefined: str) -> Figure:
        """Returns the ratio of two weighted sums of cells.

        A share of exactly 0 or 1 gets the Clopper-Pearson interval over the units; the bootstrap would have no width.

        Args:
            part: weights of the cells in the numerator.
            whole: weights of the cells in the denominator.
            left_out: weights of the cells that could not be read.
            undefined: the reason to give if the denominator is 0.
        """
        count, n, left = (float(self.total @ cells) for cells in (part, whole, left_out))
        figure = self.figure(lambda sums: (sums @ part) / (sums @ whole), n, left, undefined)
        ends: tuple[float | None, float | None] = (figure.low, figure.high)
        reason = figure.reason
        if figure.value in (0.0, 1.0) and self.units > 1:
            tail = float(special.betaincinv(1, min(self.units, n), CONFIDENCE_LEVEL + (1 - CONFIDENCE_LEVEL) / 2))
            ends, reason = ((0.0, tail) if figure.value == 0.0 else (1 - tail, 1.0)), None
        return Figure(figure.value, *ends, figure.n, figure.left_out, round(count) if n else None, reason)


def no_interval_reason(resamples: Floats) -> str:
    """Returns why the resamples of a statistic give no interval."""
    if np.isfinite(resamples).mean() < _MIN_DEFINED_SHARE:
        return "no interval: undefined in too many resamples"
    return "no interval: every resample gives the same value"


def bca(value: float, resamples: Floats, leave_one_out: Floats) -> tuple[float, float] | None:
    """Returns the bias-corrected and accelerated bootstrap interval (Efron 1987).

    Args:
        value: the statistic of the whole sample.
        resamples: the statistic of each resample.
        leave_one_out: the statistic with each unit left out in turn (jackknife).

    Returns None if fewer than nine in ten resamples have a value, or if all of them have the same value.
    """
    finite = np.sort(resamples[np.isfinite(resamples)])
    near = _EQUAL_TOLERANCE * max(1.0, abs(value))
    if len(finite) < _MIN_DEFINED_SHARE * len(resamples) or finite[-1] - finite[0] <= near:
        return None
    below = (np.searchsorted(finite, value - near) + np.searchsorted(finite, value + near, "right")) / 2 / len(finite)
    bias = special.ndtri(np.clip(below, 1 / len(finite), 1 - 1 / len(finite)))
    acceleration = _acceleration(leave_one_out[np.isfinite(leave_one_out)], near)
    ends = bias + special.ndtri([(1 - CONFIDENCE_LEVEL) / 2, 1 - (1 - CONFIDENCE_LEVEL) / 2])
    stretch = np.maximum(1 - acceleration * ends, 0.1)  # a far outlier would swap the ends
    low, high = np.quantile(finite, special.ndtr(bias + ends / stretch))
    return float(low), float(high)


def _acceleration(leave_one_out: Floats, near: float) -> float:
    """Returns a sixth of the skewness of the units' influence; 0 if no unit has any."""
    change = leave_one_out.mean() - leave_one_out if len(leave_one_out) else leave_one_out
    most = np.abs(change).max(initial=0.0)
    if most <= near:
        return 0.0
    change = change / most
    return float((change**3).sum() / (6 * (change**2).sum() ** 1.5))


def bounds(resamples: Floats) -> tuple[float, float] | None:
    """Returns the percentile interval: the central 95 % of the resamples.

    Returns None if fewer than nine in ten resamples have a value, or if all of them have the same value.
    """
    finite = resamples[np.isfinite(resamples)]
    if len(finite) < _MIN_DEFINED_SHARE * len(resamples) or np.ptp(finite) <= _EQUAL_TOLERANCE:
        return None
    low, high = np.quantile(finite, [(1 - CONFIDENCE_LEVEL) / 2, 1 - (1 - CONFIDENCE_LEVEL) / 2])
    return float(low), float(high)
