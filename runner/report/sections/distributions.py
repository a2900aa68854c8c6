"""Distributions of verdicts: winners, scores, labels, criteria, and the agreement of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from runner.report.data.codes import UNREAD, VERDICT
from runner.report.data.query import RunTables, distinct, quantiles
from runner.report.models import Figure
from runner.report.stats.bootstrap import Resampler

MAX_LEVELS = 32  # a histogram of more distinct values has bins
BINS = 20
MAX_LISTED = 50  # the most frequent labels and criteria are listed

_CLASSES = ("1", "2", "tie", "unread")


class Histogram(msgspec.Struct, frozen=True):
    """Counts by value: of each of `values` if they are few, else between neighbouring `edges`."""

    values: Sequence[float] | None
    edges: Sequence[float] | None
    counts: Sequence[int]


class Winners(msgspec.Struct, frozen=True):
    """How often each winner was named.

    Attributes:
        of: `judge`, `verdict` (the aggregated verdict) or `people` (human labels).
        judge: name of the judge; None unless `of` is `judge`.
        original: counts in the dataset's order; keys are `1`, `2`, `tie` and `unread`.
        swapped: counts with the answers swapped; None if that order was not judged.
    """

    of: str
    judge: str | None
    original: Mapping[str, int]
    swapped: Mapping[str, int] | None


class Scores(msgspec.Struct, frozen=True):
    """Distribution of scores; `of` and `judge` as in Winners. Rows without a readable score are left out."""

    of: str
    judge: str | None
    mean: Figure
    deviation: float | None
    quartiles: Sequence[float]
    histogram: Histogram


class Criterion(msgspec.Struct, frozen=True):
    """Scores of one criterion; `answer` is 1 or 2 in pairwise verdicts, else None."""

    judge: str
    name: str
    answer: int | None
    n: int
    mean: float
    min: float
    max: float


class LabelCount(msgspec.Struct, frozen=True):
    """How often a judge gave a free label."""

    judge: str
    label: str
    n: int


class Votes(msgspec.Struct, frozen=True):
    """Agreement of the votes of a sample.

    Attributes:
        agreement: histogram of the share of votes for the verdict.
        unanimous: samples whose votes all agree.
        split: samples whose votes differ.
        consistent: samples on which every judge names the same winner in both orders.
        inconsistent: samples on which at least one judge does not.
    """

    agreement: Histogram
    unanimous: int
    split: int
    consistent: int
    inconsistent: int


class Distributions(msgspec.Struct, frozen=True):
    """All distributions; `contradictions` is the share of rows whose winner disagrees with their two scores."""

    winners: Sequence[Winners]
    scores: Sequence[Scores]
    criteria: Sequence[Criterion]
    labels: Sequence[LabelCount]
    votes: Votes | None
    contradictions: Figure


def distributions(tables: RunTables, resampler: Resampler) -> Distributions:
    """Compute the distributions of verdicts."""
    count, n = tables.row(
        "SELECT count(*) FILTER (contradiction), count(contradiction) FROM results WHERE status = 'ok'"
    )
    none = Figure(reason="no row has a winner and two scores")
    labels = tables.rows(
        "SELECT judge, label, count(*) AS n FROM results WHERE status = 'ok' AND label IS NOT NULL "
        f"GROUP BY judge, label ORDER BY n DESC, judge, label LIMIT {MAX_LISTED}"
    )
    return Distributions(
        winners=_winners(tables),
        scores=_scores(tables, resampler),
        criteria=_criteria(tables),
        labels=[LabelCount(*row) for row in labels],
        votes=_votes(tables),
        contradictions=Figure(count / n, n=n, count=count) if n else none,
    )


def _sources(tables: RunTables) -> list[tuple[int, str, str | None]]:
    judges = [(judge.code, "judge", judge.name) for judge in tables.facts.judges]
    return [*judges, (VERDICT, "verdict", None)]


def _winners(tables: RunTables) -> list[Winners]:
    winner_codes = {judge.code for judge in tables.facts.judges if judge.winners}
    found: dict[tuple[int, bool], dict[str, int]] = {}
    for judge, swapped, winner, n in tables.rows("SELECT judge, swapped, winner, count(*) FROM rows GROUP BY ALL"):
        found.setdefault((judge, swapped), dict.fromkeys(_CLASSES, 0))[_CLASSES[winner]] += n
    lines = [
        Winners(of, name, found.get((code, False), {}), found.get((code, True)))
        for code, of, name in _sources(tables)
        if code in winner_codes or (code == VERDICT and winner_codes and (code, False) in found)
    ]
    labelled = distinct("ordinal, human", "rows", f"human < {UNREAD}")
    people = dict(tables.rows(f"SELECT human, count(*) FROM {labelled} GROUP BY human"))
    if people:
        lines.append(Winners("people", None, {name: people.get(code, 0) for code, name in enumerate(_CLASSES)}, None))
    return lines


def _scores(tables: RunTables, resampler: Resampler) -> list[Scores]:
    score_codes = {judge.code for judge in tables.facts.judges if judge.scores}
    lines = []
    for code, of, name in _sources(tables):
        if code in score_codes or (code == VERDICT and score_codes and tables.facts.sample_columns):
            lines.append(_score_distribution(tables, of, name, f"(SELECT * FROM rows WHERE judge = {code})", resampler))
    people = (
        "(SELECT 0 AS judge, ordinal, any_value(block) AS block, any_value(human_score) AS score FROM rows "
        "WHERE human_score IS NOT NULL GROUP BY ordinal)"
    )
    if tables.row(f"SELECT count(*) FROM {people}")[0]:
        lines.append(_score_distribution(tables, "people", None, people, resampler))
    return lines


def _score_distribution(tables: RunTables, of: str, judge: str | None, table: str, resampler: Resampler) -> Scores:
    """Returns the distribution of the scores of a table."""
    sums = tables.sums(table, ("count(*) - count(score)", "count(score)", "sum(score)"), None)
    resampled = resampler.resample(next(iter(sums.values()), np.zeros((1, 3))))
    left, n, _ = resampled.total
    deviation, quartiles = tables.row(
        f"SELECT stddev_samp(score), {quantiles('score', (0, 0.25, 0.5, 0.75, 1), round(n))} FROM {table}"
    )
    return Scores(
        of=of,
        judge=judge,
        mean=resampled.figure(lambda s: s[..., 2] / s[..., 1], n, left, "no score could be read"),
        deviation=deviation,
        quartiles=quartiles or (),
        histogram=histogram(tables, "score", table),
    )


def histogram(tables: RunTables, column: str, table: str) -> Histogram:
    """Count a column's values: each distinct value if there are few, else in bins of equal width."""
    kept = f"FROM {table} WHERE {column} IS NOT NULL"
    (levels,) = tables.row(f"SELECT count(*) FROM (SELECT DISTINCT {column} {kept} LIMIT {MAX_LEVELS + 1})")
    if levels <= MAX_LEVELS:
        found = tables.rows(f"SELECT {column}, count(*) {kept} GROUP BY 1 ORDER BY 1")
        return Histogram([value for value, _ in found], None, [n for _, n in found])
    low, high = tables.row(f"SELECT min({column}), max({column}) {kept}")
    place = f"least(floor(({column} - {low!r}::DOUBLE) / {(high - low) / BINS!r}::DOUBLE), {BINS - 1})::INTEGER"
    counts = dict(tables.rows(f"SELECT {place}, count(*) {kept} GROUP BY 1"))
    return Histogram(None, np.linspace(low, high, BINS + 1).tolist(), [counts.get(bin_, 0) for bin_ in range(BINS)])


def _criteria(tables: RunTables) -> list[Criterion]:
    found = tables.rows(
        "SELECT judge, d.name, d.answer, count(*) AS n, avg(d.score), min(d.score), max(d.score) FROM "
        "(SELECT judge, unnest(dimensions) AS d FROM results WHERE status = 'ok') WHERE isfinite(d.score) "
        f"GROUP BY judge, d.name, d.answer ORDER BY n DESC, judge, d.name, d.answer LIMIT {MAX_LISTED}"
    )
    return [Criterion(*row) for row in found]


def _votes(tables: RunTables) -> Votes | None:
    if not tables.facts.sample_columns:
        return None
    row = tables.row(
        "SELECT count(*) FILTER (agreement = 1), count(*) FILTER (agreement < 1), "
        "count(*) FILTER (consistent), count(*) FILTER (NOT consistent) FROM samples"
    )
    return Votes(histogram(tables, "agreement", "samples"), *row) if row[0] or row[1] else None
