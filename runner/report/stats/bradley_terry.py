"""Strengths of models from who beat whom: Bradley-Terry with ties (Davidson 1970), held by a weak prior.

Winning, losing and a tie have the odds `exp(s_i) : exp(s_j) : nu * exp((s_i + s_j) / 2)`. Each strength has a normal
prior around 0: a model that never lost gets a high strength instead of an infinite one, and models that never met, not
even through others, each stay near 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from runner.report.stats.bootstrap import Floats

PRIOR = 3.0
"""The standard deviation of the prior on a strength (a natural logarithm): 521 points on the scale of 400 / ln 10."""

TIE_PRIOR = 10.0
"""The same on the logarithm of nu: wide, so that it only matters where everything or nothing is a tie."""

_STEPS = 200
_STEP = 2.0
_EXACT, _NEAR = 1e-10, 1e-6


class Fitted(msgspec.Struct, frozen=True):
    """Strengths (..., models), whose mean is 0, and nu (...), 0 in tables without ties."""

    strength: Floats
    nu: Floats


def fit(
    wins: Floats, ties: Floats, near: Fitted | None = None, prior: float = PRIOR, tie_prior: float = TIE_PRIOR
) -> Fitted:
    """Fit strengths by Newton's method; many tables at once.

    Args:
        wins: (..., models, models): how often the first beat the second.
        ties: (..., models, models), symmetric.
        near: the fit of a table that these are like, to start from; they are then fitted less exactly.
        prior: the standard deviation of the prior on strengths.
        tie_prior: the same of that on the logarithm of nu.
    """
    models = wins.shape[-1]
    games = wins + wins.swapaxes(-1, -2) + ties
    points = (wins + ties / 2).sum(axis=-1)
    tied = ties.sum(axis=(-1, -2)) / 2
    found = np.zeros((*points.shape[:-1], models + 1))
    if near is not None:
        found[..., :models] = near.strength
        found[..., models] = np.log(near.nu) if near.nu else 0.0
    enough = (_EXACT if near is None else _NEAR) * np.maximum(1.0, points.sum(axis=-1))[..., None]
    for _ in range(_STEPS):
        slope, curve = _derivatives(found, games, points, tied, (prior, tie_prior))
        if (np.abs(slope) <= enough).all():
            break
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        found = found + step / np.maximum(1.0, np.abs(step).max(axis=-1, keepdims=True) / _STEP)
    return Fitted(found[..., :models], np.where(tied > 0, np.exp(found[..., models]), 0.0))


def _derivatives(
    strength: Floats, games: Floats, points: Floats, tied: Floats, priors: tuple[float, float]
) -> tuple[Floats, Floats]:
    """The gradient of the penalised log-likelihood in strengths and log nu, and the negative of its curvature."""
    models = points.shape[-1]
    held, tie_held = (1 / prior**2 for prior in priors)
    half = (strength[..., :models, None] - strength[..., None, :models]) / 2
    drawn = np.where(tied > 0, strength[..., models], -np.inf)[..., None, None]
    top = np.maximum(np.abs(half), drawn)
    first, second, tie = np.exp(half - top), np.exp(-half - top), np.exp(drawn - top)
    every = first + second + tie
    first, second, tie = first / every, second / every, tie / every
    slope = np.empty_like(strength)
    slope[..., :models] = points - (games * (first + tie / 2)).sum(axis=-1) - strength[..., :models] * held
    slope[..., models] = tied - (games * tie).sum(axis=(-1, -2)) / 2 - strength[..., models] * tie_held
    lead = first - second
    spread = games * (first + second - lead**2) / 4
    place = np.arange(models)
    curve = np.zeros((*strength.shape, models + 1))
    curve[..., :models, :models] = -spread
    curve[..., place, place] += spread.sum(axis=-1) + held
    crossed = -(games * lead * tie).sum(axis=-1) / 2
    curve[..., :models, models] = crossed
    curve[..., models, :models] = crossed
    curve[..., models, models] = (games * tie * (1 - tie)).sum(axis=(-1, -2)) / 2 + tie_held
    return slope, curve
