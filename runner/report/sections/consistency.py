"""Consistency: of each judge with itself, over orders and repeats, and of the judges with each other."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from runner.report.data.query import Key, RunTables
from runner.report.data.tables import Judge
from runner.report.models import Consistency, Figure, GroupSteadiness, JudgeConsistency, Repeats, Scales, Steadiness
from runner.report.sections.inter_judge import panel
from runner.report.sections.winner_agreement import CELL, CELLS, position
from runner.report.stats import krippendorff
from runner.report.stats.bootstrap import Floats, Resampled, Resampler

_SCORES = len(krippendorff.WINNER_TERMS)
_EXTRA = ("count(*) FILTER (k >= 2 AND high = low)", "sum(high - low) FILTER (k >= 2)")


def consistency(store: RunTables, criteria: Collection[str], scales: Scales, resampler: Resampler) -> Consistency:
    """How each judge agrees with itself, and the judges with each other.

    Args:
        store: the run.
        criteria: judges whose score is one criterion: they say something else, and are no part of the panel.
        scales: of the judges, as far as they are known.
        resampler: makes the intervals.
    """
    judges = store.tables.judges
    if any(judge.repeats > 1 for judge in judges):
        _make_repeated(store)
    steady = []
    for judge in judges:
        overall, groups = store.by_group(_Watching(store, judge, resampler).by, judge.code)
        in_groups = {column: [GroupSteadiness(*one) for one in found] for column, found in groups.items()}
        steady.append(JudgeConsistency(judge.name, overall or Steadiness(), in_groups))
    members = [judge for judge in judges if judge.name not in criteria]
    return Consistency(steady, panel(store, members, scales, resampler) if len(members) > 1 else None)


class _Watching:
    """Watches one judge answer the same thing several times."""

    def __init__(self, store: RunTables, judge: Judge, resampler: Resampler) -> None:
        self._store = store
        self._judge = judge
        self._resampler = resampler

    def by(self, by: int | None) -> dict[Key, Steadiness]:
        where = f"judge = {self._judge.code}"
        positions, repeats = {}, {}
        if self._judge.winners:
            cells = self._store.cells("pairs", CELL, CELLS, by, where)
            positions = {key: position(self._resampler.resample(sums)) for key, sums in cells.items()}
        if self._judge.repeats > 1:
            terms = (*krippendorff.WINNER_TERMS, *krippendorff.SCORE_TERMS, *_EXTRA)
            found = self._store.sums("repeated", terms, by, where)
            repeats = {key: self._repeats(self._resampler.resample(sums)) for key, sums in found.items()}
        keys = dict.fromkeys((*positions, *repeats))
        return {key: Steadiness(positions.get(key), repeats.get(key)) for key in keys}

    def _repeats(self, of: Resampled) -> Repeats:
        unit = np.eye(len(of.total))
        scored, unscored = unit[_SCORES], unit[_SCORES + krippendorff.LEFT_OUT_SCORES]
        n, left = float(of.total @ scored), float(of.total @ unscored)
        none = Figure(reason="this judge names no winners")
        unscaled = Figure(reason="this judge gives no scores")
        winners, scores = self._judge.winners, self._judge.scores
        return Repeats(
            same_winner=krippendorff.agreed(of) if winners else none,
            alpha_winners=krippendorff.of_winners(of) if winners else none,
            same_score=of.share(unit[-2], scored, unscored, krippendorff.NOT_DEFINED) if scores else unscaled,
            alpha_scores=krippendorff.of_scores(of, _SCORES) if scores else unscaled,
            spread=of.figure(_spread, n, left, krippendorff.NOT_DEFINED) if scores else unscaled,
            resampled=of.units,
        )


def _spread(sums: Floats) -> Floats:
    return sums[..., -1] / sums[..., _SCORES]


def _make_repeated(store: RunTables) -> None:
    """A line for each request that was asked several times: how its answers fall out."""
    groups = "".join(f", any_value(g{index}) AS g{index}" for index in range(len(store.tables.groups)))
    from_zero = f"(score - {store.lowest_score()!r}::DOUBLE)"
    codes = ", ".join(str(judge.code) for judge in store.tables.judges if judge.repeats > 1)
    store.run(
        f"CREATE TABLE repeated AS SELECT judge, ordinal, swapped, any_value(block) AS block{groups}, "
        "count(*) FILTER (winner < 3) AS m, count(*) FILTER (winner = 0) AS n1, count(*) FILTER (winner = 1) AS n2, "
        "count(*) FILTER (winner = 2) AS nt, count(score) AS k, "
        f"sum({from_zero}) AS s, sum({from_zero} * {from_zero}) AS ss, min(score) AS low, max(score) AS high "
        f"FROM rows WHERE judge IN ({codes}) GROUP BY judge, ordinal, swapped"
    )
