"""Rank correlations: from a table of counts if there are few distinct scores, else from the rows themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runner.report.data.query import Key, RunTables, grouped, having
from runner.report.models import Figure
from runner.report.stats.bootstrap import Floats, Resampler

# Up to this many distinct scores on either side, a table of counts determines the ranks completely.
MAX_LEVELS = 32
# With more, the value is computed from the rows, and the interval from a table with this many bins of equal size.
BINS = 16
# With more levels and more rows than this, the value is computed from a random sample of about this many rows.
MAX_ROWS = 300_000

NOT_DEFINED = "undefined: all scores on one side are equal"

Codes = NDArray[np.integer[Any]]


class Ranks(msgspec.Struct, frozen=True):
    """Both rank correlations; `sampled` is how many rows they are computed from, None if from all."""

    spearman: Figure
    kendall_tau_b: Figure
    sampled: int | None


def rank_figures(
    tables: RunTables, judge: int, by: int | None, left_out: Mapping[Key, int], resampler: Resampler
) -> dict[Key, Ranks]:
    """Returns Spearman's and Kendall's correlations of a judge's scores with human scores, for each group."""
    where = f"judge = {judge} AND human_score IS NOT NULL AND score IS NOT NULL"
    sample = _sample(tables, where)
    found = tables.arrays(
        f"SELECT {grouped(by)} AS g, block, human_score AS x, score AS y, count(*) AS n FROM rows "
        f"WHERE {where} AND {sample} AND {having(by)} GROUP BY ALL"
    )
    figures = {}
    for group in np.unique(found["g"]):
        here = found["g"] == group
        key = (judge, None if group < 0 else int(group))
        columns = {name: found[name][here] for name in ("block", "x", "y", "n")}
        rho, tau = correlations(columns, left_out.get(key, 0), resampler)
        figures[key] = Ranks(rho, tau, None if sample == "true" else int(columns["n"].sum()))
    return figures


def _sample(tables: RunTables, where: str) -> str:
    """Returns the SQL condition for the rows to use: all of them, unless there are many rows and many levels."""
    levels = [
        tables.row(f"SELECT count(*) FROM (SELECT DISTINCT {column} FROM rows WHERE {where} LIMIT {MAX_LEVELS + 1})")[0]
        for column in ("human_score", "score")
    ]
    (n,) = tables.row(f"SELECT count(*) FROM rows WHERE {where}")
    if max(levels) <= MAX_LEVELS or n <= MAX_ROWS:
        return "true"
    return f"hash(ordinal, 1) % {-(-n // MAX_ROWS)} = 0"


def correlations(columns: Mapping[str, NDArray[Any]], left_out: int, resampler: Resampler) -> tuple[Figure, Figure]:
    """Compute Spearman's rho and Kendall's tau-b.

    Args:
        columns: arrays `x` and `y`, `n` (how often the line occurs) and `block` (its bootstrap unit).
        left_out: rows without a readable score.
        resampler: draws the resamples for intervals.
    """
    x, y, n = columns["x"], columns["y"], columns["n"]
    _, sums, rows = rank_table(columns)
    total = float(n.sum())
    resampled = resampler.resample(sums)
    rho = tau = None
    tie_correction = 1.0
    if max(len(np.unique(x)), len(np.unique(y))) > MAX_LEVELS:
        rho, tau = _of_rows(np.repeat(x, n), np.repeat(y, n))
        (_, first), (_, second) = _levels(x), _levels(y)
        tie_correction = math.sqrt(_untied(first, n) * _untied(second, n) / max(1.0, _untied(x, n) * _untied(y, n)))

    def corrected_tau(sums: Floats) -> Floats:
        return tie_correction * kendall_tau_b(table_of(sums, rows))

    return (
        resampled.figure(lambda s: spearman(table_of(s, rows)), total, left_out, NOT_DEFINED, rho),
        resampled.figure(corrected_tau, total, left_out, NOT_DEFINED, tau),
    )


def rank_table(columns: Mapping[str, NDArray[Any]]) -> tuple[Codes, Floats, int]:
    """Returns the blocks, the table of levels for each block as one line (blocks, rows x columns), and its rows."""
    (rows, first), (lines, second) = _levels(columns["x"]), _levels(columns["y"])
    blocks, index = np.unique(columns["block"], return_inverse=True)
    sums = np.zeros((len(blocks), rows * lines))
    np.add.at(sums, (index, first * lines + second), columns["n"])
    return blocks, sums, rows


def _of_rows(x: Floats, y: Floats) -> tuple[float, float]:
    from scipy import stats  # the import takes a third of the time of a small report, which rarely needs it

    return float(stats.spearmanr(x, y).statistic), float(stats.kendalltau(x, y).statistic)


def _untied(values: NDArray[Any], n: NDArray[Any]) -> float:
    """Returns how many pairs of rows differ in a column; bins add ties, which tau-b removes from its denominator."""
    _, index = np.unique(values, return_inverse=True)
    alike = np.bincount(index, n)
    return float((n.sum() ** 2 - (alike**2).sum()) / 2)


def _levels(values: Floats) -> tuple[int, Codes]:
    """Returns the number of levels and the level of each value; bins of equal size if there are too many levels."""
    levels, codes = np.unique(values, return_inverse=True)
    if len(levels) <= MAX_LEVELS:
        return len(levels), codes
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    return len(edges) + 1, np.searchsorted(edges, values, side="right")


def table_of(sums: Floats, rows: int) -> Floats:
    """Returns tables (..., rows, columns) from lines (..., rows x columns)."""
    return sums.reshape(*sums.shape[:-1], rows, -1)


def spearman(table: Floats) -> Floats:
    """Returns Spearman's rho of tables of counts (..., levels, levels); ties get their middle rank."""
    first, second = table.sum(axis=-1), table.sum(axis=-2)
    half = first.sum(axis=-1, keepdims=True) / 2
    ranks = np.cumsum(first, axis=-1) - first / 2 - half
    others = np.cumsum(second, axis=-1) - second / 2 - half
    joint = np.einsum("...ij,...i,...j->...", table, ranks, others)
    own = (first * ranks**2).sum(axis=-1) * (second * others**2).sum(axis=-1)
    return np.where(own > 0, joint / np.sqrt(own), np.nan)


def kendall_tau_b(table: Floats) -> Floats:
    """Returns Kendall's tau-b of tables of counts (..., levels, levels)."""
    below = np.cumsum(table, axis=-2) - table
    up_to = np.cumsum(below, axis=-1)
    concordant = (table * (up_to - below)).sum(axis=(-1, -2))
    discordant = (table * (up_to[..., -1:] - up_to)).sum(axis=(-1, -2))
    first, second = table.sum(axis=-1), table.sum(axis=-2)
    n = first.sum(axis=-1)
    pairs = n * (n - 1)
    untied = (pairs - (first * (first - 1)).sum(axis=-1)) * (pairs - (second * (second - 1)).sum(axis=-1))
    return np.where(untied > 0, 2 * (concordant - discordant) / np.sqrt(untied), np.nan)
