"""Consistency of judges and agreement between them, compared with krippendorff, scikit-learn and a plain recount."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from report_runs import Row, make_run, row
from sklearn.metrics import cohen_kappa_score

from runner.report import Scales, summarize

WINNERS = ("1", "2", "tie")


def answers(seed: int, raters: int, units: int = 60, missing: float = 0.15) -> np.ndarray:
    """Returns codes 0 to 2 by rater and unit, from similar raters; -1 is missing."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, units)
    codes = np.where(generator.random((raters, units)) < 0.6, truth, generator.integers(0, 3, (raters, units)))
    return np.where(generator.random((raters, units)) < missing, -1, codes)


def alpha(codes: np.ndarray, level: str) -> float:
    data = np.where(codes < 0, np.nan, codes.astype(float))
    return float(krippendorff.alpha(reliability_data=data, level_of_measurement=level))


def verdict(kind: str, code: int) -> dict[str, Any]:
    """Returns a row's verdict: winner or score; code -1 is an unreadable verdict."""
    if code < 0:
        return {"status": "unparsed", "error_type": "no_verdict"}
    return {"winner": WINNERS[code]} if kind == "winner" else {"score": float(code)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "level"), [("winner", "nominal"), ("score", "interval")])
def test_alpha_across_judges_matches_krippendorff(tmp_path: Path, seed: int, kind: str, level: str) -> None:
    codes = answers(seed, 3)
    rows = [row(n, f"j{j}", **verdict(kind, codes[j, n])) for j in range(3) for n in range(60)]
    panel = summarize(make_run(tmp_path / "run", rows))["consistency"]["panel"]["overall"]
    found = panel["alpha_winners" if kind == "winner" else "alpha_scores"]
    assert found["value"] == pytest.approx(alpha(codes, level), abs=1e-9)
    assert found["low"] < found["value"] < found["high"]
    judged = (codes >= 0).sum(axis=0)
    assert (found["n"], found["left_out"]) == ((judged >= 2).sum(), (judged < 2).sum())


@pytest.mark.parametrize(("kind", "level"), [("winner", "nominal"), ("score", "interval")])
def test_alpha_across_repeats_matches_krippendorff(tmp_path: Path, kind: str, level: str) -> None:
    """A unit is a sample in one order, whose repeats are the raters."""
    codes = answers(4, 4, 80)
    rows = [
        row(unit // 2, swapped=bool(unit % 2), repeat=r, **verdict(kind, codes[r, unit]))
        for r in range(4)
        for unit in range(80)
    ]
    judge = summarize(make_run(tmp_path / "run", rows))["consistency"]["judges"][0]["overall"]["repeats"]
    found = judge["alpha_winners" if kind == "winner" else "alpha_scores"]
    assert found["value"] == pytest.approx(alpha(codes, level), abs=1e-9)
    units = [column[column >= 0] for column in codes.T]
    units = [unit for unit in units if len(unit) > 1]
    same = judge["same_winner" if kind == "winner" else "same_score"]
    assert (same["count"], same["n"]) == (sum(len(set(unit.tolist())) == 1 for unit in units), len(units))
    if kind == "score":
        assert judge["spread"]["value"] == pytest.approx(np.mean([np.ptp(unit) for unit in units]))


def test_alpha_does_not_depend_on_the_start_of_the_scale(tmp_path: Path) -> None:
    codes = answers(6, 3)
    rows = [row(n, f"j{j}", score=1e6 + float(codes[j, n])) for j in range(3) for n in range(60) if codes[j, n] >= 0]
    found = summarize(make_run(tmp_path / "run", rows))["consistency"]["panel"]["overall"]["alpha_scores"]
    assert found["value"] == pytest.approx(alpha(codes, "interval"), abs=1e-9)


def test_pairs_of_judges_compare_aggregated_verdicts(tmp_path: Path) -> None:
    """Two orders and two repeats of a judge are aggregated: most votes win, equal counts are a tie."""
    generator = np.random.default_rng(7)
    rows: list[Row] = []
    votes_by_judge: dict[tuple[str, int], list[str]] = {}
    for judge in ("a", "b"):
        for n in range(80):
            for swapped in (False, True):
                for repeat in range(2):
                    winner = str(generator.choice([*WINNERS, ""], p=[0.4, 0.3, 0.1, 0.2]))
                    rows.append(
                        row(n, judge, swapped, repeat, winner=winner or None, status="ok" if winner else "failed")
                    )
                    if winner:
                        votes_by_judge.setdefault((judge, n), []).append(winner)
    verdicts = {key: majority(votes) for key, votes in votes_by_judge.items()}
    both = [(verdicts["a", n], verdicts["b", n]) for n in range(80) if ("a", n) in verdicts and ("b", n) in verdicts]
    (pair,) = summarize(make_run(tmp_path / "run", rows))["consistency"]["panel"]["pairs"]
    assert (pair["same_winner"]["count"], pair["same_winner"]["n"]) == (sum(a == b for a, b in both), len(both))
    assert pair["kappa"]["value"] == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)), abs=1e-9)


def majority(votes: list[str]) -> str:
    (first, top), *others = Counter(votes).most_common()
    return "tie" if any(count == top for _, count in others) else first


def test_scores_of_two_judges(tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    first, second = generator.normal(size=(2, 50))
    rows = [row(n, "a", score=float(first[n])) for n in range(50)]
    rows += [row(n, "b", score=float(second[n])) for n in range(45)]
    (pair,) = summarize(make_run(tmp_path / "run", rows))["consistency"]["panel"]["pairs"]
    assert pair["pearson"]["value"] == pytest.approx(np.corrcoef(first[:45], second[:45])[0, 1], abs=1e-9)
    assert pair["mean_difference"]["value"] == pytest.approx((second[:45] - first[:45]).mean(), abs=1e-9)
    assert (pair["pearson"]["n"], pair["pearson"]["left_out"]) == (45, 5)
    assert pair["same_winner"]["reason"] == "one of the two judges does not name winners"


def test_scores_on_different_scales_are_not_compared(tmp_path: Path) -> None:
    """Pearson's correlation is still defined; the mean difference and alpha are not."""
    rows = [row(n, judge, score=float(n % 5 * (1 + 9 * (judge == "k")) + 1)) for n in range(40) for judge in "jk"]
    run = make_run(tmp_path / "run", rows)
    for scales, differ in (({"j": (1, 5), "k": (1, 50)}, True), ({"j": (1, 50), "k": (1, 50)}, False), ({}, False)):
        panel = summarize(run, scales=Scales(judges=scales))["consistency"]["panel"]
        figures = (panel["overall"]["alpha_scores"], panel["pairs"][0]["mean_difference"])
        assert [one["reason"] == "the judges use different scales" for one in figures] == [differ] * 2
        assert [one["value"] is None for one in figures] == [differ] * 2
        assert panel["pairs"][0]["pearson"]["value"] == pytest.approx(1)


def test_a_criterion_is_not_part_of_the_panel(tmp_path: Path) -> None:
    rows = [row(n, judge, score=float(n)) for judge in ("a", "b", "depth") for n in range(5)]
    run = make_run(tmp_path / "run", rows)
    for criteria, judges in ((["depth"], ["a", "b"]), (["depth", "b"], None)):
        known = {"judges": {"a": {"dimension": None}} | {name: {"dimension": name} for name in criteria}}
        (run / "run.json").write_text(json.dumps({"schema_version": 1, "reading": known}))
        found = summarize(run)
        assert found["settings"]["criteria"] == sorted(criteria)
        panel = found["consistency"]["panel"]
        assert (panel and panel["judges"]) == judges


def test_by_group(tmp_path: Path) -> None:
    codes = answers(9, 2, 60, missing=0)
    rows = [
        row(n, f"j{j}", category="even" if n % 2 == 0 else "odd", **verdict("winner", codes[j, n]))
        for j in range(2)
        for n in range(60)
    ]
    found = summarize(make_run(tmp_path / "run", rows), ["category"])["consistency"]
    groups = {one["value"]: one["panel"]["alpha_winners"]["value"] for one in found["panel"]["groups"]["category"]}
    assert groups["even"] == pytest.approx(alpha(codes[:, ::2], "nominal"), abs=1e-9)
    assert groups["odd"] == pytest.approx(alpha(codes[:, 1::2], "nominal"), abs=1e-9)
    assert {one["value"] for one in found["judges"][0]["groups"]["category"]} == {"even", "odd"}
    assert found["judges"][0]["overall"]["repeats"] is None
