"""Pairwise results between models, and their strengths with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from runner.report.models import Figure, Ranked, WinMatrix
from runner.report.significance import Leader
from runner.report.stats.bootstrap import Floats, Resampler, bounds
from runner.report.stats.bradley_terry import Fitted, fit
from runner.report.stats.rank_intervals import ModelScores, find_leader, rank_spans, ranks

REPLICATES = 1000
RATING_SCALE = 400 / math.log(10)  # points per unit of strength: 400 points are odds of ten to one
MEAN_RATING = 1000.0

_MAX_CELLS_AT_ONCE = 1_000_000  # cells of the tables that are fitted together, to bound memory
_DISCONNECTED = (
    "Some models never met, not even through other models: compare scores only between models of the same component."
)
_UNBOUNDED = (
    "Some models never lost or tied against the rest of their component: "
    "only the prior determines how far apart they are."
)


class Contests(msgspec.Struct, frozen=True):
    """Comparisons between models, counted by pair and outcome.

    Attributes:
        models: names of the models.
        first: index of the first model of each pair that was compared: (pairs,).
        second: index of the second model: (pairs,).
        counts: sparse (blocks, 3 x pairs): wins of the first, wins of the second, ties.
    """

    models: Sequence[str]
    first: NDArray[np.integer[Any]]
    second: NDArray[np.integer[Any]]
    counts: Any

    def tables(self, counts: Floats) -> tuple[Floats, Floats]:
        """Returns wins and ties (..., models, models) from counts (..., 3 x pairs)."""
        wins = np.zeros((*counts.shape[:-1], len(self.models), len(self.models)))
        ties = np.zeros_like(wins)
        pairs = len(self.first)
        wins[..., self.first, self.second] = counts[..., :pairs]
        wins[..., self.second, self.first] = counts[..., pairs : 2 * pairs]
        ties[..., self.first, self.second] = ties[..., self.second, self.first] = counts[..., 2 * pairs :]
        return wins, ties

    def questions(self) -> NDArray[np.integer[Any]]:
        """Returns the number of blocks in which each model was compared: (models,)."""
        pairs = len(self.first)
        compared = self.counts[:, :pairs] + self.counts[:, pairs : 2 * pairs] + self.counts[:, 2 * pairs :]
        member = np.zeros((pairs, len(self.models)))
        for models in (self.first, self.second):
            member[np.arange(pairs), models] = 1
        return np.asarray(((compared @ member) > 0).sum(axis=0))


class Outcome(msgspec.Struct, frozen=True):
    """A ranking by pairwise comparisons; `nu` is the tie parameter."""

    scores: ModelScores
    ranked: Sequence[Ranked]
    matrix: WinMatrix
    nu: float
    notes: Sequence[str]
    leader: Leader | None


def count_contests(names: Sequence[str], blocks: int, found: Mapping[str, NDArray[Any]]) -> Contests:
    """Collect counted comparisons; models without any comparison are dropped.

    Args:
        names: of the models by code.
        blocks: the number of bootstrap blocks, including those without a comparison.
        found: arrays `block` (index), `first`, `second` (model codes), `winner` (0, 1, or 2 for a tie) and `n`.
    """
    codes, indices = np.unique(np.stack([found["first"], found["second"]]), return_inverse=True)
    one, other = indices.reshape(2, -1)
    reversed_order = one > other
    winner = np.where(reversed_order & (found["winner"] < 2), 1 - found["winner"].astype(int), found["winner"])
    pairs, pair = np.unique(np.minimum(one, other) * len(codes) + np.maximum(one, other), return_inverse=True)
    column = winner.astype(np.int64) * len(pairs) + pair
    shape = (blocks, 3 * len(pairs))
    counts = sparse.csr_array((found["n"].astype(np.float64), (found["block"], column)), shape=shape)
    return Contests([names[int(code)] for code in codes], pairs // len(codes), pairs % len(codes), counts)


def rank_contests(contests: Contests, resampler: Resampler) -> Outcome:
    """Rank models by their strength, best first."""
    wins, ties = contests.tables(np.asarray(contests.counts.sum(axis=0), np.float64))
    fitted = fit(wins, ties)
    resamples, rates = _resample(contests, fitted, resampler)
    rank, (best, worst) = ranks(fitted.strength), rank_spans(resamples)
    order = np.argsort(rank, kind="stable")
    component = _components(wins + ties, order)
    ranked = [
        Ranked(
            model=contests.models[model],
            rank=int(rank[model]),
            rank_low=int(best[model]),
            rank_high=int(worst[model]),
            component=int(component[model]),
            strength=float(fitted.strength[model]),
            **_record(wins, ties, model, fitted.strength[model], resamples[:, model], rates[:, model]),
        )
        for model in order
    ]
    scores = ModelScores(contests.models, fitted.strength, resamples)
    return Outcome(
        scores=scores,
        ranked=ranked,
        matrix=_matrix([contests.models[model] for model in order], wins[order][:, order], ties[order][:, order]),
        nu=float(fitted.nu),
        notes=_notes(wins, ties, component),
        leader=find_leader(scores, contests.questions(), component),
    )


def _resample(contests: Contests, fitted: Fitted, resampler: Resampler) -> tuple[Floats, Floats]:
    """Returns strengths and win rates in each resample (replicates, models); a rate without any game is NaN."""
    weights = resampler.weights(contests.counts.shape[0])[:REPLICATES]
    chunk = max(1, _MAX_CELLS_AT_ONCE // len(contests.models) ** 2)
    strengths, rates = [], []
    for begin in range(0, len(weights), chunk):
        wins, ties = contests.tables((contests.counts.T @ weights[begin : begin + chunk].T.astype(np.float64)).T)
        strengths.append(fit(wins, ties, fitted).strength)
        games = (wins + wins.swapaxes(-1, -2) + ties).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            rates.append((wins + ties / 2).sum(axis=-1) / games)
    return np.concatenate(strengths), np.concatenate(rates)


def _record(
    wins: Floats, ties: Floats, model: int, strength: float, resamples: Floats, rates: Floats
) -> dict[str, Any]:
    """Returns the record and the score of a model. A score that only the prior limits has no bound on that side."""
    won, lost, tied = (round(float(count)) for count in (wins[model].sum(), wins[:, model].sum(), ties[model].sum()))
    games = won + lost + tied
    low, high = bounds(MEAN_RATING + RATING_SCALE * resamples) or (None, None)
    rate_low, rate_high = bounds(rates) or (None, None)
    note = None
    if won == games:
        high, note = None, "won every comparison: only the prior keeps its score finite"
    elif lost == games:
        low, note = None, "lost every comparison: only the prior keeps its score finite"
    return {
        "score": Figure(MEAN_RATING + RATING_SCALE * float(strength), low, high, games, reason=note),
        "games": games,
        "wins": won,
        "losses": lost,
        "ties": tied,
        "win_rate": Figure((won + tied / 2) / games, rate_low, rate_high, games),
        "note": note,
    }


def _components(met: Floats, order: NDArray[Any]) -> NDArray[Any]:
    """Returns the component of each model; components are numbered in the order of their best models."""
    _, found = csgraph.connected_components(met, directed=False)
    numbers = list(dict.fromkeys(found[order].tolist()))
    return np.array([numbers.index(number) + 1 for number in found.tolist()])


def _matrix(models: Sequence[str], wins: Floats, ties: Floats) -> WinMatrix:
    games = wins + wins.T + ties
    rate = [
        [float((w + t / 2) / n) if n else None for w, t, n in zip(*lines, strict=True)]
        for lines in zip(wins, ties, games, strict=True)
    ]
    return WinMatrix(models, wins.round().astype(int).tolist(), ties.round().astype(int).tolist(), rate)


def _notes(wins: Floats, ties: Floats, component: NDArray[Any]) -> list[str]:
    parts = int(component.max())
    strong, _ = csgraph.connected_components(wins + ties, directed=True, connection="strong")
    return [note for note, holds in ((_DISCONNECTED, parts > 1), (_UNBOUNDED, strong > parts)) if holds]
