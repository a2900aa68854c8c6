"""Who beat whom among models, and how strong that makes them, with intervals."""

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
from runner.report.stats.bootstrap import Floats, Resampler, bounds
from runner.report.stats.bradley_terry import Fitted, fit
from runner.report.stats.rank_intervals import Standing, rank_spans, ranks

REPLICATES = 1000
SCALE = 400 / math.log(10)
CENTRE = 1000.0

_AT_ONCE = 1_000_000
_APART = "some models never met, not even through others: scores compare within a component only"
_SPLIT = (
    "some models never lost or tied against the rest of their component: only the prior says how far apart they are"
)


class Contests(msgspec.Struct, frozen=True):
    """Comparisons of models, counted by who met and how it ended.

    Attributes:
        models: their names.
        first: of each pair that met, one.
        second: the other.
        counts: (blocks, 3 x pairs), sparse: the first won, the second won, a tie.
    """

    models: Sequence[str]
    first: NDArray[np.integer[Any]]
    second: NDArray[np.integer[Any]]
    counts: Any

    def tables(self, counts: Floats) -> tuple[Floats, Floats]:
        """Wins and ties (..., models, models) from counts (..., 3 x pairs)."""
        wins = np.zeros((*counts.shape[:-1], len(self.models), len(self.models)))
        ties = np.zeros_like(wins)
        pairs = len(self.first)
        wins[..., self.first, self.second] = counts[..., :pairs]
        wins[..., self.second, self.first] = counts[..., pairs : 2 * pairs]
        ties[..., self.first, self.second] = ties[..., self.second, self.first] = counts[..., 2 * pairs :]
        return wins, ties


class Outcome(msgspec.Struct, frozen=True):
    """A ranking by contests."""

    standing: Standing
    ranked: Sequence[Ranked]
    matrix: WinMatrix
    nu: float
    notes: Sequence[str]


def contests(names: Sequence[str], blocks: int, found: Mapping[str, NDArray[Any]]) -> Contests:
    """Put counted comparisons together; models that met nobody are no part of it.

    Args:
        names: of the models by their codes.
        blocks: how many there are; those without a comparison are drawn, too.
        found: arrays of `block` (its place), `first`, `second` (codes), `winner` (0, 1 or 2 for a tie) and `n`.
    """
    codes, places = np.unique(np.stack([found["first"], found["second"]]), return_inverse=True)
    one, other = places.reshape(2, -1)
    turned = one > other
    winner = np.where(turned & (found["winner"] < 2), 1 - found["winner"].astype(int), found["winner"])
    met, pair = np.unique(np.minimum(one, other) * len(codes) + np.maximum(one, other), return_inverse=True)
    place = winner.astype(np.int64) * len(met) + pair
    shape = (blocks, 3 * len(met))
    counts = sparse.csr_array((found["n"].astype(np.float64), (found["block"], place)), shape=shape)
    return Contests([names[int(code)] for code in codes], met // len(codes), met % len(codes), counts)


def rank_contests(of: Contests, resampler: Resampler) -> Outcome:
    """Rank models by their strength."""
    wins, ties = of.tables(np.asarray(of.counts.sum(axis=0), np.float64))
    fitted = fit(wins, ties)
    again, rates = _resampled(of, fitted, resampler)
    place, (best, worst) = ranks(fitted.strength), rank_spans(again)
    order = np.argsort(place, kind="stable")
    component = _components(wins + ties, order)
    ranked = [
        Ranked(
            model=of.models[model],
            rank=int(place[model]),
            rank_low=int(best[model]),
            rank_high=int(worst[model]),
            component=int(component[model]),
            strength=float(fitted.strength[model]),
            **_record(wins, ties, model, fitted.strength[model], again[:, model], rates[:, model]),
        )
        for model in order
    ]
    return Outcome(
        standing=Standing(of.models, fitted.strength, again),
        ranked=ranked,
        matrix=_matrix([of.models[model] for model in order], wins[order][:, order], ties[order][:, order]),
        nu=float(fitted.nu),
        notes=_notes(wins, ties, component),
    )


def _resampled(of: Contests, fitted: Fitted, resampler: Resampler) -> tuple[Floats, Floats]:
    """Strengths and win rates in each resample (replicates, models); a rate is no number where nothing was played."""
    weights = resampler.weights(of.counts.shape[0])[:REPLICATES]
    chunk = max(1, _AT_ONCE // len(of.models) ** 2)
    strengths, rates = [], []
    for begin in range(0, len(weights), chunk):
        wins, ties = of.tables((of.counts.T @ weights[begin : begin + chunk].T.astype(np.float64)).T)
        strengths.append(fit(wins, ties, fitted).strength)
        games = (wins + wins.swapaxes(-1, -2) + ties).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            rates.append((wins + ties / 2).sum(axis=-1) / games)
    return np.concatenate(strengths), np.concatenate(rates)


def _record(wins: Floats, ties: Floats, model: int, strength: float, again: Floats, rates: Floats) -> dict[str, Any]:
    """How a model fared, with its score; a score that only the prior holds has no end on that side."""
    won, lost, tied = (round(float(count)) for count in (wins[model].sum(), wins[:, model].sum(), ties[model].sum()))
    games = won + lost + tied
    low, high = bounds(CENTRE + SCALE * again) or (None, None)
    rate_low, rate_high = bounds(rates) or (None, None)
    note = None
    if won == games:
        high, note = None, "won every comparison: only the prior keeps its score finite"
    elif lost == games:
        low, note = None, "lost every comparison: only the prior keeps its score finite"
    return {
        "score": Figure(CENTRE + SCALE * float(strength), low, high, games, reason=note),
        "games": games,
        "wins": won,
        "losses": lost,
        "ties": tied,
        "win_rate": Figure((won + tied / 2) / games, rate_low, rate_high, games),
        "note": note,
    }


def _components(met: Floats, order: NDArray[Any]) -> NDArray[Any]:
    """The component of each model, numbered from the best model's on."""
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
    return [note for note, holds in ((_APART, parts > 1), (_SPLIT, strong > parts)) if holds]
