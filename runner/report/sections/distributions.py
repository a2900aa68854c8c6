"""How verdicts fall out: winners, scores, labels, criteria, and how far votes agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from runner.report.data.query import RunTables, distinct, quantiles
from runner.report.data.tables import UNREAD, VERDICT
from runner.report.models import Figure
from runner.report.stats.bootstrap import Resampler

LEVELS = 32
BINS = 20
MOST = 50
"""Of labels and of criteria, so many are listed: the most frequent."""

_CLASSES = ("1", "2", "tie", "unread")


class Histogram(msgspec.Struct, frozen=True):
    """How many values there are of each: `values` where they are few, else between each two of `edges`."""

    values: Sequence[float] | None
    edges: Sequence[float] | None
    counts: Sequence[int]


class Winners(msgspec.Struct, frozen=True):
    """How often each winner was named; `judge` None is the aggregated verdict (`of` verdict) or people (`of` people).

    `swapped` None: not asked with the answers exchanged. Keys are `1`, `2`, `tie` and `unread`.
    """

    of: str
    judge: str | None
    original: Mapping[str, int]
    swapped: Mapping[str, int] | None


class Scores(msgspec.Struct, frozen=True):
    """How scores spread; `of` and `judge` as in Winners. Rows whose score could not be read are in no figure."""

    of: str
    judge: str | None
    mean: Figure
    deviation: float | None
    quartiles: Sequence[float]
    histogram: Histogram


class Criterion(msgspec.Struct, frozen=True):
    """One criterion below the overall score; `answer` is 1 or 2 in pairwise verdicts."""

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
    """How far the votes of a sample agree: the share of the verdict's, and whether both orders name the same."""

    agreement: Histogram
    unanimous: int
    split: int
    consistent: int
    inconsistent: int


class Distributions(msgspec.Struct, frozen=True):
    """All of them; `contradictions` is how many rows' winner disagrees with their two scores, `count` of `n`."""

    winners: Sequence[Winners]
    scores: Sequence[Scores]
    criteria: Sequence[Criterion]
    labels: Sequence[LabelCount]
    votes: Votes | None
    contradictions: Figure


def distributions(store: RunTables, resampler: Resampler) -> Distributions:
    """Tell how verdicts fall out."""
    count, n = store.row(
        "SELECT count(*) FILTER (contradiction), count(contradiction) FROM results WHERE status = 'ok'"
    )
    none = Figure(reason="no row has a winner and two scores")
    labels = store.rows(
        "SELECT judge, label, count(*) AS n FROM results WHERE status = 'ok' AND label IS NOT NULL "
        f"GROUP BY judge, label ORDER BY n DESC, judge, label LIMIT {MOST}"
    )
    return Distributions(
        winners=_winners(store),
        scores=_scores(store, resampler),
        criteria=_criteria(store),
        labels=[LabelCount(*row) for row in labels],
        votes=_votes(store),
        contradictions=Figure(count / n, n=n, count=count) if n else none,
    )


def _named(store: RunTables) -> list[tuple[int, str, str | None]]:
    judges = [(judge.code, "judge", judge.name) for judge in store.tables.judges]
    return [*judges, (VERDICT, "verdict", None)]


def _winners(store: RunTables) -> list[Winners]:
    naming = {judge.code for judge in store.tables.judges if judge.winners}
    found: dict[tuple[int, bool], dict[str, int]] = {}
    for judge, swapped, winner, n in store.rows("SELECT judge, swapped, winner, count(*) FROM rows GROUP BY ALL"):
        found.setdefault((judge, swapped), dict.fromkeys(_CLASSES, 0))[_CLASSES[winner]] += n
    lines = [
        Winners(of, name, found.get((code, False), {}), found.get((code, True)))
        for code, of, name in _named(store)
        if code in naming or (code == VERDICT and naming and (code, False) in found)
    ]
    labelled = distinct("ordinal, human", "rows", f"human < {UNREAD}")
    people = dict(store.rows(f"SELECT human, count(*) FROM {labelled} GROUP BY human"))
    if people:
        lines.append(Winners("people", None, {name: people.get(code, 0) for code, name in enumerate(_CLASSES)}, None))
    return lines


def _scores(store: RunTables, resampler: Resampler) -> list[Scores]:
    giving = {judge.code for judge in store.tables.judges if judge.scores}
    lines = []
    for code, of, name in _named(store):
        if code in giving or (code == VERDICT and giving and store.tables.sample_columns):
            lines.append(_spread(store, of, name, f"(SELECT * FROM rows WHERE judge = {code})", resampler))
    people = (
        "(SELECT 0 AS judge, ordinal, any_value(block) AS block, any_value(human_score) AS score FROM rows "
        "WHERE human_score IS NOT NULL GROUP BY ordinal)"
    )
    if store.row(f"SELECT count(*) FROM {people}")[0]:
        lines.append(_spread(store, "people", None, people, resampler))
    return lines


def _spread(store: RunTables, of: str, judge: str | None, table: str, resampler: Resampler) -> Scores:
    """How the scores of a table spread."""
    sums = store.sums(table, ("count(*) - count(score)", "count(score)", "sum(score)"), None)
    resampled = resampler.resample(next(iter(sums.values()), np.zeros((1, 3))))
    left, n, _ = resampled.total
    deviation, quartiles = store.row(
        f"SELECT stddev_samp(score), {quantiles('score', (0, 0.25, 0.5, 0.75, 1), round(n))} FROM {table}"
    )
    return Scores(
        of=of,
        judge=judge,
        mean=resampled.figure(lambda s: s[..., 2] / s[..., 1], n, left, "no score could be read"),
        deviation=deviation,
        quartiles=quartiles or (),
        histogram=histogram(store, "score", table),
    )


def histogram(store: RunTables, column: str, table: str) -> Histogram:
    """Count a column's values: each for itself where there are few, else in bins of equal width."""
    kept = f"FROM {table} WHERE {column} IS NOT NULL"
    (levels,) = store.row(f"SELECT count(*) FROM (SELECT DISTINCT {column} {kept} LIMIT {LEVELS + 1})")
    if levels <= LEVELS:
        found = store.rows(f"SELECT {column}, count(*) {kept} GROUP BY 1 ORDER BY 1")
        return Histogram([value for value, _ in found], None, [n for _, n in found])
    low, high = store.row(f"SELECT min({column}), max({column}) {kept}")
    place = f"least(floor(({column} - {low!r}::DOUBLE) / {(high - low) / BINS!r}::DOUBLE), {BINS - 1})::INTEGER"
    counts = dict(store.rows(f"SELECT {place}, count(*) {kept} GROUP BY 1"))
    return Histogram(None, np.linspace(low, high, BINS + 1).tolist(), [counts.get(bin_, 0) for bin_ in range(BINS)])


def _criteria(store: RunTables) -> list[Criterion]:
    found = store.rows(
        "SELECT judge, d.name, d.answer, count(*) AS n, avg(d.score), min(d.score), max(d.score) FROM "
        "(SELECT judge, unnest(dimensions) AS d FROM results WHERE status = 'ok') WHERE isfinite(d.score) "
        f"GROUP BY judge, d.name, d.answer ORDER BY n DESC, judge, d.name, d.answer LIMIT {MOST}"
    )
    return [Criterion(*row) for row in found]


def _votes(store: RunTables) -> Votes | None:
    if not store.tables.sample_columns:
        return None
    row = store.row(
        "SELECT count(*) FILTER (agreement = 1), count(*) FILTER (agreement < 1), "
        "count(*) FILTER (consistent), count(*) FILTER (NOT consistent) FROM samples"
    )
    return Votes(histogram(store, "agreement", "samples"), *row) if row[0] or row[1] else None
