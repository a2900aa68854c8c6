"""The report as users meet it: at a run's end, by the command, in the quickstart; and never in the way of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_run import Bench, emulator

from runner.judge import FORMATS
from runner.judge.verdict.scales import OWN

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=8) as address:
        yield address


@pytest.fixture
def bench(tmp_path: Path, url: str) -> Bench:
    bench = Bench(tmp_path, url)
    bench.write(12, tone="dry")
    bench.config["dataset"]["keep"] = ["tone"]
    return bench


def summary(bench: Bench) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((bench.directory / "report" / "summary.json").read_bytes())
    return data


def test_a_run_writes_its_report_at_its_end(bench: Bench) -> None:
    ended = bench.run({"report": {"group_by": ["tone"]}})
    assert (ended.exit_code, ended.report) == (0, bench.directory / "report" / "index.html")
    assert any(line.split() == ["report", str(ended.report)] for line in ended.lines())
    numbers = summary(bench)
    assert numbers["run"]["exit_code"] == 0
    assert numbers["counts"]["all"] | dict(Counter(row["status"] for row in bench.rows)) == numbers["counts"]["all"]
    assert [group["column"] for group in numbers["settings"]["groups"]] == ["tone"]
    assert "<html" in ended.report.read_text(encoding="utf-8")


def test_a_run_that_asks_for_none_writes_none(bench: Bench) -> None:
    assert bench.run().report is None
    assert not (bench.directory / "report").exists()


def test_nothing_of_the_report_is_loaded_into_a_run() -> None:
    program = "import sys, runner.cli; print(*(name for name in sys.modules if name in ('duckdb', 'scipy', 'jinja2')"
    program += " or name.startswith('runner.report.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_report_that_fails_leaves_the_run_as_it_is(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.run().exit_code == 0
    (bench.directory / "report").write_text("in the way", encoding="utf-8")
    before = bench.rows
    ended = bench.run({"report": {}})
    assert (ended.exit_code, ended.report) == (0, None)
    assert bench.rows == before
    assert "the report was not written" in caplog.text
    assert f"judge-runner report {bench.directory}" in caplog.text


def test_a_run_that_is_not_over_has_no_report_until_somebody_asks(bench: Bench, cli: Cli) -> None:
    ended = bench.run({"report": {}}, max_time=0.0)
    assert (ended.exit_code, ended.report) == (4, None)
    done = cli("report", str(bench.directory))
    assert done.returncode == 0, done.stderr
    assert summary(bench)["run"]["stop_reason"] == "max_time"


def test_the_command_makes_it_again_with_other_groups(bench: Bench, cli: Cli) -> None:
    bench.run({"report": {"group_by": ["tone"]}})
    first = summary(bench)
    done = cli("report", "out", "--set", "report.group_by=[]")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == bench.directory / "report" / "index.html"
    second = summary(bench)
    assert second["settings"]["groups"] == []
    assert second["counts"] == first["counts"]


def test_rescoring_makes_it_again(bench: Bench, cli: Cli) -> None:
    bench.run({"report": {}})
    low = sorted(row["score"] for row in bench.rows)[5]
    assert cli("rescore", "out", "--set", f"judge.scale=[1, {low}]").returncode == 1
    numbers = summary(bench)
    assert numbers["counts"]["all"]["unparsed"] == sum(row["status"] == "unparsed" for row in bench.rows) > 0
    assert numbers["settings"]["scales"]["judges"] == {"judge": [1.0, low]}


def test_scales_are_those_of_formats_and_people(bench: Bench) -> None:
    bench.write(12, tone="dry", human=3)
    bench.config["dataset"]["human_label"] = {"column": "human", "scale": [1, 5]}
    bench.run({"report": {}, "judge.verdict": "mt_bench_single"})
    assert summary(bench)["settings"]["scales"] == {"human": [1.0, 5.0], "judges": {"judge": [1.0, 10.0]}}
    assert set(OWN) < set(FORMATS)


def test_a_run_that_has_closed_no_part_yet(bench: Bench, cli: Cli) -> None:
    bench.run({"report": {"group_by": ["tone"]}}, max_time=0.0)
    for part in (bench.directory / "results").iterdir():
        part.unlink()
    (bench.directory / "samples.parquet").unlink(missing_ok=True)
    assert cli("report", "out").returncode == 0
    assert summary(bench)["counts"]["all"]["rows"] == 0
