"""Variances, covariance and Pearson's correlation of two columns, computed from sums over rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runner.report.stats.bootstrap import Floats

LEFT_OUT, N, X, Y, XX, YY, XY = range(7)  # positions in the sums of `moment_terms`

_ROUNDING_ERROR = 1e-12  # relative to the mean square


def moment_terms(x: str, y: str, x_zero: float, y_zero: float) -> Sequence[str]:
    """Returns SQL for the sums over rows that have both `x` and `y`, preceded by the number of rows that do not.

    Args:
        x: SQL for the first value.
        y: SQL for the second value.
        x_zero: subtracted from `x`. If it is one of the values, squares stay small and equal values give exactly 0.
        y_zero: the same for `y`.
    """
    x, y = f"({x} - {x_zero!r}::DOUBLE)", f"({y} - {y_zero!r}::DOUBLE)"
    return (
        f"count(*) - count({x} + {y})",
        f"count({x} + {y})",
        *(f"sum({term}) FILTER ({x} + {y} IS NOT NULL)" for term in (x, y, f"{x} * {x}", f"{y} * {y}", f"{x} * {y}")),
    )


def variances(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns both variances and the covariance. A variance within rounding error is set to 0."""
    n = sums[..., N]
    x, y = sums[..., X] / n, sums[..., Y] / n
    squares, others = sums[..., XX] / n, sums[..., YY] / n
    first, second = squares - x**2, others - y**2
    first, second = (np.where(v > _ROUNDING_ERROR * s, v, 0.0) for v, s in ((first, squares), (second, others)))
    return first, second, sums[..., XY] / n - x * y


def pearson(sums: Floats) -> Floats:
    """Returns Pearson's correlation; NaN if all values of one side are equal."""
    x, y, both = variances(sums)
    return np.where((x > 0) & (y > 0), both / np.sqrt(x * y), np.nan)
