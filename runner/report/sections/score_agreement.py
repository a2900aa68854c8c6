"""Agreement of scores with human scores: from moments, from ranks, and from pairs within a question."""

from __future__ import annotations

import msgspec
import numpy as np

from runner.report.data.codes import VERDICT
from runner.report.data.query import Key, RunTables, having
from runner.report.models import Figure, ScalePair, ScoreAgreement, Span
from runner.report.sections.rank_correlation import NOT_DEFINED, rank_figures
from runner.report.stats.bootstrap import Floats, Resampled, Resampler, Statistic
from runner.report.stats.moments import LEFT_OUT, N, X, Y, moment_terms, pearson, variances

# A question with more distinct (human score, score) pairs than this is reduced to a random selection of this many.
MAX_PAIRED_SCORES = 256

NO_SCALES = "needs both scales: judge.scale (unless the format defines it) and human_label.scale"
ONE_SAMPLE_EACH = "no question has two or more scored samples"

_ABSOLUTE = 7  # position of the sum of absolute differences, after `moment_terms`


class ScaleMapping(msgspec.Struct, frozen=True):
    """Maps a judge's score to the human scale as `offset + slope * score`; sums are taken relative to the zeros."""

    offset: float
    slope: float
    human_zero: float
    judge_zero: float


def score_agreement(
    tables: RunTables, judge: int, by: int | None, scales: ScalePair | None, resampler: Resampler
) -> dict[Key, ScoreAgreement]:
    """Compare a judge's scores with human scores, for each group; empty if the judge or the dataset has no scores."""
    if not any(one.scores for one in tables.facts.judges if judge in (one.code, VERDICT)):
        return {}
    where = f"judge = {judge} AND human_score IS NOT NULL"
    x, y = tables.row(f"SELECT min(human_score), min(score) FROM rows WHERE {where}")
    if x is None:
        return {}
    mapping = _mapping(scales, x, 0.0 if y is None else y)
    distance = f"sum(abs({mapping.offset!r}::DOUBLE + {mapping.slope!r}::DOUBLE * score - human_score))"
    terms = (*moment_terms("human_score", "score", mapping.human_zero, mapping.judge_zero), distance)
    moments = tables.sums("rows", terms, by, where)
    left_out = {key: round(sums[:, LEFT_OUT].sum()) for key, sums in moments.items()}
    ranks = rank_figures(tables, judge, by, left_out, resampler)
    pairs = _within_questions(tables, by, where) if tables.facts.clusters.shared else {}
    compared = {}
    for key, sums in moments.items():
        resampled = resampler.resample(sums)
        n, left = float(resampled.total[N]), float(resampled.total[LEFT_OUT])
        none = Figure(left_out=left_out[key], reason="no row has both a human score and a readable score")
        rank = ranks.get(key)
        orders = _order_figures(pairs.get(key), left_out[key], resampler)
        compared[key] = ScoreAgreement(
            pearson=resampled.figure(pearson, n, left, NOT_DEFINED) if n else none,
            spearman=rank.spearman if rank else none,
            kendall_tau_b=rank.kendall_tau_b if rank else none,
            pairwise_accuracy=orders[0],
            pairwise_accuracy_with_ties=orders[1],
            **_on_one_scale(resampled, mapping if scales else None, none),
            scales=scales,
            sampled=rank.sampled if rank else None,
            resampled=resampled.units,
        )
    return compared


def scale_pair(judge: Span | None, human: Span | None) -> ScalePair | None:
    """Returns both scales if both are known and neither is a single point, else None."""
    if judge is None or human is None or judge[0] == judge[1] or human[0] == human[1]:
        return None
    return ScalePair(judge, human, tuple(judge) != tuple(human))


def _mapping(scales: ScalePair | None, x: float, y: float) -> ScaleMapping:
    if scales is None or not scales.mapped:
        return ScaleMapping(0.0, 1.0, x, y)
    slope = (scales.human[1] - scales.human[0]) / (scales.judge[1] - scales.judge[0])
    return ScaleMapping(scales.human[0] - slope * scales.judge[0], slope, x, y)


def _on_one_scale(resampled: Resampled, mapping: ScaleMapping | None, none: Figure) -> dict[str, Figure]:
    """Returns the figures that compare scores directly and so need a common scale."""
    n, left = float(resampled.total[N]), float(resampled.total[LEFT_OUT])
    names = ("mean_difference", "mean_absolute_error", "quadratic_kappa")
    if mapping is None or not n:
        reason = none if not n else Figure(n=round(n), left_out=round(left), reason=NO_SCALES)
        return dict.fromkeys(names, reason)

    def difference(sums: Floats) -> Floats:
        judged = mapping.offset + mapping.slope * (mapping.judge_zero + sums[..., Y] / sums[..., N])
        return judged - mapping.human_zero - sums[..., X] / sums[..., N]

    def quadratic_kappa(sums: Floats) -> Floats:
        x, y, both = variances(sums)
        by_chance = x + mapping.slope**2 * y + difference(sums) ** 2
        return np.where(by_chance > 0, 2 * mapping.slope * both / by_chance, np.nan)

    statistics: tuple[Statistic, ...] = (
        difference,
        lambda sums: sums[..., _ABSOLUTE] / sums[..., N],
        quadratic_kappa,
    )
    figures = (resampled.figure(statistic, n, left, NOT_DEFINED) for statistic in statistics)
    return dict(zip(names, figures, strict=True))


def _within_questions(tables: RunTables, by: int | None, where: str) -> dict[Key, Floats]:
    """Count pairs of rows of one question in the same order and repeat, by block.

    The five counts are: right, wrong, tied by the judge only, tied by humans only, tied by both.
    """
    group = "" if by is None else f"g{by}, "
    keys = f"judge, {group}question, swapped, repeat"
    tables.run(
        f"CREATE OR REPLACE TABLE question_scores AS SELECT {keys}, any_value(block) AS block, "
        f"human_score AS x, score AS y, count(*) AS n FROM rows WHERE {where} AND score IS NOT NULL AND {having(by)} "
        f"GROUP BY {keys}, human_score, score"
    )
    (most,) = tables.row(f"SELECT max(n) FROM (SELECT count(*) AS n FROM question_scores GROUP BY {keys})")
    if (most or 0) > MAX_PAIRED_SCORES:
        selected = f"row_number() OVER (PARTITION BY {keys} ORDER BY hash(x, y)) <= {MAX_PAIRED_SCORES}"
        tables.run(f"CREATE OR REPLACE TABLE question_scores AS SELECT * FROM question_scores QUALIFY {selected}")
    tables.run(
        f"CREATE OR REPLACE TABLE compared AS SELECT judge, {group}a.block, sign(b.x - a.x) * (2 + sign(b.y - a.y)) "
        f"AS kind, sum(a.n * b.n)::DOUBLE AS n FROM question_scores a JOIN question_scores b USING ({keys}) "
        "WHERE b.x > a.x OR (b.x = a.x AND b.y > a.y) GROUP BY ALL "
        f"UNION ALL SELECT judge, {group}block, -1, sum(n * (n - 1) / 2)::DOUBLE FROM question_scores GROUP BY ALL"
    )
    terms = [f"sum(n) FILTER (kind = {kind})" for kind in (3, 1, 2, 0, -1)]
    return tables.sums("compared", terms, by)


def _order_figures(sums: Floats | None, left_out: int, resampler: Resampler) -> tuple[Figure, Figure]:
    if sums is None or not sums.sum():
        none = Figure(left_out=left_out, reason=ONE_SAMPLE_EACH)
        return none, none
    resampled = resampler.resample(sums)
    right, both = np.array([1.0, 0, 0, 0, 0]), np.array([1.0, 0, 0, 0, 1])
    different, every = np.array([1.0, 1, 1, 0, 0]), np.ones(5)
    left = np.zeros(5)
    figures = (
        resampled.share(right, different, left, "all samples of each question have the same human score"),
        resampled.share(both, every, left, ONE_SAMPLE_EACH),
    )
    first, second = (msgspec.structs.replace(figure, left_out=left_out) for figure in figures)
    return first, second
