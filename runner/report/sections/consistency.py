"""Consistency of each judge over orders and repeats, and agreement between judges."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from msgspec.structs import replace

from runner.report.data.query import Key, RunTables
from runner.report.data.tables import Judge
from runner.report.models import Consistency, Figure, GroupSteadiness, JudgeConsistency, Repeats, Scales, Steadiness
from runner.report.sections.inter_judge import panel
from runner.report.sections.winner_agreement import CELL, CELLS, position, preference_p_value
from runner.report.stats import krippendorff
from runner.report.stats.bootstrap import Floats, Resampled, Resampler
from runner.report.stats.simultaneous import holm

_SCORES = len(krippendorff.WINNER_TERMS)
_EXTRA = ("count(*) FILTER (k >= 2 AND high = low)", "sum(high - low) FILTER (k >= 2)")


def consistency(tables: RunTables, criteria: Collection[str], scales: Scales, resampler: Resampler) -> Consistency:
    """Compute the consistency of each judge, and the agreement between judges.

    Args:
        tables: the run.
        criteria: judges that score one criterion; they measure something else and are not part of the panel.
        scales: the known scales of the judges.
        resampler: draws the resamples for intervals.
    """
    judges = tables.facts.judges
    if any(judge.repeats > 1 for judge in judges):
        _make_repeated(tables)
    consistencies = []
    for judge in judges:
        measurer = _SelfConsistency(tables, judge, resampler)
        overall, groups = tables.by_group(measurer.measure, judge.code)
        in_groups = {column: [GroupSteadiness(*one) for one in found] for column, found in groups.items()}
        consistencies.append(JudgeConsistency(judge.name, overall or Steadiness(), in_groups))
    consistencies = _with_p_values(tables, consistencies)
    members = [judge for judge in judges if judge.name not in criteria]
    return Consistency(consistencies, panel(tables, members, scales, resampler) if len(members) > 1 else None)


def _with_p_values(tables: RunTables, judges: Sequence[JudgeConsistency]) -> list[JudgeConsistency]:
    """Add the p-value of each judge's preference for a position, adjusted for the number of judges."""
    codes = {judge.name: judge.code for judge in tables.facts.judges}
    p_values = {}
    for judge in judges:
        if judge.overall.position is not None and judge.overall.position.balanced:
            (sums,) = tables.cells("pairs", CELL, CELLS, None, f"judge = {codes[judge.judge]}").values()
            if (p_value := preference_p_value(sums)) is not None:
                p_values[judge.judge] = p_value
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    found = []
    for judge in judges:
        if (position := judge.overall.position) is not None:
            position = replace(position, p_value=adjusted.get(judge.judge))
            judge = replace(judge, overall=replace(judge.overall, position=position))  # noqa: PLW2901
        found.append(judge)
    return found


class _SelfConsistency:
    """Measures one judge's consistency over orders and repeats."""

    def __init__(self, tables: RunTables, judge: Judge, resampler: Resampler) -> None:
        self._tables = tables
        self._judge = judge
        self._resampler = resampler

    def measure(self, by: int | None) -> dict[Key, Steadiness]:
        """Returns the consistency for each value of a grouping column; `by` None uses all rows."""
        where = f"judge = {self._judge.code}"
        positions, repeats = {}, {}
        if self._judge.winners:
            cells = self._tables.cells("pairs", CELL, CELLS, by, where)
            positions = {key: position(self._resampler.resample(sums)) for key, sums in cells.items()}
        if self._judge.repeats > 1:
            terms = (*krippendorff.WINNER_TERMS, *krippendorff.SCORE_TERMS, *_EXTRA)
            found = self._tables.sums("repeated", terms, by, where)
            repeats = {key: self._repeats(self._resampler.resample(sums)) for key, sums in found.items()}
        keys = dict.fromkeys((*positions, *repeats))
        return {key: Steadiness(positions.get(key), repeats.get(key)) for key in keys}

    def _repeats(self, resampled: Resampled) -> Repeats:
        unit = np.eye(len(resampled.total))
        scored, unscored = unit[_SCORES], unit[_SCORES + krippendorff.LEFT_OUT_SCORES]
        n, left = float(resampled.total @ scored), float(resampled.total @ unscored)
        no_winners = Figure(reason="this judge does not name winners")
        no_scores = Figure(reason="this judge does not give scores")
        winners, scores = self._judge.winners, self._judge.scores
        return Repeats(
            same_winner=krippendorff.agreed(resampled) if winners else no_winners,
            alpha_winners=krippendorff.of_winners(resampled) if winners else no_winners,
            same_score=resampled.share(unit[-2], scored, unscored, krippendorff.NOT_DEFINED) if scores else no_scores,
            alpha_scores=krippendorff.of_scores(resampled, _SCORES) if scores else no_scores,
            spread=resampled.figure(_spread, n, left, krippendorff.NOT_DEFINED) if scores else no_scores,
            resampled=resampled.units,
        )


def _spread(sums: Floats) -> Floats:
    return sums[..., -1] / sums[..., _SCORES]


def _make_repeated(tables: RunTables) -> None:
    """Create the table of repeated requests: one line per sample and order, with the counts of its verdicts."""
    groups = "".join(f", any_value(g{index}) AS g{index}" for index in range(len(tables.facts.groups)))
    from_zero = f"(score - {tables.lowest_score()!r}::DOUBLE)"
    codes = ", ".join(str(judge.code) for judge in tables.facts.judges if judge.repeats > 1)
    tables.run(
        f"CREATE TABLE repeated AS SELECT judge, ordinal, swapped, any_value(block) AS block{groups}, "
        "count(*) FILTER (winner < 3) AS m, count(*) FILTER (winner = 0) AS n1, count(*) FILTER (winner = 1) AS n2, "
        "count(*) FILTER (winner = 2) AS nt, count(score) AS k, "
        f"sum({from_zero}) AS s, sum({from_zero} * {from_zero}) AS ss, min(score) AS low, max(score) AS high "
        f"FROM rows WHERE judge IN ({codes}) GROUP BY judge, ordinal, swapped"
    )
