"""How the judges of a panel agree with each other: Krippendorff's alpha over all, and figures two by two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from runner.report.data.query import Key, RunTables
from runner.report.data.tables import Judge
from runner.report.models import Figure, GroupPanel, JudgePair, Panel, PanelAlpha, Scales
from runner.report.sections.winner_agreement import kappa
from runner.report.stats import krippendorff
from runner.report.stats.bootstrap import Floats, Resampler
from runner.report.stats.moments import LEFT, N, X, Y, moment_terms, pearson

MAX_PANEL = 8
"""So many judges are compared with each other at most."""

_SCORES = len(krippendorff.WINNER_TERMS)
_OTHER_SCALES = "the judges' scales differ"
_NOT_BOTH = "no sample was read from both judges"


def panel(store: RunTables, judges: Sequence[Judge], scales: Scales, resampler: Resampler) -> Panel:
    """Compare judges with each other; each one's orders and repeats are put together first.

    What compares scores themselves needs one scale: there is none of it where judges are known to have different ones.
    """
    judges = judges[:MAX_PANEL]
    _make_panel(store, judges)

    def by(by: int | None) -> dict[Key, PanelAlpha]:
        sums = store.sums("panel", (*krippendorff.WINNER_TERMS, *krippendorff.SCORE_TERMS), by)
        return {key: _alphas(judges, found, scales, resampler) for key, found in sums.items()}

    overall, groups = store.by_group(by, 0)
    none = Figure(reason=_NOT_BOTH)
    return Panel(
        judges=[judge.name for judge in judges],
        overall=overall or PanelAlpha(none, none, none, 0),
        groups={column: [GroupPanel(*one) for one in found] for column, found in groups.items()},
        pairs=[_pair(store, first, second, scales, resampler) for first, second in combinations(judges, 2)],
    )


def _make_panel(store: RunTables, judges: Sequence[Judge]) -> None:
    """A line for each sample: what each judge says of it all in all, and how these fall out."""
    codes = [judge.code for judge in judges]
    groups = "".join(f", any_value(g{index}) AS g{index}" for index in range(len(store.tables.groups)))
    own = ", ".join(f"{_own_winner(code)} AS w{code}, avg(score) FILTER (judge = {code}) AS s{code}" for code in codes)
    told = ", ".join(
        f"{_adding(f'coalesce((w{{}} {test})::INTEGER, 0)', codes)} AS {name}"
        for name, test in (("m", "IS NOT NULL"), ("n1", "= 0"), ("n2", "= 1"), ("nt", "= 2"))
    )
    from_zero = f"(s{{0}} - {store.lowest_score()!r}::DOUBLE)"
    scores = (
        f"{_adding('(s{} IS NOT NULL)::INTEGER', codes)} AS k, {_adding(f'coalesce({from_zero}, 0)', codes)} AS s, "
        f"{_adding(f'coalesce({from_zero} * {from_zero}, 0)', codes)} AS ss"
    )
    store.run(
        f"CREATE TABLE panel AS SELECT *, {told}, {scores} FROM (SELECT 0 AS judge, ordinal, "
        f"any_value(block) AS block{groups}, {own} FROM rows WHERE judge IN ({', '.join(map(str, codes))}) "
        "GROUP BY ordinal)"
    )


def _own_winner(code: int) -> str:
    """SQL for the winner that most rows of a judge name; equal top counts are a tie, as everywhere."""
    first, second, tie = (f"count(*) FILTER (judge = {code} AND winner = {winner})" for winner in range(3))
    return (
        f"CASE WHEN {first} + {second} + {tie} = 0 THEN NULL WHEN {first} > {second} AND {first} > {tie} THEN 0 "
        f"WHEN {second} > {first} AND {second} > {tie} THEN 1 ELSE 2 END"
    )


def _adding(term: str, codes: Sequence[int]) -> str:
    return " + ".join(term.format(code) for code in codes)


def _apart(judges: Iterable[Judge], scales: Scales) -> bool:
    """Whether judges are known to score on different scales."""
    return len({scales.judges[judge.name] for judge in judges if judge.scores and judge.name in scales.judges}) > 1


def _alphas(judges: Sequence[Judge], sums: Floats, scales: Scales, resampler: Resampler) -> PanelAlpha:
    of = resampler.resample(sums)
    winners = sum(judge.winners for judge in judges) > 1
    scores = sum(judge.scores for judge in judges) > 1
    none = Figure(reason="fewer than two judges name winners")
    if not scores:
        scored = Figure(reason="fewer than two judges give scores")
    elif _apart(judges, scales):
        scored = Figure(reason=_OTHER_SCALES)
    else:
        scored = krippendorff.of_scores(of, _SCORES)
    return PanelAlpha(
        alpha_winners=krippendorff.of_winners(of) if winners else none,
        alpha_scores=scored,
        same_winner=krippendorff.agreed(of) if winners else none,
        resampled=of.units,
    )


def _pair(store: RunTables, first: Judge, second: Judge, scales: Scales, resampler: Resampler) -> JudgePair:
    none = Figure(reason="one of them names no winners")
    same, chance = _winners(store, first, second, resampler) if first.winners and second.winners else (none, none)
    none = Figure(reason="one of them gives no scores")
    joint, apart = _scores(store, first, second, resampler) if first.scores and second.scores else (none, none)
    if apart.value is not None and _apart((first, second), scales):
        apart = Figure(reason=_OTHER_SCALES)
    return JudgePair(first.name, second.name, same, chance, joint, apart)


def _winners(store: RunTables, first: Judge, second: Judge, resampler: Resampler) -> tuple[Figure, Figure]:
    cell = f"coalesce(w{first.code}, 3) * 4 + coalesce(w{second.code}, 3)"
    (sums,) = store.cells("panel", cell, 16, None).values()
    of = resampler.resample(sums)
    one, other = np.indices((4, 4)).reshape(2, -1)
    read = ((one < 3) & (other < 3)).astype(float)
    left = 1 - read
    left[-1] = 0  # neither was read

    def chance_corrected(sums: Floats) -> Floats:
        return kappa(sums.reshape(*sums.shape[:-1], 4, 4)[..., :3, :3])

    return (
        of.share(read * (one == other), read, left, _NOT_BOTH),
        of.figure(chance_corrected, of.total @ read, of.total @ left, "not defined: fewer than two classes"),
    )


def _scores(store: RunTables, first: Judge, second: Judge, resampler: Resampler) -> tuple[Figure, Figure]:
    x, y = f"s{first.code}", f"s{second.code}"
    zeros = [0.0 if low is None else low for low in store.row(f"SELECT min({x}), min({y}) FROM panel")]
    (sums,) = store.sums("panel", moment_terms(x, y, *zeros), None).values()
    of = resampler.resample(sums)
    n, left = of.total[N], of.total[LEFT]
    return (
        of.figure(pearson, n, left, "not defined: all scores of one judge are the same"),
        of.figure(lambda s: s[..., Y] / s[..., N] - s[..., X] / s[..., N] + zeros[1] - zeros[0], n, left, _NOT_BOTH),
    )
