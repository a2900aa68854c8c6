"""Krippendorff's alpha from sums over units: it works for any number of units and can be resampled.

A unit counts if it has two or more values. Over these units, alpha is `1 - observed / expected` disagreement, and both
parts need only sums (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011). Nominal alpha needs the number of
agreeing pairs within each unit, interval alpha the squared differences within each unit.

For winners, a unit's line has `m` verdicts: `n1` name answer 1, `n2` answer 2 and `nt` a tie. For scores, it has `k`
values with the sum `s` and the sum of squares `ss`.
"""

from __future__ import annotations

import numpy as np

from runner.report.models import Figure
from runner.report.stats.bootstrap import Floats, Resampled

# SQL for the sums of winners: units, the three classes, agreement within units, unanimous units, units left out.
WINNER_TERMS = (
    "count(*) FILTER (m >= 2)",
    "sum(n1) FILTER (m >= 2)",
    "sum(n2) FILTER (m >= 2)",
    "sum(nt) FILTER (m >= 2)",
    "sum((n1 * (n1 - 1) + n2 * (n2 - 1) + nt * (nt - 1)) / (m - 1)) FILTER (m >= 2)",
    "count(*) FILTER (m >= 2 AND greatest(n1, n2, nt) = m)",
    "count(*) FILTER (m < 2)",
)

# SQL for the sums of scores: units, values, their sum and squares, disagreement within units, units left out.
SCORE_TERMS = (
    "count(*) FILTER (k >= 2)",
    "sum(k) FILTER (k >= 2)",
    "sum(s) FILTER (k >= 2)",
    "sum(ss) FILTER (k >= 2)",
    "sum(greatest(k * ss - s * s, 0) / (k - 1)) FILTER (k >= 2)",
    "count(*) FILTER (k < 2)",
)

UNITS, AGREED, LEFT_OUT = 0, 5, 6  # positions in WINNER_TERMS
LEFT_OUT_SCORES = 5  # position in SCORE_TERMS

NOT_DEFINED = "undefined: all values are equal, or no unit has two readable values"


def of_winners(resampled: Resampled) -> Figure:
    """Returns alpha of winners; `WINNER_TERMS` must come first in the sums."""
    return resampled.figure(nominal, resampled.total[UNITS], resampled.total[LEFT_OUT], NOT_DEFINED)


def of_scores(resampled: Resampled, at: int) -> Figure:
    """Returns alpha of scores; `SCORE_TERMS` must start at position `at` of the sums."""
    return resampled.figure(
        lambda sums: interval(sums[..., at:]), resampled.total[at], resampled.total[at + LEFT_OUT_SCORES], NOT_DEFINED
    )


def agreed(resampled: Resampled) -> Figure:
    """Returns the share of units whose winners are all the same; `WINNER_TERMS` must come first in the sums."""
    unit = np.eye(len(resampled.total))
    return resampled.share(unit[AGREED], unit[UNITS], unit[LEFT_OUT], NOT_DEFINED)


def nominal(sums: Floats) -> Floats:
    """Returns nominal alpha from `WINNER_TERMS` (..., 7 or more)."""
    counts = sums[..., 1:4]
    n = counts.sum(axis=-1)
    expected = n**2 - (counts**2).sum(axis=-1)
    return np.where(expected > 0, 1 - (n - 1) * (n - sums[..., 4]) / expected, np.nan)


def interval(sums: Floats) -> Floats:
    """Returns interval alpha from `SCORE_TERMS` (..., 6 or more)."""
    n, total, squares, within = (sums[..., place] for place in range(1, 5))
    expected = n * squares - total**2
    return np.where(expected > 1e-12 * n * squares, 1 - (n - 1) * within / expected, np.nan)
