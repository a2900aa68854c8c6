"""Ranks with their intervals, and the agreement of two rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runner.report.models import Figure
from runner.report.stats.bootstrap import CONFIDENCE_LEVEL, Floats, bounds, no_interval_reason

_EQUAL_TOLERANCE = 1e-9
_MIN_MODELS = 2


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
