"""Rankings of the models whose answers were judged: by pairwise wins or by mean score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.report.data.codes import UNREAD, VERDICT
from runner.report.data.query import RunTables
from runner.report.models import Figure, Ranked, Ranking, Table
from runner.report.sections.pairwise_ranking import count_contests, rank_contests
from runner.report.stats.bootstrap import Resampled, Resampler, Statistic
from runner.report.stats.rank_intervals import ModelScores, find_leader, rank_agreement, rank_spans, ranks

MAX_MODELS = 50  # the models with the most samples are ranked

_BY = (("verdict", "winner", "score"), ("people", "human", "human_score"))
_LEFT_OUT, _SUM, _N = range(3)  # positions in the sums of a model

RankedTable = tuple[Table, ModelScores]
Columns = Mapping[str, NDArray[Any]]


def ranking(tables: RunTables, resampler: Resampler) -> Ranking:
    """Rank the models that the samples name, by the aggregated verdict and by human labels."""
    none = Figure(reason="there are fewer than two rankings")
    columns = tables.facts.sample_columns
    if not columns:
        return Ranking((), none, "there is no samples.parquet")
    if "model1" in columns and "model2" in columns:
        ranked_tables = _by_contests(tables, resampler)
    elif "model" in columns:
        ranked_tables = _by_means(tables, resampler)
    else:
        return Ranking((), none, "dataset.fields maps no model column")
    tau = rank_agreement(ranked_tables[0][1], ranked_tables[1][1]) if len(ranked_tables) > 1 else none
    return Ranking(
        [table for table, _ in ranked_tables],
        tau,
        None if ranked_tables else "no readable verdict is about a named model",
    )


def _models(tables: RunTables, named: str) -> tuple[list[str], int]:
    """Returns the models to rank and the number of others; also creates the table of their codes."""
    counted = f"SELECT model, count(*) AS n FROM ({named}) WHERE model IS NOT NULL GROUP BY model"
    names = [name for name, _ in tables.rows(f"{counted} ORDER BY n DESC, model LIMIT {MAX_MODELS}")]
    (total,) = tables.row(f"SELECT count(*) FROM ({counted})")
    tables.code("models", names)
    return names, total - len(names)


def _by_contests(tables: RunTables, resampler: Resampler) -> list[RankedTable]:
    names, unranked = _models(tables, "SELECT model1 AS model FROM samples UNION ALL SELECT model2 FROM samples")
    found = tables.arrays(
        "SELECT r.block, r.winner, r.human, coalesce(m1.code, -1) AS first, coalesce(m2.code, -1) AS second, "
        "count(*) AS n FROM rows r JOIN samples s ON s.ordinal = r.ordinal LEFT JOIN models m1 ON m1.value = s.model1 "
        f"LEFT JOIN models m2 ON m2.value = s.model2 WHERE r.judge = {VERDICT} GROUP BY ALL"
    )
    blocks, block_index = np.unique(found["block"], return_inverse=True)
    comparable = (found["first"] >= 0) & (found["second"] >= 0) & (found["first"] != found["second"])
    ranked_tables = []
    for by, winner, _ in _BY:
        used = comparable & (found[winner] < UNREAD)
        if not used.any():
            continue
        columns = {name: found[name][used] for name in ("first", "second", "n")}
        contests = count_contests(
            names, len(blocks), {**columns, "block": block_index[used], "winner": found[winner][used]}
        )
        outcome = rank_contests(contests, resampler)
        total = found["n"].sum() if by == "verdict" else found["n"][found[winner] < UNREAD].sum()
        samples = int(columns["n"].sum())
        table = Table(
            by=by,
            method="bradley_terry",
            models=outcome.ranked,
            matrix=outcome.matrix,
            tie_parameter=outcome.nu,
            samples=samples,
            left_out=int(total) - samples,
            models_left_out=unranked,
            notes=outcome.notes,
            leader=outcome.leader,
        )
        ranked_tables.append((table, outcome.scores))
    return ranked_tables


def _by_means(tables: RunTables, resampler: Resampler) -> list[RankedTable]:
    names, unranked = _models(tables, "SELECT model FROM samples")
    sums = ", ".join(
        f"count(*) - count(r.{c}) AS {c}_0, coalesce(sum(r.{c}), 0) AS {c}_1, count(r.{c}) AS {c}_2" for *_, c in _BY
    )
    found = tables.arrays(
        f"SELECT r.block, coalesce(m.code, -1) AS model, {sums} FROM rows r JOIN samples s ON s.ordinal = r.ordinal "
        f"LEFT JOIN models m ON m.value = s.model WHERE r.judge = {VERDICT} GROUP BY ALL"
    )
    blocks, block_index = np.unique(found["block"], return_inverse=True)
    named = found["model"] >= 0
    ranked_tables = []
    for by, _, column in _BY:
        terms = np.column_stack([found[f"{column}_{term}"] for term in range(3)]).astype(np.float64)
        if by == "people":
            terms[:, _LEFT_OUT] = 0  # a sample without a label is not one that could not be read
        matrix = np.zeros((len(blocks), len(names), 3))
        np.add.at(matrix, (block_index[named], found["model"][named]), terms[named])
        scored = np.flatnonzero(matrix[..., _N].sum(axis=0))
        if not len(scored):
            continue
        resampled = resampler.resample(matrix[:, scored].reshape(len(blocks), -1))
        models, model_scores = _ranked_means([names[model] for model in scored], resampled)
        samples = sum(model.games for model in models)
        total = terms[:, _N].sum() + terms[:, _LEFT_OUT].sum()
        questions = (matrix[:, scored, _N] > 0).sum(axis=0)
        leader = find_leader(model_scores, questions, np.zeros(len(scored)))
        table = Table(by, "mean_score", models, None, None, samples, round(total) - samples, unranked, (), leader)
        ranked_tables.append((table, model_scores))
    return ranked_tables


def _ranked_means(names: Sequence[str], resampled: Resampled) -> tuple[list[Ranked], ModelScores]:
    total = resampled.total.reshape(len(names), 3)
    with np.errstate(invalid="ignore"):
        values, resamples = (sums[..., _SUM::3] / sums[..., _N::3] for sums in (resampled.total, resampled.resamples))
    rank, (best, worst) = ranks(values), rank_spans(resamples)
    ranked = [
        Ranked(
            model=names[model],
            rank=int(rank[model]),
            rank_low=int(best[model]),
            rank_high=int(worst[model]),
            score=resampled.figure(_mean_of(model), total[model, _N], total[model, _LEFT_OUT], "no score"),
            strength=None,
            games=round(total[model, _N]),
            wins=None,
            losses=None,
            ties=None,
            win_rate=None,
            component=1,
            note=None,
        )
        for model in np.argsort(rank, kind="stable")
    ]
    return ranked, ModelScores(names, values, resamples)


def _mean_of(model: int) -> Statistic:
    return lambda sums: sums[..., 3 * model + _SUM] / sums[..., 3 * model + _N]
