"""Scores against people's: figures of moments, of ranks, and of pairs within a question."""

from __future__ import annotations

import msgspec
import numpy as np

from runner.report.data.query import Key, RunTables, having
from runner.report.data.tables import VERDICT
from runner.report.models import Figure, ScalePair, ScoreAgreement, Span
from runner.report.sections.rank_correlation import NOT_DEFINED, rank_figures
from runner.report.stats.bootstrap import Floats, Resampled, Resampler, Statistic
from runner.report.stats.moments import LEFT, N, X, Y, moment_terms, pearson, spreads

PAIRED = 256
"""Of a question with more different pairs of scores than this, so many are drawn to be compared with each other."""

NO_SCALES = "needs the scales of both: judge.scale (or the format's own) and human_label.scale"
ONE_EACH = "no question has several scored samples"

_ABSOLUTE = 7


class Mapping(msgspec.Struct, frozen=True):
    """How a judge's score becomes one on people's scale, `offset + slope * score`, and from where sums are taken."""

    offset: float
    slope: float
    human_zero: float
    judge_zero: float


def score_agreement(
    store: RunTables, judge: int, by: int | None, scales: ScalePair | None, resampler: Resampler
) -> dict[Key, ScoreAgreement]:
    """Compare a judge's scores with people's, for each group; empty where neither has any."""
    if not any(one.scores for one in store.tables.judges if judge in (one.code, VERDICT)):
        return {}
    where = f"judge = {judge} AND human_score IS NOT NULL"
    x, y = store.row(f"SELECT min(human_score), min(score) FROM rows WHERE {where}")
    if x is None:
        return {}
    how = _mapping(scales, x, 0.0 if y is None else y)
    distance = f"sum(abs({how.offset!r}::DOUBLE + {how.slope!r}::DOUBLE * score - human_score))"
    terms = (*moment_terms("human_score", "score", how.human_zero, how.judge_zero), distance)
    moments = store.sums("rows", terms, by, where)
    left_out = {key: round(sums[:, LEFT].sum()) for key, sums in moments.items()}
    ranks = rank_figures(store, judge, by, left_out, resampler)
    pairs = _within_questions(store, by, where) if store.tables.clusters.shared else {}
    compared = {}
    for key, sums in moments.items():
        of = resampler.resample(sums)
        n, left = float(of.total[N]), float(of.total[LEFT])
        none = Figure(left_out=left_out[key], reason="no row has both a human score and a readable one")
        rank = ranks.get(key)
        orders = _order_figures(pairs.get(key), left_out[key], resampler)
        compared[key] = ScoreAgreement(
            pearson=of.figure(pearson, n, left, NOT_DEFINED) if n else none,
            spearman=rank.spearman if rank else none,
            kendall_tau_b=rank.kendall_tau_b if rank else none,
            pairwise_accuracy=orders[0],
            pairwise_accuracy_with_ties=orders[1],
            **_on_one_scale(of, how if scales else None, none),
            scales=scales,
            sampled=rank.sampled if rank else None,
            resampled=of.units,
        )
    return compared


def scale_pair(judge: Span | None, human: Span | None) -> ScalePair | None:
    """Both scales, where both are known and neither is a single point."""
    if judge is None or human is None or judge[0] == judge[1] or human[0] == human[1]:
        return None
    return ScalePair(judge, human, tuple(judge) != tuple(human))


def _mapping(scales: ScalePair | None, x: float, y: float) -> Mapping:
    if scales is None or not scales.mapped:
        return Mapping(0.0, 1.0, x, y)
    slope = (scales.human[1] - scales.human[0]) / (scales.judge[1] - scales.judge[0])
    return Mapping(scales.human[0] - slope * scales.judge[0], slope, x, y)


def _on_one_scale(of: Resampled, how: Mapping | None, none: Figure) -> dict[str, Figure]:
    """The figures that compare the scores themselves."""
    n, left = float(of.total[N]), float(of.total[LEFT])
    names = ("mean_difference", "mean_absolute_error", "quadratic_kappa")
    if how is None or not n:
        reason = none if not n else Figure(n=round(n), left_out=round(left), reason=NO_SCALES)
        return dict.fromkeys(names, reason)

    def difference(sums: Floats) -> Floats:
        judged = how.offset + how.slope * (how.judge_zero + sums[..., Y] / sums[..., N])
        return judged - how.human_zero - sums[..., X] / sums[..., N]

    def quadratic_kappa(sums: Floats) -> Floats:
        x, y, both = spreads(sums)
        by_chance = x + how.slope**2 * y + difference(sums) ** 2
        return np.where(by_chance > 0, 2 * how.slope * both / by_chance, np.nan)

    statistics: tuple[Statistic, ...] = (
        difference,
        lambda sums: sums[..., _ABSOLUTE] / sums[..., N],
        quadratic_kappa,
    )
    figures = (of.figure(statistic, n, left, NOT_DEFINED) for statistic in statistics)
    return dict(zip(names, figures, strict=True))


def _within_questions(store: RunTables, by: int | None, where: str) -> dict[Key, Floats]:
    """Pairs of rows of one question, asked in the same order and repeat: right, wrong, tied by the judge, tied by
    people alone, tied by both; a line for each block."""
    group = "" if by is None else f"g{by}, "
    alike = f"judge, {group}question, swapped, repeat"
    store.run(
        f"CREATE OR REPLACE TABLE alike AS SELECT {alike}, any_value(block) AS block, human_score AS x, score AS y, "
        f"count(*) AS n FROM rows WHERE {where} AND score IS NOT NULL AND {having(by)} "
        f"GROUP BY {alike}, human_score, score"
    )
    (most,) = store.row(f"SELECT max(n) FROM (SELECT count(*) AS n FROM alike GROUP BY {alike})")
    if (most or 0) > PAIRED:
        drawn = f"row_number() OVER (PARTITION BY {alike} ORDER BY hash(x, y)) <= {PAIRED}"
        store.run(f"CREATE OR REPLACE TABLE alike AS SELECT * FROM alike QUALIFY {drawn}")
    store.run(
        f"CREATE OR REPLACE TABLE compared AS SELECT judge, {group}a.block, sign(b.x - a.x) * (2 + sign(b.y - a.y)) "
        f"AS kind, sum(a.n * b.n)::DOUBLE AS n FROM alike a JOIN alike b USING ({alike}) "
        "WHERE b.x > a.x OR (b.x = a.x AND b.y > a.y) GROUP BY ALL "
        f"UNION ALL SELECT judge, {group}block, -1, sum(n * (n - 1) / 2)::DOUBLE FROM alike GROUP BY ALL"
    )
    terms = [f"sum(n) FILTER (kind = {kind})" for kind in (3, 1, 2, 0, -1)]
    return store.sums("compared", terms, by)


def _order_figures(sums: Floats | None, left_out: int, resampler: Resampler) -> tuple[Figure, Figure]:
    if sums is None or not sums.sum():
        none = Figure(left_out=left_out, reason=ONE_EACH)
        return none, none
    of = resampler.resample(sums)
    right, both = np.array([1.0, 0, 0, 0, 0]), np.array([1.0, 0, 0, 0, 1])
    told_apart, every = np.array([1.0, 1, 1, 0, 0]), np.ones(5)
    left = np.zeros(5)
    figures = (
        of.share(right, told_apart, left, "people score all samples of each question the same"),
        of.share(both, every, left, ONE_EACH),
    )
    first, second = (msgspec.structs.replace(figure, left_out=left_out) for figure in figures)
    return first, second
