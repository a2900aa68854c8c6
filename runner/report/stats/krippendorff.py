"""Krippendorff's alpha from sums over units, so that it can be had of any number of units, and resampled.

A unit counts if two or more judged it. Over such units alpha is `1 - observed / expected` disagreement, and both need
only sums (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011): nominal, of how many pairs within a unit
agree; interval, of squared differences within a unit.

A unit's line has, for winners, `m` verdicts of which `n1`, `n2` and `nt` name answer 1, answer 2 and a tie; for scores,
`k` of them with the sum `s` and the sum of squares `ss`.
"""

from __future__ import annotations

import numpy as np

from runner.report.models import Figure
from runner.report.stats.bootstrap import Floats, Resampled

WINNER_TERMS = (
    "count(*) FILTER (m >= 2)",
    "sum(n1) FILTER (m >= 2)",
    "sum(n2) FILTER (m >= 2)",
    "sum(nt) FILTER (m >= 2)",
    "sum((n1 * (n1 - 1) + n2 * (n2 - 1) + nt * (nt - 1)) / (m - 1)) FILTER (m >= 2)",
    "count(*) FILTER (m >= 2 AND greatest(n1, n2, nt) = m)",
    "count(*) FILTER (m < 2)",
)
"""SQL for the sums of winners: units, the three classes, agreement in units, wholly agreed units, units left out."""

SCORE_TERMS = (
    "count(*) FILTER (k >= 2)",
    "sum(k) FILTER (k >= 2)",
    "sum(s) FILTER (k >= 2)",
    "sum(ss) FILTER (k >= 2)",
    "sum(greatest(k * ss - s * s, 0) / (k - 1)) FILTER (k >= 2)",
    "count(*) FILTER (k < 2)",
)
"""SQL for the sums of scores: units, values, their sum and squares, disagreement in units, units left out."""

UNITS, AGREED, LEFT_OUT = 0, 5, 6
LEFT_OUT_SCORES = 5

NOT_DEFINED = "not defined: everything read is the same, or no unit was read twice"


def of_winners(of: Resampled) -> Figure:
    """Alpha of winners, where `WINNER_TERMS` come first."""
    return of.figure(nominal, of.total[UNITS], of.total[LEFT_OUT], NOT_DEFINED)


def of_scores(of: Resampled, at: int) -> Figure:
    """Alpha of scores, where `SCORE_TERMS` begin at a place."""
    return of.figure(lambda sums: interval(sums[..., at:]), of.total[at], of.total[at + LEFT_OUT_SCORES], NOT_DEFINED)


def agreed(of: Resampled) -> Figure:
    """The share of units wholly agreed on a winner, where `WINNER_TERMS` come first."""
    unit = np.eye(len(of.total))
    return of.share(unit[AGREED], unit[UNITS], unit[LEFT_OUT], NOT_DEFINED)


def nominal(sums: Floats) -> Floats:
    """Alpha of winners from `WINNER_TERMS` (..., 7 or more)."""
    counts = sums[..., 1:4]
    n = counts.sum(axis=-1)
    expected = n**2 - (counts**2).sum(axis=-1)
    return np.where(expected > 0, 1 - (n - 1) * (n - sums[..., 4]) / expected, np.nan)


def interval(sums: Floats) -> Floats:
    """Alpha of scores from `SCORE_TERMS` (..., 6 or more)."""
    n, total, squares, within = (sums[..., place] for place in range(1, 5))
    expected = n * squares - total**2
    return np.where(expected > 1e-12 * n * squares, 1 - (n - 1) * within / expected, np.nan)
