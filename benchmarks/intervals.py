"""How often the report's 95 % intervals contain the true value, by simulation.

    python benchmarks/intervals.py [--rounds 1000] [--seed 0]

Each line draws many datasets from a known population and computes the interval of each with the report's own code. It
counts the intervals that contain the population's value, and those that lie on either side of it. Chance alone moves a
share of 1,000 rounds by 1.4 points either way.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runner.report.models import Figure
from runner.report.sections.pairwise_ranking import MEAN_RATING, RATING_SCALE, count_contests, rank_contests
from runner.report.sections.rank_correlation import correlations, kendall_tau_b, spearman
from runner.report.sections.winner_agreement import kappa
from runner.report.stats import krippendorff
from runner.report.stats.bootstrap import MAX_BLOCKS, Resampler
from runner.report.stats.moments import pearson

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Resampler], Figure]

# Label x verdict of a judge that is right in 70 % of the rows.
JOINT = np.array([[0.38, 0.08, 0.03], [0.10, 0.27, 0.03], [0.03, 0.03, 0.05]])

# Human x judge on a scale of five grades.
DISTANCES = np.array([[abs(i - j) for j in range(5)] for i in range(5)])
GRADED = np.exp(-DISTANCES) / np.exp(-DISTANCES).sum()


def main() -> None:
    """Parse the command line, simulate every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| figure | data | contains the truth | truth below | truth above | no interval | mean width | s |")
    print("|---|---|---|---|---|---|---|---|")
    for figure, data, truth, draw in cases():
        started = time.perf_counter()
        generator, resampler = np.random.default_rng(options.seed), Resampler(options.seed)
        found = [draw(generator, resampler) for _ in range(options.rounds)]
        ends = np.array([(one.low, one.high) for one in found if one.low is not None and one.high is not None])
        below, above = (truth < ends[:, 0]).mean(), (truth > ends[:, 1]).mean()
        missing = 1 - len(ends) / len(found)
        print(
            f"| {figure} | {data} | {1 - below - above:.1%} | {below:.1%} | {above:.1%} | {missing:.1%} | "
            f"{(ends[:, 1] - ends[:, 0]).mean():.3f} | {time.perf_counter() - started:.0f} |",
            flush=True,
        )


def cases() -> list[tuple[str, str, float, Draw]]:
    """Return the cases: figure, data, the population's value, and the function that draws one dataset's figure."""
    tau, rho = float(kendall_tau_b(GRADED * 1e9)), float(spearman(GRADED))
    product = float(np.corrcoef(np.repeat(*weighted(0)), np.repeat(*weighted(1)))[0, 1])
    normal_tau, normal_rho = 2 / np.pi * np.arcsin(0.5), 6 / np.pi * np.arcsin(0.25)
    best = float(MEAN_RATING + RATING_SCALE * 0.75)
    return [
        ("accuracy", "50 rows, 70 % right", 0.7, lambda g, r: accuracy(g.random((50, 1)) < 0.7, r)),
        ("accuracy", "200 rows, 70 % right", 0.7, lambda g, r: accuracy(g.random((200, 1)) < 0.7, r)),
        ("accuracy", "50 rows, 97 % right", 0.97, lambda g, r: accuracy(g.random((50, 1)) < 0.97, r)),
        ("accuracy", "20 questions of 10 similar rows", 0.7, lambda g, r: accuracy(similar(g, 20), r)),
        ("accuracy", "80 questions of 10 similar rows", 0.7, lambda g, r: accuracy(similar(g, 80), r)),
        (
            "accuracy",
            "the same, resampled by row (wrong)",
            0.7,
            lambda g, r: accuracy(similar(g, 80).reshape(-1, 1), r),
        ),
        (
            "accuracy",
            "4,000 questions of 2 similar rows, in blocks",
            0.7,
            lambda g, r: accuracy(similar(g, 4000, 2), r),
        ),
        ("kappa", "60 rows", float(kappa(JOINT)), lambda g, r: chance_corrected(g, r, 60)),
        ("kappa", "400 rows", float(kappa(JOINT)), lambda g, r: chance_corrected(g, r, 400)),
        ("pearson", "60 rows, five grades", product, lambda g, r: correlation(g, r, 60)),
        ("spearman", "60 rows, five grades", rho, lambda g, r: graded(g, r, 60)[0]),
        ("kendall", "60 rows, five grades", tau, lambda g, r: graded(g, r, 60)[1]),
        ("spearman", "80 rows, normal", normal_rho, lambda g, r: normal(g, r, 80)[0]),
        ("kendall", "80 rows, normal", normal_tau, lambda g, r: normal(g, r, 80)[1]),
        ("kendall", "500 rows, normal", normal_tau, lambda g, r: normal(g, r, 500)[1]),
        ("alpha", "100 samples, 3 judges", 0.36, lambda g, r: panel(g, r, 100)),
        ("strength", "4 models, 300 games", best, lambda g, r: strength(g, r, 300)),
        ("strength", "4 models, 1,500 games", best, lambda g, r: strength(g, r, 1500)),
    ]


def similar(generator: np.random.Generator, questions: int, rows: int = 10) -> NDArray[np.bool_]:
    """Draw rows that are right with their question's own probability: 0.7 on average, widely spread."""
    own = generator.beta(1.4, 0.6, size=(questions, 1))
    return generator.random((questions, rows)) < own


def accuracy(right: NDArray[np.bool_], resampler: Resampler) -> Figure:
    """Return the share of rows that are right; the array has one line per question."""
    sums = np.stack([right.sum(axis=1), (~right).sum(axis=1)], axis=1).astype(float)
    if len(sums) > MAX_BLOCKS:
        padded = np.zeros((-(-len(sums) // MAX_BLOCKS) * MAX_BLOCKS, 2))
        padded[: len(sums)] = sums
        sums = padded.reshape(-1, MAX_BLOCKS, 2).sum(axis=0)
    return resampler.resample(sums).share(np.array([1.0, 0.0]), np.ones(2), np.zeros(2), "")


def draw_cells(generator: np.random.Generator, table: Floats, n: int) -> Floats:
    """Draw rows, each of which falls into a cell of the table."""
    cells = generator.choice(table.size, n, p=table.ravel())
    return np.eye(table.size)[cells]


def chance_corrected(generator: np.random.Generator, resampler: Resampler, n: int) -> Figure:
    """Return the kappa of drawn rows."""
    resampled = resampler.resample(draw_cells(generator, JOINT, n))
    return resampled.figure(lambda sums: kappa(sums.reshape(*sums.shape[:-1], 3, 3)), n, 0, "")


def weighted(axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the grades of one side of the population, and the frequency of each pair of grades."""
    return np.indices((5, 5))[axis].ravel(), (GRADED * 1e6).round().astype(int).ravel()


def correlation(generator: np.random.Generator, resampler: Resampler, n: int) -> Figure:
    """Return Pearson's correlation of drawn rows."""
    x, y = np.divmod(generator.choice(25, n, p=GRADED.ravel()), 5)
    sums = np.stack([np.zeros(n), np.ones(n), x, y, x * x, y * y, x * y], axis=1).astype(float)
    return resampler.resample(sums).figure(pearson, n, 0, "")


def graded(generator: np.random.Generator, resampler: Resampler, n: int) -> tuple[Figure, Figure]:
    """Return the rank correlations of drawn grades."""
    x, y = np.divmod(generator.choice(25, n, p=GRADED.ravel()), 5)
    return correlations({"x": x, "y": y, "n": np.ones(n, int), "block": np.arange(n)}, 0, resampler)


def normal(generator: np.random.Generator, resampler: Resampler, n: int) -> tuple[Figure, Figure]:
    """Return the rank correlations of two normal columns with correlation 0.5: more levels than a table has."""
    x, noise = generator.normal(size=(2, n))
    y = 0.5 * x + np.sqrt(0.75) * noise
    return correlations({"x": x, "y": y, "n": np.ones(n, int), "block": np.arange(n)}, 0, resampler)


def panel(generator: np.random.Generator, resampler: Resampler, n: int) -> Figure:
    """Return alpha of three judges: each is right with probability 0.6 and guesses otherwise, so alpha is 0.6 x 0.6."""
    truth = generator.integers(3, size=(n, 1))
    verdicts = np.where(generator.random((n, 3)) < 0.6, truth, generator.integers(3, size=(n, 3)))
    counts = (verdicts[..., None] == np.arange(3)).sum(axis=1)
    agreed = (counts * (counts - 1)).sum(axis=1, keepdims=True) / 2
    sums = np.concatenate([np.ones((n, 1)), counts, agreed, np.zeros((n, 2))], axis=1)
    return krippendorff.of_winners(resampler.resample(sums))


def strength(generator: np.random.Generator, resampler: Resampler, n: int) -> Figure:
    """Return the score of the best of four models with strengths 0.5 apart; a fifth of the games are ties."""
    own = np.array([0.75, 0.25, -0.25, -0.75])
    first = generator.integers(4, size=n)
    second = (first + generator.integers(1, 4, size=n)) % 4
    wins = generator.random(n) < 1 / (1 + np.exp(own[second] - own[first]))
    half = (own[first] - own[second]) / 2
    nu = 0.5
    tie = generator.random(n) < nu / (np.exp(half) + np.exp(-half) + nu)
    winner = np.where(tie, 2, np.where(wins, 0, 1))
    found = {"block": np.arange(n), "first": first, "second": second, "winner": winner, "n": np.ones(n)}
    outcome = rank_contests(count_contests(list("abcd"), n, found), resampler)
    return next(model.score for model in outcome.ranked if model.model == "a")


if __name__ == "__main__":
    main()
