"""The headline figures as sums by block, so that `differences` can compare them: accuracy and rank correlation."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from runner.report.data.codes import UNREAD
from runner.report.data.query import Key, RunTables, grouped, having
from runner.report.models import Comparison, Figure
from runner.report.sections.rank_correlation import rank_table, spearman, table_of
from runner.report.sections.winner_agreement import kappa
from runner.report.stats.bootstrap import Floats, Statistic
from runner.report.stats.simultaneous import Blocks, Estimate, estimate, share_variance

_MAX_CORRELATION = 0.999  # Fisher's z has no value at 1
_CLASSES = 3
FIGURES = {"winners": "accuracy", "scores": "spearman", "labels": "accuracy"}


class Measure(msgspec.Struct, frozen=True):
    """A statistic of sums (blocks, cells), and the variance that it has at least."""

    statistic: Statistic
    blocks: Blocks
    sums: Floats
    least_variance: float

    def estimate(self, name: str | None, figure: Figure) -> Estimate | None:
        """Returns the estimate, or None if it has too few questions or no value."""
        return estimate(name, figure, self.statistic, self.blocks, self.sums, self.least_variance)


def headline_kind(compared: Comparison) -> str | None:
    """Returns the kind of verdict whose agreement with people is the headline: winners, scores or labels."""
    return next((kind for kind in FIGURES if getattr(compared, kind) is not None), None)


def headline(compared: Comparison) -> Figure:
    """Returns the figure that stands for the agreement with people."""
    if compared.winners is not None:
        return compared.winners.with_ties.accuracy
    if compared.scores is not None:
        return compared.scores.spearman
    return Figure() if compared.labels is None else compared.labels.accuracy


def beyond_chance(compared: Comparison) -> Figure:
    """Returns the figure that is 0 if a judge knows nothing of the labels: kappa, or Spearman's correlation."""
    if compared.winners is not None:
        return compared.winners.with_ties.kappa
    if compared.scores is not None:
        return compared.scores.spearman
    return Figure() if compared.labels is None else compared.labels.kappa


def headline_measures(tables: RunTables, judge: int, kind: str, by: int | None) -> Mapping[Key, Measure]:
    """Returns the measure of the headline figure for each value of a grouping column; `by` None: for all rows."""
    if kind == "scores":
        return _correlations(tables, judge, by)
    if kind == "winners":
        terms = (f"count(*) FILTER (winner < {UNREAD} AND winner = human)", f"count(*) FILTER (winner < {UNREAD})")
        found = tables.block_sums("rows", terms, by, f"judge = {judge} AND human < {UNREAD}")
    else:
        terms = ("count(*) FILTER (human = label)", f"count(*) FILTER (label < {_labels(tables)})")
        found = tables.block_sums("labels", terms, by, f"judge = {judge}") if _labels(tables) else {}
    measures = {}
    for key, (blocks, sums) in found.items():
        used = sums[:, 1] > 0
        count, n = sums.sum(axis=0)
        measures[key] = Measure(_share, blocks[used], sums[used], share_variance(count, n))
    return measures


def chance_measure(tables: RunTables, judge: int, kind: str) -> Measure | None:
    """Returns the measure of agreement beyond chance over all rows."""
    if kind == "scores":
        return next(iter(_correlations(tables, judge, None).values()), None)
    size = _CLASSES if kind == "winners" else _labels(tables)
    if not size:
        return None
    table, verdict = ("rows", "winner") if kind == "winners" else ("labels", "label")
    terms = [f"count(*) FILTER (human = {one} AND {verdict} = {other})" for one in range(size) for other in range(size)]
    found = tables.block_sums(table, terms, None, f"judge = {judge} AND human < {size}")
    for blocks, sums in found.values():
        used = sums.sum(axis=1) > 0
        floor = share_variance(0.0, float(sums.sum()))
        return Measure(lambda s: kappa(s.reshape(*s.shape[:-1], size, size)), blocks[used], sums[used], floor)
    return None


def _labels(tables: RunTables) -> int:
    return len(tables.facts.label_classes or ())


def _share(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _correlations(tables: RunTables, judge: int, by: int | None) -> dict[Key, Measure]:
    found = tables.arrays(
        f"SELECT {grouped(by)} AS g, block, human_score AS x, score AS y, count(*) AS n FROM rows "
        f"WHERE judge = {judge} AND human_score IS NOT NULL AND score IS NOT NULL AND {having(by)} GROUP BY ALL"
    )
    measures = {}
    for group in np.unique(found["g"]):
        here = found["g"] == group
        blocks, sums, rows = rank_table({name: found[name][here] for name in ("block", "x", "y", "n")})
        key = (judge, None if group < 0 else int(group))
        measures[key] = Measure(_fisher_z(rows), blocks, sums, 1 / max(1.0, float(sums.sum()) - 3))
    return measures


def _fisher_z(rows: int) -> Statistic:
    def statistic(sums: Floats) -> Floats:
        rho = np.clip(spearman(table_of(sums, rows)), -_MAX_CORRELATION, _MAX_CORRELATION)
        return np.asarray(np.arctanh(rho))

    return statistic
