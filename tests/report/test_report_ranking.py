"""Rankings: strengths compared with choix, statsmodels and a general optimiser; models that never lost."""

from __future__ import annotations

import math
from pathlib import Path

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import Row, make_run, row
from scipy import optimize, stats

from runner.report import summarize
from runner.report.sections import ranking as module
from runner.report.stats.bradley_terry import PRIOR_SD, TIE_PRIOR_SD, fit

Tables = tuple[np.ndarray, np.ndarray]
EXTRA = ("human_winner", "human_score", "human_label", "model1", "model2")


def games(seed: int, models: int = 6, n: int = 400, tie: float = 0.0) -> Tables:
    generator = np.random.default_rng(seed)
    strength = generator.normal(size=models)
    wins, ties = np.zeros((2, models, models))
    for _ in range(n):
        i, j = generator.choice(models, 2, replace=False)
        if generator.random() < tie:
            ties[i, j] += 1
            ties[j, i] += 1
        elif generator.random() < 1 / (1 + np.exp(strength[j] - strength[i])):
            wins[i, j] += 1
        else:
            wins[j, i] += 1
    return wins, ties


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_strengths_match_choix(seed: int) -> None:
    """The likelihood is the same, and the prior equals choix's L2 penalty."""
    wins, ties = games(seed)
    data = [(i, j) for i, j in zip(*np.nonzero(wins), strict=True) for _ in range(int(wins[i, j]))]
    theirs = choix.opt_pairwise(6, data, alpha=1 / (2 * PRIOR_SD**2), tol=1e-12)
    found = fit(wins, ties)
    assert found.strength == pytest.approx(theirs, abs=1e-6)
    assert found.nu == 0


@pytest.mark.parametrize("seed", range(3))
def test_with_ties_strengths_match_a_loglinear_model(seed: int) -> None:
    """With a negligible prior, Davidson's model is a Poisson regression with a term for each pair of models."""
    import statsmodels.api as sm  # takes a second, which every worker would pay for a module-level import

    wins, ties = games(seed, models=4, n=600, tie=0.3)
    counts, terms = [], []
    pairs = [(i, j) for i in range(4) for j in range(i)]
    for place, (i, j) in enumerate(pairs):
        for count, first, second, drawn in (
            (wins[i, j], 1, 0, 0),
            (wins[j, i], 0, 1, 0),
            (ties[i, j], 0.5, 0.5, 1),
        ):
            line = np.zeros(len(pairs) + 5)
            line[place], line[len(pairs) + i], line[len(pairs) + j], line[-1] = 1, first, second, drawn
            counts.append(count)
            terms.append(line)
    design = np.delete(np.array(terms), len(pairs), axis=1)  # the first model's strength is 0
    theirs = sm.GLM(counts, design, family=sm.families.Poisson()).fit(tol=1e-14).params
    strength = np.array([0, *theirs[len(pairs) : -1]])
    found = fit(wins, ties, prior=1e5, tie_prior=1e5)
    assert found.strength - found.strength[0] == pytest.approx(strength, abs=1e-6)
    assert np.log(found.nu) == pytest.approx(theirs[-1], abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_with_ties_and_prior_strengths_are_the_optimum(seed: int) -> None:
    wins, ties = games(seed, models=5, n=120, tie=0.2)

    def loss(parameters: np.ndarray) -> float:
        strength, drawn = parameters[:5], parameters[5]
        value = (strength**2).sum() / (2 * PRIOR_SD**2) + drawn**2 / (2 * TIE_PRIOR_SD**2)
        for i in range(5):
            for j in range(i):
                odds = np.array([strength[i], strength[j], drawn + (strength[i] + strength[j]) / 2])
                value -= np.dot([wins[i, j], wins[j, i], ties[i, j]], odds - np.logaddexp.reduce(odds))
        return float(value)

    best = optimize.minimize(loss, np.zeros(6), method="BFGS", jac="3-point", options={"gtol": 1e-9}).x
    found = fit(wins, ties)
    assert found.strength == pytest.approx(best[:5], abs=1e-6)
    assert np.log(found.nu) == pytest.approx(best[5], abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_table_has_a_fit(data: st.DataObject) -> None:
    """Strengths are finite and optimal for any table: never lost, never met, only ties, a million wins."""
    models = data.draw(st.integers(2, 5))
    count = st.sampled_from([0, 0, 1, 2, 30, 1_000_000])
    wins, ties = np.zeros((2, models, models))
    for i in range(models):
        for j in range(i):
            wins[i, j], wins[j, i], ties[i, j] = data.draw(st.tuples(count, count, count))
            ties[j, i] = ties[i, j]
    found = fit(wins, ties)
    assert np.isfinite(found.strength).all()
    assert np.isfinite(found.nu)
    assert abs(found.strength.sum()) < 1e-6
    points = (wins + ties / 2).sum(axis=1)
    half = (found.strength[:, None] - found.strength[None]) / 2
    tie = found.nu * np.ones_like(half)
    share = (np.exp(half) + tie / 2) / (np.exp(half) + np.exp(-half) + tie)
    played = wins + wins.T + ties
    gradient = points - (played * share).sum(axis=1) - found.strength / PRIOR_SD**2
    assert np.abs(gradient).max() <= 1e-5 * max(1, played.sum())


def test_many_tables_at_once_give_the_same_fits() -> None:
    tables = [games(seed, tie=0.1) for seed in range(4)]
    wins, ties = (np.stack(each) for each in zip(*tables, strict=True))
    ties[2] = 0
    near = fit(wins[0], ties[0])
    for start, exact in ((None, 1e-9), (near, 1e-4)):
        together = fit(wins, ties, start)
        for place in range(4):
            single = fit(wins[place], ties[place])
            assert together.strength[place] == pytest.approx(single.strength, abs=exact)
            assert together.nu[place] == pytest.approx(single.nu, abs=exact)


def pairs(
    rows: list[tuple[str | None, str | None, str | None]], human_winners: list[str | None] | None = None
) -> list[Row]:
    return [
        row(n, winner=winner, status="ok" if winner else "failed", model1=one, model2=other)
        | {"human_winner": None if human_winners is None else human_winners[n]}
        for n, (one, other, winner) in enumerate(rows)
    ]


def ranked(directory: Path, rows: list[Row]) -> dict:
    found = summarize(make_run(directory, rows, EXTRA))["ranking"]
    assert isinstance(found, dict)
    return found


def test_a_model_that_never_lost(tmp_path: Path) -> None:
    """It ranks first with a finite score and no upper bound, and the other models keep their distance."""
    others = [("b", "c", winner) for winner in ("1", "2", "1", "2", "1", "tie")] * 5
    champion = [("a", name, "1") for name in ("b", "c")] * 10
    table = ranked(tmp_path / "run", pairs([*others, *champion]))["tables"][0]
    first, *rest = table["models"]
    assert (first["model"], first["rank"], first["rank_high"], first["losses"]) == ("a", 1, 1, 0)
    assert 1000 < first["score"]["value"] < 3000
    assert first["score"]["high"] is None
    assert "won every comparison" in first["note"]
    assert any("never lost or tied" in note for note in table["notes"])
    without = ranked(tmp_path / "without", pairs(others))["tables"][0]["models"]
    gaps = [models[0]["score"]["value"] - models[1]["score"]["value"] for models in (rest, without)]
    assert gaps[0] == pytest.approx(gaps[1], abs=5)


def test_models_that_never_met(tmp_path: Path) -> None:
    rows = [("a", "b", winner) for winner in ("1", "1", "2")] * 6 + [
        ("c", "d", winner) for winner in ("1", "2", "2")
    ] * 6
    table = ranked(tmp_path / "run", pairs(rows))["tables"][0]
    component = {model["model"]: model["component"] for model in table["models"]}
    assert component["a"] == component["b"] != component["c"] == component["d"]
    assert any("never met" in note for note in table["notes"])
    assert all(abs(model["score"]["value"] - 1000) < 200 for model in table["models"])


def test_matrix_and_counts(tmp_path: Path) -> None:
    """The order of the two models does not matter; rows without two different models or a verdict are left out."""
    rows = [("a", "b", "1"), ("b", "a", "2"), ("b", "a", "1"), ("a", "b", "tie")]
    rows += [("a", "b", None), ("a", None, "1"), ("a", "a", "1")]
    table = ranked(tmp_path / "run", pairs(rows))["tables"][0]
    assert table["matrix"]["models"] == ["a", "b"]
    assert table["matrix"]["wins"] == [[0, 2], [1, 0]]
    assert table["matrix"]["ties"] == [[0, 1], [1, 0]]
    assert table["matrix"]["rate"] == [[None, 0.625], [0.375, None]]
    assert (table["samples"], table["left_out"]) == (4, 3)
    first = table["models"][0]
    assert (first["wins"], first["losses"], first["ties"], first["win_rate"]["value"]) == (2, 1, 1, 0.625)


def test_intervals_and_rank_ranges(tmp_path: Path) -> None:
    """Many games separate the models, few do not; intervals are close to those from the likelihood's curvature."""
    generator = np.random.default_rng(3)
    strength = {"a": 1.0, "b": 0.0, "c": -1.0}
    widths = {}
    for n in (60, 1500):
        rows = []
        for _ in range(n):
            one, other = generator.choice(list(strength), 2, replace=False)
            wins = generator.random() < 1 / (1 + math.exp(strength[other] - strength[one]))
            rows.append((str(one), str(other), "1" if wins else "2"))
        models = ranked(tmp_path / str(n), pairs(rows))["tables"][0]["models"]
        widths[n] = models[1]["score"]["high"] - models[1]["score"]["low"]
        if n == 1500:
            assert [(model["model"], model["rank_low"], model["rank_high"]) for model in models] == [
                ("a", 1, 1),
                ("b", 2, 2),
                ("c", 3, 3),
            ]
    met = 2 * 500 * math.exp(1) / (1 + math.exp(1)) ** 2  # the information of b's games, each against 1 away
    expected = 2 * 1.96 * 400 / math.log(10) / math.sqrt(met * 1.5)
    assert widths[1500] == pytest.approx(expected, rel=0.35)
    assert 3 < widths[60] / widths[1500] < 8


def test_human_labels_give_a_second_ranking(tmp_path: Path) -> None:
    rows = [("a", "b", "1"), ("b", "c", "1"), ("a", "c", "1")] * 8 + [
        ("b", "a", "1"),
        ("c", "b", "1"),
        ("c", "a", "1"),
    ] * 3
    human_winners = ["2" if winner == "1" else "1" for _, _, winner in rows]
    found = ranked(tmp_path / "run", pairs(rows, human_winners))
    assert [table["by"] for table in found["tables"]] == ["verdict", "people"]
    assert [model["model"] for model in found["tables"][1]["models"]] == ["c", "b", "a"]
    assert found["kendall_tau"]["value"] == pytest.approx(-1)


def test_mean_scores(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    rows, scores = [], {"a": [], "b": [], "c": []}
    for n in range(240):
        model = "abc"[n % 3]
        score = float(generator.integers(1, 6) + 5 * (model == "a"))
        if n % 7:
            scores[model].append(score)
        rows.append(row(n, score=score if n % 7 else None, status="ok" if n % 7 else "unparsed", model=model))
    run = make_run(tmp_path / "run", rows, ("human_winner", "human_score", "human_label", "model"))
    (table,) = summarize(run)["ranking"]["tables"]
    assert table["method"] == "mean_score"
    assert (table["models"][0]["model"], table["models"][0]["rank_high"]) == ("a", 1)
    for model in table["models"]:
        values = scores[model["model"]]
        found = model["score"]
        assert found["value"] == pytest.approx(np.mean(values))
        assert (found["n"], found["left_out"]) == (len(values), 80 - len(values))
        exact = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found["low"], found["high"]) == pytest.approx(exact, abs=0.1)


def test_models_beyond_the_limit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 2)
    rows = [("a", "b", "1"), ("a", "b", "2")] * 3 + [("c", "a", "1")]
    table = ranked(tmp_path / "run", pairs(rows))["tables"][0]
    assert ({model["model"] for model in table["models"]}, table["models_left_out"]) == ({"a", "b"}, 1)
    assert (table["samples"], table["left_out"]) == (6, 1)


def test_without_models_there_is_no_ranking(tmp_path: Path) -> None:
    found = summarize(make_run(tmp_path / "run", [row(0, winner="1")]))["ranking"]
    assert (found["tables"], found["reason"]) == ([], "dataset.fields maps no model column")
    found = ranked(tmp_path / "none", pairs([("a", "b", None)]))
    assert (found["tables"], found["reason"]) == ([], "no readable verdict is about a named model")
