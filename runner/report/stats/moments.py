"""Means, spreads and Pearson's correlation of two columns, from sums that any number of rows adds up to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runner.report.stats.bootstrap import Floats

LEFT, N, X, Y, XX, YY, XY = range(7)
"""Places in the sums of `moment_terms`."""

_ROUNDING = 1e-12


def moment_terms(x: str, y: str, x_zero: float, y_zero: float) -> Sequence[str]:
    """SQL for the sums over rows in which both `x` and `y` are there, and first the number of the others.

    Values are summed up from a zero that is one of them: so squares stay small, and equal values are exactly nothing.
    """
    x, y = f"({x} - {x_zero!r}::DOUBLE)", f"({y} - {y_zero!r}::DOUBLE)"
    return (
        f"count(*) - count({x} + {y})",
        f"count({x} + {y})",
        *(f"sum({term}) FILTER ({x} + {y} IS NOT NULL)" for term in (x, y, f"{x} * {x}", f"{y} * {y}", f"{x} * {y}")),
    )


def spreads(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Both variances and the covariance; what is only rounding is nothing."""
    n = sums[..., N]
    x, y = sums[..., X] / n, sums[..., Y] / n
    squares, others = sums[..., XX] / n, sums[..., YY] / n
    first, second = squares - x**2, others - y**2
    first, second = (np.where(v > _ROUNDING * s, v, 0.0) for v, s in ((first, squares), (second, others)))
    return first, second, sums[..., XY] / n - x * y


def pearson(sums: Floats) -> Floats:
    """Pearson's correlation; not a number where all of one side is the same."""
    x, y, both = spreads(sums)
    return np.where((x > 0) & (y > 0), both / np.sqrt(x * y), np.nan)
