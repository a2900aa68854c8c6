"""The report at the end of a run and by the command; it never affects the run."""

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
from runner.judge.verdict.scales import FORMAT_SCALES

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
    result = bench.run({"report": {"group_by": ["tone"]}})
    assert (result.exit_code, result.report) == (0, bench.directory / "report" / "index.html")
    assert any(line.split() == ["report", str(result.report)] for line in result.lines())
    numbers = summary(bench)
    assert numbers["run"]["exit_code"] == 0
    assert numbers["counts"]["all"] | dict(Counter(row["status"] for row in bench.rows)) == numbers["counts"]["all"]
    assert [group["column"] for group in numbers["settings"]["groups"]] == ["tone"]
    assert "<html" in result.report.read_text(encoding="utf-8")


def test_a_run_without_a_report_section_writes_none(bench: Bench) -> None:
    assert bench.run().report is None
    assert not (bench.directory / "report").exists()


def test_a_run_does_not_import_the_report() -> None:
    program = "import sys, runner.cli; print(*(name for name in sys.modules if name in ('duckdb', 'scipy', 'jinja2')"
    program += " or name.startswith('runner.report.')))"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.split() == []


def test_a_failed_report_does_not_affect_the_run(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.run().exit_code == 0
    (bench.directory / "report").write_text("in the way", encoding="utf-8")
    before = bench.rows
    result = bench.run({"report": {}})
    assert (result.exit_code, result.report) == (0, None)
    assert any(line.split() == ["report", "not", "written"] for line in result.lines())
    assert result.report_problem is not None and "\n" not in result.report_problem
    assert result.report_problem.startswith("the report was not written: ")
    assert bench.rows == before
    assert "the report was not written" in caplog.text
    assert f"judge-runner report {bench.directory}" in caplog.text


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_a_failed_report_is_said_on_the_terminal(bench: Bench, cli: Cli, quiet: tuple[str, ...]) -> None:
    bench.run({"report": {}})
    (bench.directory / "report" / "index.html").unlink()
    (bench.directory / "report" / "index.html").mkdir()
    ran = cli("run", "judge.yaml", *quiet)
    assert ran.returncode == 0
    assert "error: the report was not written: " in ran.stderr
    assert "`judge-runner report " in ran.stderr and "Traceback" not in ran.stderr
    assert ("not written\n" in ran.stderr) is (not quiet)


def test_an_unfinished_run_gets_a_report_only_by_the_command(bench: Bench, cli: Cli) -> None:
    result = bench.run({"report": {}}, max_time=0.0)
    assert (result.exit_code, result.report) == (4, None)
    process = cli("report", str(bench.directory))
    assert process.returncode == 0, process.stderr
    assert summary(bench)["run"]["stop_reason"] == "max_time"


def test_the_command_writes_it_again_with_other_groups(bench: Bench, cli: Cli) -> None:
    bench.run({"report": {"group_by": ["tone"]}})
    first = summary(bench)
    process = cli("report", "out", "--set", "report.group_by=[]")
    assert (process.returncode, process.stderr) == (0, "")
    assert Path(process.stdout.strip()) == bench.directory / "report" / "index.html"
    second = summary(bench)
    assert second["settings"]["groups"] == []
    assert second["counts"] == first["counts"]


def test_rescoring_writes_it_again(bench: Bench, cli: Cli) -> None:
    bench.run({"report": {}})
    low = sorted(row["score"] for row in bench.rows)[5]
    assert cli("rescore", "out", "--set", f"judge.scale=[1, {low}]").returncode == 1
    numbers = summary(bench)
    assert numbers["counts"]["all"]["unparsed"] == sum(row["status"] == "unparsed" for row in bench.rows) > 0
    assert numbers["settings"]["scales"]["judges"] == {"judge": [1.0, low]}


def test_scales_come_from_formats_and_human_labels(bench: Bench) -> None:
    bench.write(12, tone="dry", human=3)
    bench.config["dataset"]["human_label"] = {"column": "human", "scale": [1, 5]}
    bench.run({"report": {}, "judge.verdict": "mt_bench_single"})
    assert summary(bench)["settings"]["scales"] == {"human": [1.0, 5.0], "judges": {"judge": [1.0, 10.0]}}
    assert set(FORMAT_SCALES) < set(FORMATS)


def test_a_run_without_a_closed_part(bench: Bench, cli: Cli) -> None:
    bench.run({"report": {"group_by": ["tone"]}}, max_time=0.0)
    for part in (bench.directory / "results").iterdir():
        part.unlink()
    (bench.directory / "samples.parquet").unlink(missing_ok=True)
    assert cli("report", "out").returncode == 0
    assert summary(bench)["counts"]["all"]["rows"] == 0
