"""Rankings of the models whose answers were judged: by wins against each other, or by mean score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.report.data.query import RunTables
from runner.report.data.tables import UNREAD, VERDICT
from runner.report.models import Figure, Ranked, Ranking, Table
from runner.report.sections.pairwise_ranking import contests, rank_contests
from runner.report.stats.bootstrap import Resampled, Resampler, Statistic
from runner.report.stats.rank_intervals import Standing, rank_agreement, rank_spans, ranks

MAX_MODELS = 50
"""So many models are ranked: those of most samples."""

_BY = (("verdict", "winner", "score"), ("people", "human", "human_score"))
_LEFT, _SUM, _N = range(3)

Made = tuple[Table, Standing]
Columns = Mapping[str, NDArray[Any]]


def ranking(store: RunTables, resampler: Resampler) -> Ranking:
    """Rank the models that the samples name, by the aggregated verdict and by people's labels."""
    none = Figure(reason="there are not two rankings")
    columns = store.tables.sample_columns
    if not columns:
        return Ranking((), none, "there is no samples.parquet")
    if "model1" in columns and "model2" in columns:
        made = _by_contests(store, resampler)
    elif "model" in columns:
        made = _by_means(store, resampler)
    else:
        return Ranking((), none, "the dataset's fields name no model")
    tau = rank_agreement(made[0][1], made[1][1]) if len(made) > 1 else none
    return Ranking([table for table, _ in made], tau, None if made else "nothing readable is about a named model")


def _models(store: RunTables, named: str) -> tuple[list[str], int]:
    """The models that are ranked, and how many are not; makes the table of their codes."""
    counted = f"SELECT model, count(*) AS n FROM ({named}) WHERE model IS NOT NULL GROUP BY model"
    names = [name for name, _ in store.rows(f"{counted} ORDER BY n DESC, model LIMIT {MAX_MODELS}")]
    (every,) = store.row(f"SELECT count(*) FROM ({counted})")
    store.code("models", names)
    return names, every - len(names)


def _by_contests(store: RunTables, resampler: Resampler) -> list[Made]:
    names, unranked = _models(store, "SELECT model1 AS model FROM samples UNION ALL SELECT model2 FROM samples")
    found = store.arrays(
        "SELECT r.block, r.winner, r.human, coalesce(m1.code, -1) AS first, coalesce(m2.code, -1) AS second, "
        "count(*) AS n FROM rows r JOIN samples s ON s.ordinal = r.ordinal LEFT JOIN models m1 ON m1.value = s.model1 "
        f"LEFT JOIN models m2 ON m2.value = s.model2 WHERE r.judge = {VERDICT} GROUP BY ALL"
    )
    blocks, places = np.unique(found["block"], return_inverse=True)
    meeting = (found["first"] >= 0) & (found["second"] >= 0) & (found["first"] != found["second"])
    made = []
    for by, winner, _ in _BY:
        used = meeting & (found[winner] < UNREAD)
        if not used.any():
            continue
        columns = {name: found[name][used] for name in ("first", "second", "n")}
        of = contests(names, len(blocks), {**columns, "block": places[used], "winner": found[winner][used]})
        outcome = rank_contests(of, resampler)
        every = found["n"].sum() if by == "verdict" else found["n"][found[winner] < UNREAD].sum()
        samples = int(columns["n"].sum())
        table = Table(
            by=by,
            method="bradley_terry",
            models=outcome.ranked,
            matrix=outcome.matrix,
            tie_parameter=outcome.nu,
            samples=samples,
            left_out=int(every) - samples,
            models_left_out=unranked,
            notes=outcome.notes,
        )
        made.append((table, outcome.standing))
    return made


def _by_means(store: RunTables, resampler: Resampler) -> list[Made]:
    names, unranked = _models(store, "SELECT model FROM samples")
    sums = ", ".join(
        f"count(*) - count(r.{c}) AS {c}_0, coalesce(sum(r.{c}), 0) AS {c}_1, count(r.{c}) AS {c}_2" for *_, c in _BY
    )
    found = store.arrays(
        f"SELECT r.block, coalesce(m.code, -1) AS model, {sums} FROM rows r JOIN samples s ON s.ordinal = r.ordinal "
        f"LEFT JOIN models m ON m.value = s.model WHERE r.judge = {VERDICT} GROUP BY ALL"
    )
    blocks, places = np.unique(found["block"], return_inverse=True)
    named = found["model"] >= 0
    made = []
    for by, _, column in _BY:
        terms = np.column_stack([found[f"{column}_{term}"] for term in range(3)]).astype(np.float64)
        if by == "people":
            terms[:, _LEFT] = 0  # a sample without a label is none that could not be read
        matrix = np.zeros((len(blocks), len(names), 3))
        np.add.at(matrix, (places[named], found["model"][named]), terms[named])
        scored = np.flatnonzero(matrix[..., _N].sum(axis=0))
        if not len(scored):
            continue
        of = resampler.resample(matrix[:, scored].reshape(len(blocks), -1))
        models, standing = _ranked_means([names[model] for model in scored], of)
        samples = sum(model.games for model in models)
        every = terms[:, _N].sum() + terms[:, _LEFT].sum()
        table = Table(by, "mean_score", models, None, None, samples, round(every) - samples, unranked, ())
        made.append((table, standing))
    return made


def _ranked_means(names: Sequence[str], of: Resampled) -> tuple[list[Ranked], Standing]:
    total = of.total.reshape(len(names), 3)
    with np.errstate(invalid="ignore"):
        values, again = (sums[..., _SUM::3] / sums[..., _N::3] for sums in (of.total, of.again))
    place, (best, worst) = ranks(values), rank_spans(again)
    ranked = [
        Ranked(
            model=names[model],
            rank=int(place[model]),
            rank_low=int(best[model]),
            rank_high=int(worst[model]),
            score=of.figure(_mean_of(model), total[model, _N], total[model, _LEFT], "no score"),
            strength=None,
            games=round(total[model, _N]),
            wins=None,
            losses=None,
            ties=None,
            win_rate=None,
            component=1,
            note=None,
        )
        for model in np.argsort(place, kind="stable")
    ]
    return ranked, Standing(names, values, again)


def _mean_of(model: int) -> Statistic:
    return lambda sums: sums[..., 3 * model + _SUM] / sums[..., 3 * model + _N]
