"""Bootstrap intervals from sums, compared with SciPy's bootstrap of the rows, and their general properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from runner.report.models import Figure
from runner.report.stats.bootstrap import REPLICATES, Resampled, Resampler, bca


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 1] / sums[..., 0]


def resampled(values: np.ndarray, clusters: np.ndarray | None = None, seed: int = 0) -> Resampled:
    clusters = np.arange(len(values)) if clusters is None else clusters
    names, place = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, (place, 0), 1)
    np.add.at(sums, (place, 1), values)
    return Resampler(seed).resample(sums)


def figure(resampled: Resampled) -> Figure:
    return resampled.figure(mean, resampled.total[0], 0, "nothing")


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_intervals_match_scipys_within_chance(draw: str) -> None:
    values = getattr(np.random.default_rng(1), draw)(size=60)
    ours = [figure(resampled(values, seed=seed)) for seed in range(5)]
    theirs = [
        stats.bootstrap((values,), np.mean, n_resamples=REPLICATES, method="BCa", rng=seed).confidence_interval
        for seed in range(5)
    ]
    error = values.std() / math.sqrt(len(values))
    assert np.mean([one.low for one in ours]) == pytest.approx(np.mean([one.low for one in theirs]), abs=0.1 * error)
    assert np.mean([one.high for one in ours]) == pytest.approx(np.mean([one.high for one in theirs]), abs=0.1 * error)


def test_bias_and_acceleration_match_scipys() -> None:
    """The same resamples give exactly the same interval."""
    generator = np.random.default_rng(2)
    values = generator.exponential(size=25)
    picks = generator.integers(25, size=(3000, 25))
    resamples = values[picks].mean(axis=1)
    leave_one_out = (values.sum() - values) / 24
    given = stats.bootstrap((values,), np.mean, n_resamples=0, bootstrap_result=_Result(resamples), method="BCa")
    assert bca(float(values.mean()), resamples, leave_one_out) == pytest.approx(given.confidence_interval, abs=1e-9)


class _Result:
    """Passes existing resamples to SciPy."""

    def __init__(self, resamples: np.ndarray) -> None:
        self.bootstrap_distribution = resamples


def test_clusters_are_drawn_as_a_whole() -> None:
    values = np.random.default_rng(3).normal(size=40)
    single = figure(resampled(values))
    copied = figure(resampled(np.repeat(values, 5), np.repeat(np.arange(40), 5)))
    unclustered = figure(resampled(np.repeat(values, 5)))
    assert copied.n == 200
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high), abs=1e-9)
    assert unclustered.high - unclustered.low < 0.6 * (copied.high - copied.low)


def test_the_seed_determines_the_interval() -> None:
    values = np.random.default_rng(4).normal(size=30)
    assert figure(resampled(values, seed=7)) == figure(resampled(values, seed=7))
    assert figure(resampled(values, seed=7)) != figure(resampled(values, seed=8))


def test_each_resample_draws_as_many_units_as_there_are() -> None:
    resampler = Resampler(0)
    for units in (1, 2, 37, 1024):
        weights = resampler.weights(units)
        assert weights.shape == (REPLICATES, units)
        assert (weights.sum(axis=1, dtype=int) == units).all()
    assert resampler.weights(37) is resampler.weights(37)


@pytest.mark.parametrize(("right", "n"), [(0, 12), (12, 12), (1, 1), (0, 300)])
def test_shares_of_0_and_1_have_the_exact_interval(right: int, n: int) -> None:
    sums = np.zeros((n, 2))
    sums[:, 0] = np.arange(n) < right
    sums[:, 1] = np.arange(n) >= right
    found = Resampler(0).resample(sums).share(np.array([1.0, 0]), np.ones(2), np.zeros(2), "none")
    exact = stats.binomtest(right, n).proportion_ci(method="exact")
    assert (found.value, found.count, found.n) == (right / n, right, n)
    if n == 1:
        assert found.low is None
        assert found.reason == "no interval: all rows belong to one question"
    else:
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_a_missing_interval_has_a_reason() -> None:
    assert figure(resampled(np.ones(9))).reason == "no interval: every resample gives the same value"
    assert figure(resampled(np.arange(9.0), np.zeros(9))).reason == "no interval: all rows belong to one question"
    rare = np.zeros((20, 2))
    rare[0] = 1, 5
    reason = Resampler(0).resample(rare).figure(mean, 1, 0, "nothing").reason
    assert reason == "no interval: undefined in too many resamples"
    assert Resampler(0).resample(np.zeros((3, 2))).figure(mean, 0, 4, "nothing") == Figure(left_out=4, reason="nothing")


lines = st.lists(
    st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0])), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(lines)
def test_figures_are_numbers_or_have_a_reason(sums: list[tuple[int, float]]) -> None:
    found = Resampler(0, replicates=50).resample(np.array(sums, float)).figure(mean, 1, 0, "nothing")
    numbers = [number for number in (found.value, found.low, found.high) if number is not None]
    assert all(math.isfinite(number) for number in numbers)
    assert len(numbers) == 3 or found.reason
    assert found.low is None or found.low <= found.high
