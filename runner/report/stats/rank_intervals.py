"""Places in a ranking, how far they spread, and how alike two rankings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runner.report.models import Figure
from runner.report.stats.bootstrap import LEVEL, Floats, bounds

_EQUAL = 1e-9
_FEW = 2


class Standing(msgspec.Struct, frozen=True):
    """The models of a ranking, the value of each, and these in each resample (replicates, models)."""

    models: Sequence[str]
    values: Floats
    again: Floats


def ranks(values: Floats) -> NDArray[np.integer[Any]]:
    """The place of each value (..., models): 1 is best; equal ones share a place; what is no number comes last."""
    values = np.where(np.isfinite(values), values, -np.inf)
    better = values[..., None, :] > values[..., :, None] + _EQUAL
    return np.asarray(1 + better.sum(axis=-1))


def rank_spans(again: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """The best and the worst place of each model in 95 % of the resamples."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ranks(again), [tail, 1 - tail], axis=0, method="inverted_cdf").astype(int)
    return low, high


def rank_agreement(first: Standing, second: Standing) -> Figure:
    """Kendall's tau of two rankings over the models that both have; both must be of the same resamples."""
    names = [name for name in first.models if name in second.models]
    if len(names) < _FEW:
        return Figure(n=len(names), reason="fewer than two models are in both rankings")
    one, other = ([ranking.models.index(name) for name in names] for ranking in (first, second))
    value = float(_tau(first.values[one], second.values[other]))
    if not np.isfinite(value):
        return Figure(n=len(names), reason="all models of one ranking are equal")
    low, high = bounds(_tau(first.again[:, one], second.again[:, other])) or (None, None)
    reason = "no interval: not defined in most resamples" if low is None else None
    return Figure(value, low, high, len(names), reason=reason)


def _tau(first: Floats, second: Floats) -> Floats:
    one, other = (np.sign(values[..., None, :] - values[..., :, None]) for values in (first, second))
    every = (one**2).sum(axis=(-1, -2)) * (other**2).sum(axis=(-1, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(every > 0, (one * other).sum(axis=(-1, -2)) / np.sqrt(every), np.nan)
