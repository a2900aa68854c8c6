"""Ranks with their intervals, whether the best one is better than the others, and the agreement of two rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from runner.report.models import Figure
from runner.report.significance import Leader
from runner.report.stats.bootstrap import CONFIDENCE_LEVEL, Floats, bounds, no_interval_reason
from runner.report.stats.simultaneous import MIN_QUESTIONS, SIGNIFICANCE_LEVEL

_EQUAL_TOLERANCE = 1e-9
_MIN_MODELS = 2
_MIN_DEFINED_SHARE = 0.9  # share of the resamples in which both models have a score


class ModelScores(msgspec.Struct, frozen=True):
    """The models of a ranking with their scores (models,), and the scores in each resample (replicates, models)."""

    models: Sequence[str]
    values: Floats
    resamples: Floats


def ranks(values: Floats) -> NDArray[np.integer[Any]]:
    """Returns the rank of each value (..., models): 1 is best, equal values share a rank, NaN ranks last."""
    values = np.where(np.isfinite(values), values, -np.inf)
    better = values[..., None, :] > values[..., :, None] + _EQUAL_TOLERANCE
    return np.asarray(1 + better.sum(axis=-1))


def rank_spans(resamples: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the best and the worst rank of each model in the central 95 % of the resamples."""
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.quantile(ranks(resamples), [tail, 1 - tail], axis=0, method="inverted_cdf").astype(int)
    return low, high


def find_leader(scores: ModelScores, questions: NDArray[Any], component: NDArray[Any]) -> Leader | None:
    """Compare the best model with each of the others by Student's t; the resamples give the variance of a difference.

    The p-values are not adjusted: the best model must differ from all others, and of equally good models, one does so
    by chance in at most 5 % of the runs.

    Args:
        scores: of at least one model.
        questions: how many questions each model has: (models,).
        component: of each model. Only models of the same component can be compared.
    """
    rank = ranks(scores.values)
    best = np.flatnonzero(rank == 1)
    if len(best) != 1 or len(rank) < _MIN_MODELS:
        return None
    first, name = int(best[0]), scores.models[int(best[0])]
    others = [int(one) for one in np.argsort(rank, kind="stable") if one != first]
    if questions.min() < MIN_QUESTIONS:
        return Leader(name, None, ())
    p_values = [
        _p_value(scores, first, one, int(min(questions[first], questions[one])))
        if component[first] == component[one]
        else 1.0
        for one in others
    ]
    near = [scores.models[one] for one, p in zip(others, p_values, strict=True) if p > SIGNIFICANCE_LEVEL]
    return Leader(name, max(p_values), near)


def _p_value(scores: ModelScores, first: int, second: int, questions: int) -> float:
    """Return the two-sided p-value of the difference of two models; 1 if too few resamples have both."""
    resampled = scores.resamples[:, first] - scores.resamples[:, second]
    resampled = resampled[np.isfinite(resampled)]
    difference = scores.values[first] - scores.values[second]
    if len(resampled) < _MIN_DEFINED_SHARE * len(scores.resamples) or not np.isfinite(difference):
        return 1.0
    # A resample varies less than the data by this factor.
    error = np.sqrt(resampled.var() * questions / (questions - 1))
    if error <= _EQUAL_TOLERANCE:
        return 0.0
    return float(2 * special.stdtr(questions - 1, -abs(difference) / error))


def rank_agreement(first: ModelScores, second: ModelScores) -> Figure:
    """Returns Kendall's tau of two rankings over the models that both contain.

    Both rankings must come from the same resamples.
    """
    names = [name for name in first.models if name in second.models]
    if len(names) < _MIN_MODELS:
        return Figure(n=len(names), reason="fewer than two models appear in both rankings")
    one, other = ([ranking.models.index(name) for name in names] for ranking in (first, second))
    value = float(_tau(first.values[one], second.values[other]))
    if not np.isfinite(value):
        return Figure(n=len(names), reason="one ranking gives all models the same rank")
    resamples = _tau(first.resamples[:, one], second.resamples[:, other])
    low, high = bounds(resamples) or (None, None)
    reason = no_interval_reason(resamples) if low is None else None
    return Figure(value, low, high, len(names), reason=reason)


def _tau(first: Floats, second: Floats) -> Floats:
    one, other = (np.sign(values[..., None, :] - values[..., :, None]) for values in (first, second))
    every = (one**2).sum(axis=(-1, -2)) * (other**2).sum(axis=(-1, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(every > 0, (one * other).sum(axis=(-1, -2)) / np.sqrt(every), np.nan)
