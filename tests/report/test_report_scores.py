"""Scores against human scores, compared with SciPy and scikit-learn; pairs within a question are recounted."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import Row, make_run, row
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from runner.report import Scales, summarize
from runner.report.sections import rank_correlation, score_agreement
from runner.report.sections.rank_correlation import kendall_tau_b, spearman
from runner.report.stats.bootstrap import Resampler

Arrays = tuple[np.ndarray, np.ndarray]


def compared(run: Path, scales: Scales | None = None, **more: Any) -> dict[str, Any]:
    """Returns the first judge's score agreement."""
    found = summarize(run, scales=scales, **more)["agreement"][0]["overall"]["scores"]
    assert isinstance(found, dict)
    return found


def grades(seed: int, n: int = 120, top: int = 5) -> Arrays:
    generator = np.random.default_rng(seed)
    human_scores = generator.integers(1, top + 1, n)
    return human_scores, np.clip(human_scores + generator.integers(-2, 3, n), 1, top)


def continuous(seed: int, n: int = 200) -> Arrays:
    generator = np.random.default_rng(seed)
    human_scores = generator.normal(size=n).round(2)
    return human_scores, (human_scores + generator.normal(size=n)).round(2)


def scored(
    directory: Path, human_scores: np.ndarray, judged: np.ndarray, questions: dict[int, str | None] | None = None
) -> Path:
    pairs = zip(human_scores.tolist(), judged.tolist(), strict=True)
    rows = [row(n, score=float(judge), human_score=float(human)) for n, (human, judge) in enumerate(pairs)]
    return make_run(directory, rows, questions=questions)


@pytest.mark.parametrize("draw", [grades, continuous])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_match_scipy(tmp_path: Path, draw: Callable[[int], Arrays], seed: int) -> None:
    human_scores, judged = draw(seed)
    found = compared(scored(tmp_path / "run", human_scores, judged))
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(human_scores, judged).statistic, abs=1e-9)
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(human_scores, judged).statistic, abs=1e-9)
    assert found["kendall_tau_b"]["value"] == pytest.approx(stats.kendalltau(human_scores, judged).statistic, abs=1e-9)
    assert found["pearson"]["n"] == len(human_scores)
    assert found["quadratic_kappa"]["reason"] == score_agreement.NO_SCALES


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=25))
def test_rank_correlations_of_tables_match_scipy(pairs: list[tuple[int, int]]) -> None:
    table = np.zeros((5, 7))
    np.add.at(table, tuple(np.array(pairs).T), 1)
    human_scores, judged = zip(*pairs, strict=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ours = float(kendall_tau_b(table)), float(spearman(table))
    if len(set(human_scores)) == 1 or len(set(judged)) == 1:
        assert all(math.isnan(value) for value in ours)
    else:
        assert ours[0] == pytest.approx(stats.kendalltau(human_scores, judged).statistic, abs=1e-9)
        assert ours[1] == pytest.approx(stats.spearmanr(human_scores, judged).statistic, abs=1e-9)


@pytest.mark.parametrize("name", ["spearman", "kendall_tau_b"])
@pytest.mark.parametrize("draw", [grades, continuous])
def test_rank_intervals_match_scipy_within_chance(tmp_path: Path, draw: Callable[[int], Arrays], name: str) -> None:
    """Also with more levels than a table can have, for which the interval uses bins."""
    human_scores, judged = draw(5)
    function = {"spearman": stats.spearmanr, "kendall_tau_b": stats.kendalltau}[name]
    theirs = stats.bootstrap(
        (human_scores, judged),
        lambda x, y: function(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=0,
    ).confidence_interval
    ours = compared(scored(tmp_path / "run", human_scores, judged))[name]
    width = theirs.high - theirs.low
    assert ours["low"] == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours["high"] == pytest.approx(theirs.high, abs=0.1 * width)


@pytest.mark.parametrize("seed", range(3))
def test_quadratic_kappa_and_error_on_one_scale(tmp_path: Path, seed: int) -> None:
    human_scores, judged = grades(seed)
    found = compared(scored(tmp_path / "run", human_scores, judged), Scales((1, 5), {"j": (1, 5)}))
    expected = cohen_kappa_score(human_scores, judged, weights="quadratic", labels=[1, 2, 3, 4, 5])
    assert found["quadratic_kappa"]["value"] == pytest.approx(expected, abs=1e-9)
    assert found["mean_absolute_error"]["value"] == pytest.approx(np.abs(human_scores - judged).mean(), abs=1e-12)
    assert found["mean_difference"]["value"] == pytest.approx((judged - human_scores).mean(), abs=1e-12)
    assert found["scales"] == {"judge": [1, 5], "human": [1, 5], "mapped": False}


def test_scores_are_mapped_linearly_onto_the_human_scale(tmp_path: Path) -> None:
    human_scores, judged = grades(1)
    found = compared(scored(tmp_path / "run", human_scores, judged), Scales((1, 5), {"j": (0, 5)}))
    mapped = 1 + judged * 4 / 5
    assert found["mean_absolute_error"]["value"] == pytest.approx(np.abs(mapped - human_scores).mean(), abs=1e-9)
    spread = ((mapped - human_scores) ** 2).mean()
    chance = ((mapped[:, None] - human_scores[None]) ** 2).mean()
    assert found["quadratic_kappa"]["value"] == pytest.approx(1 - spread / chance, abs=1e-9)
    assert found["scales"]["mapped"]


def test_pearson_is_exact_far_from_zero(tmp_path: Path) -> None:
    """Sums of squares of large numbers would lose all precision."""
    human_scores, judged = grades(2)
    found = compared(scored(tmp_path / "run", human_scores + 1e9, judged + 3e8))
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(human_scores, judged).statistic, abs=1e-9)


def test_pairs_within_a_question(tmp_path: Path) -> None:
    human_scores, judged = grades(3, 90)
    groups = np.random.default_rng(30).integers(0, 20, 90)
    found = compared(scored(tmp_path / "run", human_scores, judged, {n: f"q{group}" for n, group in enumerate(groups)}))
    right = different = same_order = every = 0
    for one, other in combinations(range(90), 2):
        if groups[one] == groups[other]:
            human, judge = np.sign(human_scores[one] - human_scores[other]), np.sign(judged[one] - judged[other])
            every += 1
            different += human != 0
            right += human != 0 and human == judge
            same_order += human == judge
    assert (found["pairwise_accuracy"]["count"], found["pairwise_accuracy"]["n"]) == (right, different)
    assert (found["pairwise_accuracy_with_ties"]["count"], found["pairwise_accuracy_with_ties"]["n"]) == (
        same_order,
        every,
    )
    assert found["resampled"] == len(set(groups.tolist()))


def test_pairs_are_of_the_same_order_and_repeat(tmp_path: Path) -> None:
    """Two repeats of a sample are not a pair."""
    rows = [row(n, repeat=r, score=float(n + r), human_score=float(n)) for n in range(2) for r in range(3)]
    found = compared(make_run(tmp_path / "run", rows, questions={0: "q", 1: "q"}))
    assert (found["pairwise_accuracy"]["count"], found["pairwise_accuracy"]["n"]) == (3, 3)


def test_a_question_with_many_distinct_scores_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_agreement, "MAX_PAIRED_SCORES", 20)
    human_scores, judged = continuous(4, 100)
    run = scored(tmp_path / "run", human_scores, judged, {n: "same" if n < 98 else f"q{n}" for n in range(100)})
    found = compared(run)["pairwise_accuracy_with_ties"]
    assert found["n"] == 20 * 19 / 2


def test_ranks_of_many_rows_with_many_levels_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_correlation, "MAX_ROWS", 100)
    human_scores, judged = continuous(6, 400)
    found = compared(scored(tmp_path / "run", human_scores, judged))
    assert 50 < found["sampled"] < 150
    assert found["spearman"]["n"] == found["sampled"]
    assert found["pearson"]["n"] == 400
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(human_scores, judged).statistic, abs=0.25)


def test_unreadable_scores_are_excluded_from_averages(tmp_path: Path) -> None:
    """Zeros count. Nulls do not, and neither does a score in a row that is not ok."""
    rows: list[Row] = [
        *(row(n, score=float(n % 3), human_score=float(n % 3), model="m") for n in range(6)),
        row(6, status="unparsed", score=None, human_score=2.0, error_type="no_verdict", model="m"),
        row(7, status="failed", score=None, human_score=2.0, error_type="timeout", model="m"),
        row(8, status="unparsed", score=99.0, human_score=0.0, error_type="out_of_scale", model="m"),
        row(9, status="ok", score=None, human_score=1.0, model="m"),
        row(10, score=2.0, human_score=None, model="m"),
    ]
    run = make_run(tmp_path / "run", rows, ("human_winner", "human_score", "human_label", "model"))
    summary = summarize(run, scales=Scales((0, 2), {"j": (0, 2)}))
    found = summary["agreement"][0]["overall"]["scores"]
    for name in ("pearson", "spearman", "kendall_tau_b", "mean_absolute_error", "mean_difference", "quadratic_kappa"):
        assert (found[name]["n"], found[name]["left_out"]) == (6, 4), name
    assert found["mean_absolute_error"]["value"] == 0
    assert found["pearson"]["value"] == pytest.approx(1)
    judge, verdict, human_scores = summary["distributions"]["scores"]
    for scores in (judge, verdict):
        assert scores["mean"]["value"] == pytest.approx((0 + 1 + 2 + 0 + 1 + 2 + 2) / 7)
        assert (scores["mean"]["n"], scores["mean"]["left_out"]) == (7, 4)
        assert dict(zip(scores["histogram"]["values"], scores["histogram"]["counts"], strict=True)) == {
            0: 2,
            1: 2,
            2: 3,
        }
    assert human_scores["mean"]["n"] == 10
    ranked = summary["ranking"]["tables"][0]["models"][0]
    assert ranked["score"]["value"] == pytest.approx(8 / 7)
    assert (ranked["games"], ranked["score"]["left_out"]) == (7, 4)


@pytest.mark.parametrize(
    ("human_scores", "judged", "reason"),
    [
        ([1, 1, 1], [1, 2, 3], rank_correlation.NOT_DEFINED),
        ([1, 2, 3], [0.1, 0.1, 0.1], rank_correlation.NOT_DEFINED),
        ([2], [3], rank_correlation.NOT_DEFINED),
        ([1, 2], [None, None], "no row has both a human score and a readable score"),
    ],
)
def test_undefined_figures_have_a_reason(
    tmp_path: Path, human_scores: list[float], judged: list[float | None], reason: str
) -> None:
    rows = [
        row(n, score=judge, human_score=float(human), status="unparsed" if judge is None else "ok")
        for n, (human, judge) in enumerate(zip(human_scores, judged, strict=True))
    ]
    found = compared(make_run(tmp_path / "run", rows))
    for name in ("pearson", "spearman", "kendall_tau_b"):
        assert found[name]["value"] is None
        assert found[name]["reason"] == reason


def test_by_group(tmp_path: Path) -> None:
    human_scores, judged = grades(8, 100)
    rows = [
        row(n, score=float(judge), human_score=float(human), category=None if n % 3 == 2 else f"c{n % 3}")
        for n, (human, judge) in enumerate(zip(human_scores.tolist(), judged.tolist(), strict=True))
    ]
    summary = summarize(make_run(tmp_path / "run", rows), ["category"])
    groups = {one["value"]: one["comparison"]["scores"] for one in summary["agreement"][0]["groups"]["category"]}
    assert groups.keys() == {"c0", "c1", None}
    for index, value in enumerate(("c0", "c1", None)):
        here = np.arange(100) % 3 == index
        for name, function in (("pearson", stats.pearsonr), ("kendall_tau_b", stats.kendalltau)):
            assert groups[value][name]["value"] == pytest.approx(
                function(human_scores[here], judged[here]).statistic, abs=1e-9
            )


def test_the_same_seed_gives_the_same_summary(tmp_path: Path) -> None:
    run = scored(tmp_path / "run", *grades(9))
    first, second, other = (compared(run, seed=seed)["spearman"] for seed in (1, 1, 2))
    assert first == pytest.approx(second)
    assert first["value"] == pytest.approx(other["value"])
    assert first["low"] != other["low"]


def test_rank_correlations_take_many_tables_at_once() -> None:
    """The result for many tables equals the results for each."""
    tables = np.random.default_rng(0).integers(0, 4, (7, 3, 3)).astype(float)
    assert kendall_tau_b(tables).shape == spearman(tables).shape == (7,)
    assert kendall_tau_b(tables)[3] == pytest.approx(kendall_tau_b(tables[3]))
    assert Resampler(0, replicates=5).resample(tables.reshape(7, 9)).resamples.shape == (5, 9)
