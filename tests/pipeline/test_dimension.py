"""Judges of one criterion: their scores appear under its name, and they have no vote on the overall verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
from bench_run import TEMPLATE, Bench, emulator

from runner.config import load_config
from runner.pipeline import rescore_run
from runner.report import summarize

TONE = {**TEMPLATE, "name": "tone", "dimension": "politeness", "repeats": 2, "model": "other-model"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=8) as address:
        yield address


@pytest.fixture
def bench(tmp_path: Path, url: str) -> Bench:
    """A finished run with an overall judge and a judge of one criterion."""
    bench = Bench(tmp_path, url)
    bench.config.pop("judge")
    bench.config["judges"] = [{**TEMPLATE, "name": "whole"}, TONE]
    bench.write(12)
    assert bench.run().exit_code == 0
    return bench


def expected_scores(bench: Bench) -> list[tuple[float, float]]:
    """Returns for each sample the overall score and the mean score of the criterion, from the rows."""
    found = []
    for line in bench.samples:
        own_rows = [row for row in bench.rows if row["ordinal"] == line["ordinal"]]
        (whole,) = (row["score"] for row in own_rows if row["judge"] == "whole")
        tone = [item["score"] for row in own_rows if row["judge"] == "tone" for item in row["dimensions"]]
        assert len(tone) == 2
        found.append((whole, mean(tone)))
    return found


def test_its_score_appears_under_its_name(bench: Bench) -> None:
    assert {row["score"] for row in bench.rows if row["judge"] == "tone"} == {None}
    for line, (whole, tone) in zip(bench.samples, expected_scores(bench), strict=True):
        assert line["dimensions"] == [{"name": "politeness", "answer": None, "score": tone}]
        assert (line["score"], line["status"]) == (whole, "ok")
        assert [vote["judge"] for vote in line["votes"]] == ["whole"]


def test_it_can_become_a_vote_and_a_criterion_again_without_requests(bench: Bench) -> None:
    before, asked = bench.samples, bench.request_count
    expected = expected_scores(bench)
    config = bench.directory / "config.yaml"
    assert rescore_run(load_config(config, ["judges.1.dimension=null"], base=bench.folder)).exit_code == 0
    for line, (whole, tone) in zip(bench.samples, expected, strict=True):
        assert line["dimensions"] == []
        assert line["score"] == pytest.approx((whole + 2 * tone) / 3)
        assert len(line["votes"]) == 3
    assert rescore_run(load_config(config, ["judges.1.dimension=politeness"], base=bench.folder)).exit_code == 0
    assert bench.samples == before
    assert bench.request_count == asked


def test_the_summary_keeps_it_out_of_the_panel(bench: Bench) -> None:
    data = summarize(bench.directory)
    assert data["settings"]["criteria"] == ["tone"]
    assert data["consistency"]["panel"] is None
    assert [(judge["name"], judge["scores"], judge["winners"]) for judge in data["judges"]] == [
        ("tone", False, False),
        ("whole", True, False),
    ]
    (criterion,) = data["distributions"]["criteria"]
    tones = [item["score"] for row in bench.rows if row["judge"] == "tone" for item in row["dimensions"]]
    assert (criterion["judge"], criterion["name"], criterion["n"]) == ("tone", "politeness", 24)
    assert criterion["mean"] == pytest.approx(mean(tones))
    spread = {(one["of"], one["judge"]): one["mean"]["value"] for one in data["distributions"]["scores"]}
    wholes = [row["score"] for row in bench.rows if row["judge"] == "whole"]
    assert spread == {("judge", "whole"): pytest.approx(mean(wholes)), ("verdict", None): pytest.approx(mean(wholes))}


def test_a_run_with_only_criteria_has_no_verdict(bench: Bench) -> None:
    bench.config["judges"] = [TONE]
    summary = bench.run(fresh=True)
    assert (summary.exit_code, summary.counts.ok) == (0, 24)
    for line in bench.samples:
        assert (line["score"], line["winner"], line["votes"], line["status"]) == (None, None, [], "ok")
        assert [item["name"] for item in line["dimensions"]] == ["politeness"]
    data = summarize(bench.directory)
    assert data["distributions"]["scores"] == data["disputed"] == []
    assert (data["ranking"]["tables"], data["agreement"]) == ([], [])


def test_each_of_two_answers_has_a_score_in_the_datasets_order(bench: Bench) -> None:
    bench.write(6, answer1="Short.", answer2="It is blue, since air scatters blue light more than red light does.")
    bench.config["judges"] = [
        {"name": "whole", "kind": "pai_pairwise"},
        {"name": "depth", "kind": "pai_pairwise", "model": "pai-judge-plus", "swap": True, "dimension": "depth"},
    ]
    assert bench.run(fresh=True).counts.ok == 18
    for line in bench.samples:
        orders = [row for row in bench.rows if row["judge"] == "depth" and row["ordinal"] == line["ordinal"]]
        assert [(row["winner"], row["score1"], row["score2"]) for row in orders] == [(None, None, None)] * 2
        found = [
            {item["answer"]: item["score"] for item in row["dimensions"] if item["name"] == "depth"} for row in orders
        ]
        assert found[0].keys() == {1, 2}
        own = {item["answer"]: item["score"] for item in line["dimensions"] if item["name"] == "depth"}
        assert own == {answer: mean(each[answer] for each in found) for answer in (1, 2)}
        assert own[1] < own[2]
        assert (line["consistent"], [vote["judge"] for vote in line["votes"]]) == (None, ["whole"])
        assert line["score1"] is not None
