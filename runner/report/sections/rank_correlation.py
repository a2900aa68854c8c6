"""Rank correlations: of tables of levels where there are few, of the rows themselves where there are many."""

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

LEVELS = 32
"""Up to so many different scores on either side, a table of counts holds everything there is to know of ranks."""

BINS = 16
"""With more, the value is that of the rows; how it varies is found in a table of so many bins of equal size."""

ROWS = 300_000
"""With more levels and more rows than this, the value is that of a random sample of so many."""

NOT_DEFINED = "not defined: all scores of one side are the same"

Codes = NDArray[np.integer[Any]]


class Ranks(msgspec.Struct, frozen=True):
    """Both rank correlations; `sampled` is how many rows they are from, where not from all."""

    spearman: Figure
    kendall_tau_b: Figure
    sampled: int | None


def rank_figures(
    store: RunTables, judge: int, by: int | None, left_out: Mapping[Key, int], resampler: Resampler
) -> dict[Key, Ranks]:
    """Spearman's and Kendall's correlations of a judge's scores with people's, for each group."""
    where = f"judge = {judge} AND human_score IS NOT NULL AND score IS NOT NULL"
    sample = _sample(store, where)
    found = store.arrays(
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


def _sample(store: RunTables, where: str) -> str:
    """SQL for the rows that are looked at: all of them, unless they are many and have many levels."""
    levels = [
        store.row(f"SELECT count(*) FROM (SELECT DISTINCT {column} FROM rows WHERE {where} LIMIT {LEVELS + 1})")[0]
        for column in ("human_score", "score")
    ]
    (n,) = store.row(f"SELECT count(*) FROM rows WHERE {where}")
    if max(levels) <= LEVELS or n <= ROWS:
        return "true"
    return f"hash(ordinal, 1) % {-(-n // ROWS)} = 0"


def correlations(columns: Mapping[str, NDArray[Any]], left_out: int, resampler: Resampler) -> tuple[Figure, Figure]:
    """Spearman's and Kendall's correlations of `x` and `y`, each line `n` times, in `block`s that belong together."""
    x, y, n = columns["x"], columns["y"], columns["n"]
    (rows, first), (lines, second) = _levels(x), _levels(y)
    cells, every = rows * lines, float(n.sum())
    blocks, place = np.unique(columns["block"], return_inverse=True)
    sums = np.zeros((len(blocks), cells))
    np.add.at(sums, (place, first * lines + second), n)
    resampled = resampler.resample(sums)
    rho = tau = None
    coarse = 1.0
    if max(len(np.unique(x)), len(np.unique(y))) > LEVELS:
        rho, tau = _of_rows(np.repeat(x, n), np.repeat(y, n))
        coarse = math.sqrt(_untied(first, n) * _untied(second, n) / max(1.0, _untied(x, n) * _untied(y, n)))
    return (
        resampled.figure(lambda s: spearman(_table(s, rows)), every, left_out, NOT_DEFINED, rho),
        resampled.figure(lambda s: coarse * kendall_tau_b(_table(s, rows)), every, left_out, NOT_DEFINED, tau),
    )


def _of_rows(x: Floats, y: Floats) -> tuple[float, float]:
    from scipy import stats  # a third of the time of a small report, which seldom needs it

    return float(stats.spearmanr(x, y).statistic), float(stats.kendalltau(x, y).statistic)


def _untied(values: NDArray[Any], n: NDArray[Any]) -> float:
    """How many pairs of rows differ in a column: bins tie some, and tau-b takes those out of what it divides by."""
    _, place = np.unique(values, return_inverse=True)
    alike = np.bincount(place, n)
    return float((n.sum() ** 2 - (alike**2).sum()) / 2)


def _levels(values: Floats) -> tuple[int, Codes]:
    """How many levels there are and the level of each value; bins of equal size where there are too many."""
    levels, codes = np.unique(values, return_inverse=True)
    if len(levels) <= LEVELS:
        return len(levels), codes
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    return len(edges) + 1, np.searchsorted(edges, values, side="right")


def _table(sums: Floats, rows: int) -> Floats:
    return sums.reshape(*sums.shape[:-1], rows, -1)


def spearman(table: Floats) -> Floats:
    """Spearman's rho of tables of counts (..., levels, levels), ties at their middle rank."""
    first, second = table.sum(axis=-1), table.sum(axis=-2)
    half = first.sum(axis=-1, keepdims=True) / 2
    ranks = np.cumsum(first, axis=-1) - first / 2 - half
    others = np.cumsum(second, axis=-1) - second / 2 - half
    joint = np.einsum("...ij,...i,...j->...", table, ranks, others)
    own = (first * ranks**2).sum(axis=-1) * (second * others**2).sum(axis=-1)
    return np.where(own > 0, joint / np.sqrt(own), np.nan)


def kendall_tau_b(table: Floats) -> Floats:
    """Kendall's tau-b of tables of counts (..., levels, levels)."""
    below = np.cumsum(table, axis=-2) - table
    up_to = np.cumsum(below, axis=-1)
    concordant = (table * (up_to - below)).sum(axis=(-1, -2))
    discordant = (table * (up_to[..., -1:] - up_to)).sum(axis=(-1, -2))
    first, second = table.sum(axis=-1), table.sum(axis=-2)
    n = first.sum(axis=-1)
    pairs = n * (n - 1)
    untied = (pairs - (first * (first - 1)).sum(axis=-1)) * (pairs - (second * (second - 1)).sum(axis=-1))
    return np.where(untied > 0, 2 * (concordant - discordant) / np.sqrt(untied), np.nan)
