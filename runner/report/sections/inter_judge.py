"""Agreement between the judges of a panel: Krippendorff's alpha over all judges, and figures for each pair."""

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
from runner.report.stats.moments import LEFT_OUT, N, X, Y, moment_terms, pearson

MAX_PANEL_JUDGES = 8

_SCORES = len(krippendorff.WINNER_TERMS)
_DIFFERENT_SCALES = "the judges use different scales"
_NO_COMMON_SAMPLE = "no sample has readable verdicts from both judges"


def panel(tables: RunTables, judges: Sequence[Judge], scales: Scales, resampler: Resampler) -> Panel:
    """Compare judges with each other; each judge's orders and repeats are aggregated first.

    Figures that compare the scores themselves have no value if the judges are known to use different scales.
    """
    judges = judges[:MAX_PANEL_JUDGES]
    _make_panel(tables, judges)

    def compare(by: int | None) -> dict[Key, PanelAlpha]:
        sums = tables.sums("panel", (*krippendorff.WINNER_TERMS, *krippendorff.SCORE_TERMS), by)
        return {key: _alphas(judges, found, scales, resampler) for key, found in sums.items()}

    overall, groups = tables.by_group(compare, 0)
    none = Figure(reason=_NO_COMMON_SAMPLE)
    return Panel(
        judges=[judge.name for judge in judges],
        overall=overall or PanelAlpha(none, none, none, 0),
        groups={column: [GroupPanel(*one) for one in found] for column, found in groups.items()},
        pairs=[_pair(tables, first, second, scales, resampler) for first, second in combinations(judges, 2)],
    )


def _make_panel(tables: RunTables, judges: Sequence[Judge]) -> None:
    """Create the panel table: one line per sample with each judge's aggregated verdict and their counts."""
    codes = [judge.code for judge in judges]
    groups = "".join(f", any_value(g{index}) AS g{index}" for index in range(len(tables.facts.groups)))
    verdicts = ", ".join(
        f"{_majority_winner(code)} AS w{code}, avg(score) FILTER (judge = {code}) AS s{code}" for code in codes
    )
    counts = ", ".join(
        f"{_sum_over(f'coalesce((w{{}} {test})::INTEGER, 0)', codes)} AS {name}"
        for name, test in (("m", "IS NOT NULL"), ("n1", "= 0"), ("n2", "= 1"), ("nt", "= 2"))
    )
    from_zero = f"(s{{0}} - {tables.lowest_score()!r}::DOUBLE)"
    scores = (
        f"{_sum_over('(s{} IS NOT NULL)::INTEGER', codes)} AS k, {_sum_over(f'coalesce({from_zero}, 0)', codes)} AS s, "
        f"{_sum_over(f'coalesce({from_zero} * {from_zero}, 0)', codes)} AS ss"
    )
    tables.run(
        f"CREATE TABLE panel AS SELECT *, {counts}, {scores} FROM (SELECT 0 AS judge, ordinal, "
        f"any_value(block) AS block{groups}, {verdicts} FROM rows WHERE judge IN ({', '.join(map(str, codes))}) "
        "GROUP BY ordinal)"
    )


def _majority_winner(code: int) -> str:
    """Returns SQL for the winner that most rows of a judge name; equal top counts are a tie, as everywhere."""
    first, second, tie = (f"count(*) FILTER (judge = {code} AND winner = {winner})" for winner in range(3))
    return (
        f"CASE WHEN {first} + {second} + {tie} = 0 THEN NULL WHEN {first} > {second} AND {first} > {tie} THEN 0 "
        f"WHEN {second} > {first} AND {second} > {tie} THEN 1 ELSE 2 END"
    )


def _sum_over(term: str, codes: Sequence[int]) -> str:
    return " + ".join(term.format(code) for code in codes)


def _scales_differ(judges: Iterable[Judge], scales: Scales) -> bool:
    """Returns True if judges that give scores use different scales, or if only some of their scales are known."""
    return scales.differ(judge.name for judge in judges if judge.scores)


def _alphas(judges: Sequence[Judge], sums: Floats, scales: Scales, resampler: Resampler) -> PanelAlpha:
    resampled = resampler.resample(sums)
    winners = sum(judge.winners for judge in judges) > 1
    scores = sum(judge.scores for judge in judges) > 1
    no_winners = Figure(reason="fewer than two judges name winners")
    if not scores:
        scored = Figure(reason="fewer than two judges give scores")
    elif _scales_differ(judges, scales):
        scored = Figure(reason=_DIFFERENT_SCALES)
    else:
        scored = krippendorff.of_scores(resampled, _SCORES)
    return PanelAlpha(
        alpha_winners=krippendorff.of_winners(resampled) if winners else no_winners,
        alpha_scores=scored,
        same_winner=krippendorff.agreed(resampled) if winners else no_winners,
        resampled=resampled.units,
    )


def _pair(tables: RunTables, first: Judge, second: Judge, scales: Scales, resampler: Resampler) -> JudgePair:
    same = kappa_figure = Figure(reason="one of the two judges does not name winners")
    if first.winners and second.winners:
        same, kappa_figure = _winners(tables, first, second, resampler)
    correlation = difference = Figure(reason="one of the two judges does not give scores")
    if first.scores and second.scores:
        correlation, difference = _scores(tables, first, second, resampler)
        if difference.value is not None and _scales_differ((first, second), scales):
            difference = Figure(reason=_DIFFERENT_SCALES)
    return JudgePair(first.name, second.name, same, kappa_figure, correlation, difference)


def _winners(tables: RunTables, first: Judge, second: Judge, resampler: Resampler) -> tuple[Figure, Figure]:
    cell = f"coalesce(w{first.code}, 3) * 4 + coalesce(w{second.code}, 3)"
    (sums,) = tables.cells("panel", cell, 16, None).values()
    resampled = resampler.resample(sums)
    one, other = np.indices((4, 4)).reshape(2, -1)
    read = ((one < 3) & (other < 3)).astype(float)
    left = 1 - read
    left[-1] = 0  # neither judge was read: not a pair

    def kappa_of(sums: Floats) -> Floats:
        return kappa(sums.reshape(*sums.shape[:-1], 4, 4)[..., :3, :3])

    return (
        resampled.share(read * (one == other), read, left, _NO_COMMON_SAMPLE),
        resampled.figure(
            kappa_of, resampled.total @ read, resampled.total @ left, "undefined: fewer than two different winners"
        ),
    )


def _scores(tables: RunTables, first: Judge, second: Judge, resampler: Resampler) -> tuple[Figure, Figure]:
    x, y = f"s{first.code}", f"s{second.code}"
    zeros = [0.0 if low is None else low for low in tables.row(f"SELECT min({x}), min({y}) FROM panel")]
    (sums,) = tables.sums("panel", moment_terms(x, y, *zeros), None).values()
    resampled = resampler.resample(sums)
    n, left = resampled.total[N], resampled.total[LEFT_OUT]
    return (
        resampled.figure(pearson, n, left, "undefined: all scores of one judge are equal"),
        resampled.figure(
            lambda s: s[..., Y] / s[..., N] - s[..., X] / s[..., N] + zeros[1] - zeros[0], n, left, _NO_COMMON_SAMPLE
        ),
    )
