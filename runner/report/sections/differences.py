"""Tests behind the key findings: which groups and judges differ, and which agree better or worse than by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.report.data.codes import VERDICT
from runner.report.data.query import RunTables
from runner.report.models import Agreement
from runner.report.sections.headline_measures import (
    FIGURES,
    beyond_chance,
    chance_measure,
    headline,
    headline_kind,
    headline_measures,
)
from runner.report.significance import Chance, GroupDifference, JudgeDifference, Tests
from runner.report.stats.simultaneous import (
    MIN_QUESTIONS,
    SIGNIFICANCE_LEVEL,
    Difference,
    Estimate,
    against_zero,
    differences,
    holm,
)

Tested = Sequence[tuple[Difference, float]]


def tests(tables: RunTables, agreements: Sequence[Agreement]) -> Tests:
    """Run the tests on the headline figures: accuracy for winners and labels, Spearman's correlation for scores."""
    codes: dict[str | None, int] = {judge.name: judge.code for judge in tables.facts.judges}
    codes[None] = VERDICT
    kinds = {entry.judge: kind for entry in agreements if (kind := headline_kind(entry.overall)) is not None}
    entries = [entry for entry in agreements if entry.judge in kinds]
    judges = [entry for entry in entries if entry.judge is not None]
    main = judges[0] if len(judges) == 1 else next((entry for entry in entries if entry.judge is None), None)
    return Tests(
        level=SIGNIFICANCE_LEVEL,
        least_questions=MIN_QUESTIONS,
        groups=[] if main is None else _groups(tables, main, codes[main.judge], kinds[main.judge]),
        judges=_judges(tables, judges, codes, kinds),
        chance=_chance(tables, entries, codes, kinds),
    )


def _groups(tables: RunTables, entry: Agreement, judge: int, kind: str) -> list[GroupDifference]:
    """Compare the values of each grouping column; the p-values are adjusted over all columns."""
    columns: list[tuple[str, int, list[Estimate]]] = []
    for index, group in enumerate(tables.facts.groups):
        shown = {one.value: headline(one.comparison) for one in entry.groups.get(group.column, ())}
        measures = headline_measures(tables, judge, kind, index)
        found = [
            made
            for code, value in enumerate(group.values)
            if value in shown and (measure := measures.get((judge, code))) is not None
            if (made := measure.estimate(value, shown[value])) is not None
        ]
        columns.append((group.column, len(shown), found))
    pairs = [differences(found) for *_, found in columns]
    adjusted = iter(holm([one.p_value for column in pairs for one in column]))
    compared = []
    for (column, shown_groups, found), of_column in zip(columns, pairs, strict=True):
        pair = _largest_significant([(one, next(adjusted)) for one in of_column])
        compared.append(GroupDifference(column, FIGURES[kind], shown_groups, len(found), *pair))
    return compared


def _judges(
    tables: RunTables, entries: Sequence[Agreement], codes: Mapping[str | None, int], kinds: Mapping[str | None, str]
) -> JudgeDifference | None:
    """Compare the judges with each other; None unless there are several with the same kind of verdict."""
    used = {kinds[entry.judge] for entry in entries}
    if len(entries) < 2 or len(used) != 1:
        return None
    (kind,) = used
    found = [
        made
        for entry in entries
        for measure in headline_measures(tables, codes[entry.judge], kind, None).values()
        if (made := measure.estimate(entry.judge, headline(entry.overall))) is not None
    ]
    pairs = differences(found)
    pair = _largest_significant(list(zip(pairs, holm([one.p_value for one in pairs]), strict=True)))
    return JudgeDifference(FIGURES[kind], len(found), *pair)


def _chance(
    tables: RunTables, entries: Sequence[Agreement], codes: Mapping[str | None, int], kinds: Mapping[str | None, str]
) -> list[Chance]:
    """Test each judge, and the aggregated verdict, against agreement by chance alone.

    The p-values of the judges are adjusted for their number; the aggregated verdict is one test by itself.
    """
    found: dict[str | None, float] = {}
    for entry in entries:
        measure = chance_measure(tables, codes[entry.judge], kinds[entry.judge])
        made = None if measure is None else measure.estimate(entry.judge, beyond_chance(entry.overall))
        if made is not None:
            found[entry.judge] = against_zero(made)
    judges = [name for name in found if name is not None]
    adjusted: dict[str | None, float] = dict(zip(judges, holm([found[name] for name in judges]), strict=True))
    return [Chance(name, p_value, adjusted.get(name, p_value)) for name, p_value in found.items()]


def _largest_significant(tested: Tested) -> tuple[str | None, str | None, float | None]:
    """Returns the names of the significant pair with the largest difference, the lower one first, and its p-value."""
    significant = [(one, p_value) for one, p_value in tested if p_value <= SIGNIFICANCE_LEVEL]
    if not significant:
        return None, None, None
    pair, p_value = max(significant, key=lambda one: abs(one[0].first.value - one[0].second.value))
    low, high = sorted((pair.first, pair.second), key=lambda one: one.value)
    return low.name, high.name, p_value
