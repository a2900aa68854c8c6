"""Unreadable scores are excluded from all averages: zeros, nulls and failures are mixed, every average recounted.

The rows that could not be read also contain values, which no real run writes: an average that used them would be far
off.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import scipy.stats
from report_runs import Row, make_run, row

from runner.report import Scales, summarize

SAMPLES = range(40)
JUDGES = ("a", "b")
INVALID_SCORE = 1e6
CAUSES = {
    "unparsed": ["no_verdict", "conflict", "out_of_scale", "truncated"],
    "failed": ["bad_row", "content_filter", "timeout", "batch_lost"],
}
MIXED = ["zero", "zero", "read", "read", "read", "no score", "unparsed", "failed"]
EXTRA = ("human_score", "model")
SCALES = Scales((0, 10), {"a": (0, 10), "b": (0, 10)})


def mixed(draw: random.Random, ordinal: int, judge: str, repeat: int, human: float | None) -> Row:
    """Returns a row of a random kind; only the first three kinds have a score that was read."""
    kind = draw.choice(MIXED) if ordinal else "unparsed"  # no row of the first sample is readable
    status = kind if kind in CAUSES else "ok"
    score = {"zero": 0.0, "read": float(draw.randint(0, 10)), "no score": None}.get(kind, INVALID_SCORE)
    depth = draw.choice([0.0, 3.0, None]) if status == "ok" else INVALID_SCORE
    failed = status == "failed"
    return row(
        ordinal,
        judge,
        repeat=repeat,
        status=status,
        score=score,
        score1=score,
        label="good" if kind == "no score" else None,
        dimensions=None if depth is None else [{"name": "depth", "answer": None, "score": depth}],
        error_type=draw.choice(CAUSES[status]) if status in CAUSES else None,
        latency_s=None if failed else draw.choice([0.0, 0.5, 2.0]),
        cost=None if failed else draw.choice([0.0, 0.25]),
        human_score=human,
        model=f"m{ordinal % 3}",
    )


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    draw = random.Random(20)
    human = {ordinal: draw.choice([0.0, float(draw.randint(0, 10)), None]) for ordinal in SAMPLES}
    made = [mixed(draw, ordinal, judge, n, human[ordinal]) for ordinal in SAMPLES for judge in JUDGES for n in range(2)]
    assert len({(one["status"], one["error_type"]) for one in made}) == 9
    return made


@pytest.fixture(scope="module", params=["mean", "median"])
def score(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory, rows: list[Row], score: str) -> Path:
    questions = {ordinal: f"question {ordinal}" for ordinal in SAMPLES}
    return make_run(tmp_path_factory.mktemp("nulls") / "run", rows, EXTRA, questions, score=score)


@pytest.fixture(scope="module")
def data(run_directory: Path) -> dict[str, Any]:
    return summarize(run_directory, scales=SCALES)


def read(rows: list[Row], judge: str | None = None, ordinal: int | None = None, name: str = "score") -> list[float]:
    """Returns the values that were read, optionally of one judge and of one sample."""
    return [
        one[name]
        for one in rows
        if one["status"] == "ok"
        and one[name] is not None
        and judge in (None, one["judge"])
        and ordinal in (None, one["ordinal"])
    ]


def by_sample(rows: list[Row], score: str) -> dict[int, float]:
    """Returns the aggregated score of every sample that has one."""
    middle = statistics.fmean if score == "mean" else statistics.median
    found = {ordinal: read(rows, ordinal=ordinal) for ordinal in SAMPLES}
    return {ordinal: middle(values) for ordinal, values in found.items() if values}


def test_averages_of_samples(run_directory: Path, rows: list[Row], score: str) -> None:
    lines = pq.read_table(run_directory / "samples.parquet").to_pylist()
    expected = by_sample(rows, score)
    assert 0 not in expected
    assert 0.0 in expected.values()
    for name in ("score", "score1"):
        found = {line["ordinal"]: line[name] for line in lines if line[name] is not None}
        assert found == pytest.approx(expected)
    for line in lines:
        votes = [vote["score"] for vote in line["votes"] if vote["score"] is not None]
        assert votes == read(rows, ordinal=line["ordinal"])
        assert (line["status"] == "ok") is any(
            one["status"] == "ok" for one in rows if one["ordinal"] == line["ordinal"]
        )
        assert INVALID_SCORE not in [item["score"] for item in line["dimensions"]]


def test_averages_of_distributions(data: dict[str, Any], rows: list[Row], score: str) -> None:
    expected = {judge: read(rows, judge) for judge in JUDGES} | {None: [*by_sample(rows, score).values()]}
    every = {judge: 2 * len(SAMPLES) for judge in JUDGES} | {None: len(SAMPLES)}
    found = {one["judge"]: one for one in data["distributions"]["scores"] if one["of"] != "people"}
    assert found.keys() == expected.keys()
    for judge, values in expected.items():
        assert found[judge]["mean"]["value"] == pytest.approx(statistics.fmean(values))
        assert (found[judge]["mean"]["n"], found[judge]["mean"]["left_out"]) == (
            len(values),
            every[judge] - len(values),
        )
        assert found[judge]["deviation"] == pytest.approx(statistics.stdev(values))
        assert (found[judge]["quartiles"][0], found[judge]["quartiles"][-1]) == (min(values), max(values))
        assert found[judge]["quartiles"][2] == pytest.approx(statistics.median(values))
        assert sum(found[judge]["histogram"]["counts"]) == len(values)


def test_averages_of_criteria(data: dict[str, Any], rows: list[Row]) -> None:
    assert len(data["distributions"]["criteria"]) == len(JUDGES)
    for one in data["distributions"]["criteria"]:
        mine = [row for row in rows if row["judge"] == one["judge"] and row["status"] == "ok"]
        values = [item["score"] for row in mine for item in row["dimensions"] or ()]
        assert (one["n"], one["mean"], one["max"]) == (len(values), pytest.approx(statistics.fmean(values)), 3.0)


def test_averages_of_agreement(data: dict[str, Any], rows: list[Row], score: str) -> None:
    human = {one["ordinal"]: one["human_score"] for one in rows if one["human_score"] is not None}
    sampled = by_sample(rows, score)
    pairs = {
        judge: [
            (human[one["ordinal"]], one["score"])
            for one in rows
            if one["judge"] == judge and one["status"] == "ok" and one["score"] is not None and one["ordinal"] in human
        ]
        for judge in JUDGES
    } | {None: [(human[ordinal], value) for ordinal, value in sampled.items() if ordinal in human]}
    found = {one["judge"]: one["overall"]["scores"] for one in data["agreement"]}
    assert found.keys() == pairs.keys()
    for judge, values in pairs.items():
        labels, judged = zip(*values, strict=True)
        differences = [b - a for a, b in values]
        for name, expected in (
            ("mean_difference", statistics.fmean(differences)),
            ("mean_absolute_error", statistics.fmean(map(abs, differences))),
            ("pearson", statistics.correlation(labels, judged)),
            ("spearman", scipy.stats.spearmanr(labels, judged).statistic),
        ):
            assert found[judge][name]["value"] == pytest.approx(expected), (judge, name)
            every = len(human) * (1 if judge is None else 2)
            assert (found[judge][name]["n"], found[judge][name]["left_out"]) == (len(values), every - len(values))


def test_averages_of_rankings(data: dict[str, Any], rows: list[Row], score: str) -> None:
    (by_verdict,) = (table for table in data["ranking"]["tables"] if table["by"] == "verdict")
    sampled = by_sample(rows, score)
    for model in by_verdict["models"]:
        values = [value for ordinal, value in sampled.items() if f"m{ordinal % 3}" == model["model"]]
        assert (model["score"]["value"], model["games"]) == (pytest.approx(statistics.fmean(values)), len(values))
    assert by_verdict["left_out"] == len(SAMPLES) - len(sampled)


def test_averages_of_consistency(data: dict[str, Any], rows: list[Row]) -> None:
    for one in data["consistency"]["judges"]:
        units = [read(rows, one["judge"], ordinal) for ordinal in SAMPLES]
        twice = [values for values in units if len(values) == 2]
        repeats = one["overall"]["repeats"]
        assert repeats["spread"]["value"] == pytest.approx(statistics.fmean(abs(a - b) for a, b in twice))
        assert (repeats["same_score"]["count"], repeats["same_score"]["n"]) == (
            sum(a == b for a, b in twice),
            len(twice),
        )
    means = {judge: {n: read(rows, judge, n) for n in SAMPLES} for judge in JUDGES}
    differences = [
        statistics.fmean(means["b"][n]) - statistics.fmean(means["a"][n])
        for n in SAMPLES
        if means["a"][n] and means["b"][n]
    ]
    (pair,) = data["consistency"]["panel"]["pairs"]
    assert pair["mean_difference"]["value"] == pytest.approx(statistics.fmean(differences))
    assert pair["mean_difference"]["n"] == len(differences)


def test_averages_of_cost_and_time(data: dict[str, Any], rows: list[Row]) -> None:
    costs = [one["cost"] for one in rows if one["cost"] is not None]
    usage = next(one for one in data["usage"] if one["judge"] is None)
    assert (usage["cost"], usage["unpriced"]) == (pytest.approx(sum(costs)), len(rows) - len(costs))
    assert usage["cost_per_sample"] == pytest.approx(sum(costs) / len(SAMPLES))
    for latency in data["throughput"]["latency"]:
        known = [
            one["latency_s"]
            for one in rows
            if one["latency_s"] is not None and latency["judge"] in (None, one["judge"])
        ]
        assert (latency["n"], latency["p50"], latency["max"]) == (len(known), statistics.median(known), max(known))


def test_averages_of_winners(tmp_path: Path) -> None:
    """An unreadable winner is neither right, wrong nor a tie."""
    draw = random.Random(3)
    rows = [
        row(
            ordinal,
            "j",
            swapped,
            status=status,
            winner=None if status == "ok" and draw.random() < 0.1 else draw.choice(["1", "2", "tie"]),
            human_winner=label,
        )
        for ordinal in range(60)
        for label in [draw.choice(["1", "2", "tie"])]
        for swapped in (False, True)
        for status in [draw.choice(["ok", "ok", "ok", "unparsed", "failed"])]
    ]
    good = [one for one in rows if one["status"] == "ok" and one["winner"] is not None]
    data = summarize(make_run(tmp_path / "run", rows, ("human_winner",)))
    found = data["agreement"][0]["overall"]["winners"]
    right = sum(one["winner"] == one["human_winner"] for one in good)
    accuracy = found["with_ties"]["accuracy"]
    assert (accuracy["count"], accuracy["n"], accuracy["left_out"]) == (right, len(good), len(rows) - len(good))
    assert sum(map(sum, found["confusion"]["counts"])) == len(good)
    assert sum(found["confusion"]["unread"]) == len(rows) - len(good)
    (named, verdict, _) = data["distributions"]["winners"]
    for swapped, counts in ((False, named["original"]), (True, named["swapped"])):
        for winner in ("1", "2", "tie"):
            assert counts[winner] == sum(one["winner"] == winner and one["swapped"] == swapped for one in good)
    assert sum(verdict["original"].values()) == 60
