"""`rescore` parses every stored response again, sends nothing, and its exit code follows the new statuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_run import Bench, emulator

from runner.config import load_config
from runner.errors import RunDirectoryError, UsageError
from runner.pipeline import rescore_run
from runner.results import RunDirectory

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=8) as address:
        yield address


@pytest.fixture
def bench(tmp_path: Path, url: str) -> Bench:
    """A finished run of three parts."""
    bench = Bench(tmp_path, url)
    bench.write(10)
    assert bench.run().exit_code == 0
    return bench


def rescore(bench: Bench, *overrides: str, code: int = 0) -> list[dict[str, Any]]:
    """Rescore with some values changed; returns the rows."""
    before = bench.request_count
    config = load_config(bench.directory / "config.yaml", overrides, base=bench.folder)
    summary = rescore_run(config)
    assert (summary.exit_code, summary.asked, bench.request_count) == (code, 0, before)
    run = RunDirectory(bench.directory).read_run()
    assert (run["exit_code"], run["counts"]["total"]) == (code, summary.total)
    return bench.rows


def test_another_format_is_used_and_stays_for_the_next_run(bench: Bench) -> None:
    before = bench.rows
    rows = rescore(bench, "judge.verdict=mt_bench_single")
    assert {row["rule"] for row in rows} == {"mt_bench_single.bracket"}
    assert [line["score"] for line in bench.samples] == [row["score"] for row in rows]
    assert rescore(bench) == rows
    rows = rescore(bench, "judge.verdict={pattern: '(\\d+)', kind: score, pick: last}")
    assert rows == before


def test_the_exit_code_follows_the_new_statuses(bench: Bench) -> None:
    low = sorted(row["score"] for row in bench.rows)[5]
    rows = rescore(bench, f"judge.scale=[1, {low}]", code=1)
    bad = sum(row["status"] == "unparsed" for row in rows)
    assert 0 < bad < 10
    rescore(bench, "output.tolerate=0.9")
    rescore(bench, "output.tolerate=0", code=1)
    rescore(bench, "judge.scale=null")


def test_responses_are_parsed_although_the_configuration_is_the_same(bench: Bench) -> None:
    """A newer version may parse a response better, and the configuration does not show that."""
    run_directory = RunDirectory(bench.directory)
    rows = bench.rows
    run = run_directory.read_run()
    table = bench.directory / "samples.parquet"
    table.unlink()
    assert rescore(bench) == rows
    assert table.exists()
    assert run_directory.read_run()["reading"] == run["reading"]


def test_rows_that_a_run_would_replace_are_counted_as_stored(tmp_path: Path) -> None:
    retry = {"attempts": 2, "base": 0.01, "ceiling": 0.02}
    with emulator(seed=4, faults={"malformed": 0.6}) as url:
        bench = Bench(tmp_path, url)
        bench.write(12)
        bench.config["online"] = {"retry": retry}
        bench.config["breaker"] = {"share": 1}
        assert bench.run().exit_code == 1
        failed = sum(row["status"] == "failed" for row in bench.rows)
        assert failed
        assert len(rescore(bench, code=1)) == 12
        assert RunDirectory(bench.directory).read_run()["counts"]["failed"] == failed
        rescore(bench, "output.tolerate=1")


def test_an_unfinished_run_stays_unfinished(bench: Bench) -> None:
    bench.write(12)
    before = bench.request_count
    summary = rescore_run(load_config(bench.directory / "config.yaml", base=bench.folder))
    assert (summary.exit_code, summary.stop_reason, bench.request_count) == (4, "incomplete", before)
    assert "2 requests have no row yet" in (summary.message or "")
    assert len(bench.samples) == 10
    assert bench.run().exit_code == 0
    assert len(bench.rows) == 12


def test_the_limit_of_the_run_is_kept(tmp_path: Path, url: str) -> None:
    bench = Bench(tmp_path, url)
    bench.write(10)
    assert bench.run(limit=4).exit_code == 0
    assert len(rescore(bench, "judge.verdict=last_number")) == 4


def test_the_requests_may_not_change(bench: Bench) -> None:
    rows = bench.rows
    config = load_config(bench.directory / "config.yaml", ["judge.user=Other {answer}"], base=bench.folder)
    with pytest.raises(RunDirectoryError, match="user was"):
        rescore_run(config)
    assert bench.rows == rows
    assert rescore(bench) == rows


def test_a_directory_without_a_run_is_refused(bench: Bench) -> None:
    config = load_config(bench.directory / "config.yaml", ["output.directory=other"], base=bench.folder)
    with pytest.raises(UsageError, match="not a run directory"):
        rescore_run(config)


def test_the_command_needs_no_token(bench: Bench, cli: Cli) -> None:
    document = (bench.directory / "config.yaml").read_text(encoding="utf-8")
    (bench.directory / "config.yaml").write_text(
        document.replace("token_env: null", "token_env: NO_SUCH_TOKEN"), encoding="utf-8"
    )
    done = cli("rescore", "out", "--set", "judge.verdict={format: first_number}", "--set", "judge.scale=[100, 200]")
    assert (done.returncode, done.stdout) == (1, "")
    assert "0 / 10 / 0" in done.stderr
    assert "10 of 10 rows are not ok" in done.stderr
    kept = (bench.directory / "config.yaml").read_text(encoding="utf-8")
    assert "NO_SUCH_TOKEN" in kept and "first_number" in kept
    status = json.loads((bench.directory / "status.json").read_bytes())
    assert (status["state"], status["exit_code"], status["unparsed"]) == ("finished", 1, 10)
