"""Tests of several comparisons at once: chance alone may make any of them look large, so all are judged together.

Each estimate comes with its influence by block (a bootstrap unit, see `bootstrap`): how much the block moves it. The
sum of squared influences is the jackknife variance, and the difference of two estimates has the influence of the first
minus that of the second. This also holds if both come from the same questions. `holm` adjusts the p-values of all
comparisons (Holm 1979): at most 5 % of the runs without any difference show one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from runner.report.models import Figure
from runner.report.stats.bootstrap import Floats, Statistic

MIN_QUESTIONS = 10  # with fewer, neither an interval nor a test is reliable
SIGNIFICANCE_LEVEL = 0.05

# A variance is computed as if there were this many further questions, each as influential as the most influential one.
_EXTRA_QUESTIONS = 2
_ZERO_VARIANCE = 1e-18

Blocks = NDArray[np.integer[Any]]


class Estimate(msgspec.Struct, frozen=True):
    """One estimate with what is needed to compare it with others.

    Attributes:
        name: of the judge or of the group.
        figure: the figure as it is shown.
        value: the estimate; a correlation is transformed (Fisher's z).
        blocks: the blocks it is computed from, in ascending order.
        influence: of each of these blocks.
        least_variance: the variance that it has at least, even if all rows agree.
    """

    name: str | None
    figure: Figure
    value: float
    blocks: Blocks
    influence: Floats
    least_variance: float

    @property
    def variance(self) -> float:
        """The variance of the estimate."""
        return max(_variance(self.influence), self.least_variance)


class Difference(msgspec.Struct, frozen=True):
    """Two estimates and the p-value of their difference."""

    first: Estimate
    second: Estimate
    p_value: float


def estimate(
    name: str | None, figure: Figure, statistic: Statistic, blocks: Blocks, sums: Floats, least_variance: float
) -> Estimate | None:
    """Return the estimate of a statistic of sums (blocks, cells), or None if it has too few questions or no value."""
    units = len(sums)
    if units < MIN_QUESTIONS or figure.value is None:
        return None
    total = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, without = float(statistic(total)), statistic(total - sums)
    if not (np.isfinite(value) and np.isfinite(without).all()):
        return None
    influence = np.sqrt((units - 1) / units) * (without.mean() - without)
    return Estimate(name, figure, value, blocks, influence, least_variance)


def share_variance(count: float, n: float) -> float:
    """Return the variance of a share, computed with two more successes and two more failures."""
    smoothed = (count + 2) / (n + 4)
    return float(smoothed * (1 - smoothed) / (n + 4))


def against_zero(one: Estimate) -> float:
    """Return the two-sided p-value of an estimate that is 0 by chance."""
    return _p_value(one.value, one.variance, len(one.blocks) - 1)


def differences(estimates: Sequence[Estimate]) -> list[Difference]:
    """Return every pair of estimates with the p-value of its difference, not yet adjusted."""
    return [Difference(one, other, _compare(one, other)) for one, other in combinations(estimates, 2)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for the number of tests."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[number] * (len(p_values) - place)))
        adjusted[number] = highest
    return adjusted


def _compare(one: Estimate, other: Estimate) -> float:
    blocks = np.union1d(one.blocks, other.blocks)
    is_shared = len(blocks) < len(one.blocks) + len(other.blocks)
    influence = np.zeros(len(blocks))
    influence[np.searchsorted(blocks, one.blocks)] += one.influence
    influence[np.searchsorted(blocks, other.blocks)] -= other.influence
    variance = _variance(influence)
    if not is_shared or variance < _ZERO_VARIANCE:
        variance = max(variance, one.least_variance + other.least_variance)
    return _p_value(one.value - other.value, variance, min(len(one.blocks), len(other.blocks)) - 1)


def _variance(influence: Floats) -> float:
    squares = influence**2
    return float(squares.sum() + _EXTRA_QUESTIONS * squares.max(initial=0.0))


def _p_value(value: float, variance: float, degrees: int) -> float:
    """Return the two-sided p-value of Student's t."""
    if variance < _ZERO_VARIANCE:
        return 1.0 if value == 0 else 0.0
    return float(2 * special.stdtr(degrees, -abs(value) / np.sqrt(variance)))
