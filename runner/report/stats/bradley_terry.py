"""Strengths of models from pairwise results: Bradley-Terry with ties (Davidson 1970) and a weak prior.

A win, a loss and a tie have the odds `exp(s_i) : exp(s_j) : nu * exp((s_i + s_j) / 2)`. Each strength has a normal
prior around 0. A model that never lost therefore gets a high strength instead of an infinite one, and groups of models
that are not connected by any comparison each stay near 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from runner.report.stats.bootstrap import Floats

# Standard deviation of the prior on a strength (in natural log odds): 521 points on the scale of 400 / ln 10.
PRIOR_SD = 3.0
# The same for log nu. It is wide: it only matters if all comparisons are ties, or none is.
TIE_PRIOR_SD = 10.0

_MAX_STEPS = 200
_MAX_STEP_SIZE = 2.0
_TOLERANCE, _RESAMPLE_TOLERANCE = 1e-10, 1e-6  # of the gradient, relative to the number of comparisons


class Fitted(msgspec.Struct, frozen=True):
    """Strengths (..., models), whose mean is 0, and nu (...), which is 0 for tables without ties."""

    strength: Floats
    nu: Floats


def fit(
    wins: Floats, ties: Floats, near: Fitted | None = None, prior: float = PRIOR_SD, tie_prior: float = TIE_PRIOR_SD
) -> Fitted:
    """Fit strengths by Newton's method, many tables at once.

    Args:
        wins: (..., models, models): how often the first model beat the second.
        ties: (..., models, models), symmetric.
        near: the fit of a similar table to start from; the tolerance is then looser.
        prior: standard deviation of the prior on strengths.
        tie_prior: standard deviation of the prior on log nu.
    """
    models = wins.shape[-1]
    games = wins + wins.swapaxes(-1, -2) + ties
    points = (wins + ties / 2).sum(axis=-1)
    tied = ties.sum(axis=(-1, -2)) / 2
    parameters = np.zeros((*points.shape[:-1], models + 1))
    if near is not None:
        parameters[..., :models] = near.strength
        parameters[..., models] = np.log(near.nu) if near.nu else 0.0
    tolerance = (_TOLERANCE if near is None else _RESAMPLE_TOLERANCE) * np.maximum(1.0, points.sum(axis=-1))[..., None]
    for _ in range(_MAX_STEPS):
        gradient, hessian = _derivatives(parameters, games, points, tied, (prior, tie_prior))
        if (np.abs(gradient) <= tolerance).all():
            break
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        parameters = parameters + step / np.maximum(1.0, np.abs(step).max(axis=-1, keepdims=True) / _MAX_STEP_SIZE)
    return Fitted(parameters[..., :models], np.where(tied > 0, np.exp(parameters[..., models]), 0.0))


def _derivatives(
    strength: Floats, games: Floats, points: Floats, tied: Floats, priors: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Returns the gradient of the penalised log-likelihood in strengths and log nu, and its negative Hessian."""
    models = points.shape[-1]
    precision, tie_precision = (1 / prior**2 for prior in priors)
    half = (strength[..., :models, None] - strength[..., None, :models]) / 2
    drawn = np.where(tied > 0, strength[..., models], -np.inf)[..., None, None]
    top = np.maximum(np.abs(half), drawn)
    first, second, tie = np.exp(half - top), np.exp(-half - top), np.exp(drawn - top)
    every = first + second + tie
    first, second, tie = first / every, second / every, tie / every
    gradient = np.empty_like(strength)
    gradient[..., :models] = points - (games * (first + tie / 2)).sum(axis=-1) - strength[..., :models] * precision
    gradient[..., models] = tied - (games * tie).sum(axis=(-1, -2)) / 2 - strength[..., models] * tie_precision
    lead = first - second
    spread = games * (first + second - lead**2) / 4
    diagonal = np.arange(models)
    hessian = np.zeros((*strength.shape, models + 1))
    hessian[..., :models, :models] = -spread
    hessian[..., diagonal, diagonal] += spread.sum(axis=-1) + precision
    crossed = -(games * lead * tie).sum(axis=-1) / 2
    hessian[..., :models, models] = crossed
    hessian[..., models, :models] = crossed
    hessian[..., models, models] = (games * tie * (1 - tie)).sum(axis=(-1, -2)) / 2 + tie_precision
    return gradient, hessian
