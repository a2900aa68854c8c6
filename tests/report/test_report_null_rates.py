"""Runs without any effect: at most 5 % of them show a group, a judge or a model as different (seeded draws)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from runner.report.models import Figure
from runner.report.sections.pairwise_ranking import count_contests, rank_contests
from runner.report.stats.bootstrap import Resampler
from runner.report.stats.rank_intervals import ModelScores, find_leader
from runner.report.stats.simultaneous import SIGNIFICANCE_LEVEL, differences, estimate, holm, share_variance

# 5 % and three standard errors of a share of 1,000 rounds.
MAX_SHARE = 0.071
Draw = Callable[[np.random.Generator], bool]


def groups_differ(groups: int, questions: int, rows: int, right: float) -> Draw:
    """Compare the accuracy of groups of questions; all rows of a question are right or wrong together."""

    def differ(generator: np.random.Generator) -> bool:
        found = []
        for group in range(groups):
            good = generator.random(questions) < right
            each = np.where(generator.random((questions, rows)) < 0.8, good[:, None], ~good[:, None]).sum(axis=1)
            sums = np.column_stack([each, np.full(questions, rows)]).astype(float)
            blocks = np.arange(questions) + group * questions
            variance = share_variance(*sums.sum(axis=0))
            figure = Figure(float(sums[:, 0].sum() / sums[:, 1].sum()))
            found.append(estimate(str(group), figure, lambda s: s[..., 0] / s[..., 1], blocks, sums, variance))
        p_values = [one.p_value for one in differences([one for one in found if one is not None])]
        return min(holm(p_values), default=1.0) <= SIGNIFICANCE_LEVEL

    return differ


def best_mean(models: int, questions: int) -> Draw:
    resampler = Resampler(0, 500)

    def certain(generator: np.random.Generator) -> bool:
        scores = generator.integers(1, 6, size=(questions, models)).astype(float)
        resamples = resampler.weights(questions).astype(float) @ scores / questions
        table = ModelScores([f"m{n}" for n in range(models)], scores.mean(axis=0), resamples)
        found = find_leader(table, np.full(models, questions), np.zeros(models))
        return found is not None and not found.not_better_than

    return certain


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(groups_differ(5, 12, 1, 0.5), id="5 groups of 12 questions"),
        pytest.param(groups_differ(5, 10, 3, 0.9), id="5 groups of 10 questions of similar rows"),
        pytest.param(groups_differ(2, 40, 2, 0.9), id="2 groups of 40 questions"),
        pytest.param(best_mean(2, 12), id="2 models, 12 questions"),
        pytest.param(best_mean(5, 30), id="5 models, 30 questions"),
    ],
)
def test_chance_alone_hardly_ever_shows_a_difference(draw: Draw) -> None:
    generator = np.random.default_rng(15)
    assert np.mean([draw(generator) for _ in range(1000)]) <= MAX_SHARE


def test_groups_of_few_questions_are_never_compared() -> None:
    generator = np.random.default_rng(3)
    draw = groups_differ(2, 9, 5, 0.5)
    assert not any(draw(generator) for _ in range(50))


def leader(winners: list[int], questions: int) -> tuple[float | None, bool]:
    """Rank two models by these winners; returns the p-value, and True if the best model is certain."""
    n = len(winners)
    columns = {"first": np.zeros(n, int), "second": np.ones(n, int), "winner": np.array(winners), "n": np.ones(n)}
    contests = count_contests(["a", "b"], questions, {**columns, "block": np.arange(n) % questions})
    found = rank_contests(contests, Resampler(0, 500)).leader
    assert found is not None
    return found.p_value, found.p_value is not None and not found.not_better_than


def test_the_best_of_two_models_is_certain_only_with_enough_wins() -> None:
    """26 wins of 40 have a two-sided p-value of 0.08 in the binomial test, 30 wins one of 0.002."""
    p_value, certain = leader([0] * 26 + [1] * 14, 40)
    assert p_value == pytest.approx(0.07, abs=0.03)
    assert not certain
    assert leader([0] * 30 + [1] * 10, 40)[1]
    assert leader([0] * 8 + [1] * 1, 9) == (None, False)


def test_models_that_never_met_are_not_compared() -> None:
    n = 40
    columns = {"first": np.repeat([0, 2], n // 2), "second": np.repeat([1, 3], n // 2), "n": np.ones(n)}
    winner = np.where(np.arange(n) % 10 < 9, 0, 1)
    contests = count_contests(list("abcd"), n, {**columns, "winner": winner, "block": np.arange(n)})
    found = rank_contests(contests, Resampler(0, 500)).leader
    assert found is None or found.not_better_than
