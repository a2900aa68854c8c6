"""`rescore`: every stored answer is read again, nothing is asked, and the exit code is that of the new shares."""

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


def again(bench: Bench, *overrides: str, code: int = 0) -> list[dict[str, Any]]:
    """Rescore with some values changed; the rows then."""
    before = bench.asked
    config = load_config(bench.directory / "config.yaml", overrides, base=bench.folder)
    summary = rescore_run(config)
    assert (summary.exit_code, summary.asked, bench.asked) == (code, 0, before)
    run = RunDirectory(bench.directory).read_run()
    assert (run["exit_code"], run["counts"]["total"]) == (code, summary.total)
    return bench.rows


def test_another_format_is_read_and_kept_for_the_next_run(bench: Bench) -> None:
    before = bench.rows
    rows = again(bench, "judge.verdict=mt_bench_single")
    assert {row["rule"] for row in rows} == {"mt_bench_single.bracket"}
    assert [line["score"] for line in bench.samples] == [row["score"] for row in rows]
    assert again(bench) == rows
    rows = again(bench, "judge.verdict={pattern: '(\\d+)', kind: score, pick: last}")
    assert rows == before


def test_the_exit_code_is_that_of_the_new_shares(bench: Bench) -> None:
    low = sorted(row["score"] for row in bench.rows)[5]
    rows = again(bench, f"judge.scale=[1, {low}]", code=1)
    bad = sum(row["status"] == "unparsed" for row in rows)
    assert 0 < bad < 10
    again(bench, "output.tolerate=0.9")
    again(bench, "output.tolerate=0", code=1)
    again(bench, "judge.scale=null")


def test_the_same_reading_is_read_again_too(bench: Bench) -> None:
    """An answer may be read better by a newer version, which the configuration cannot tell."""
    place = RunDirectory(bench.directory)
    rows = bench.rows
    run = place.read_run()
    table = bench.directory / "samples.parquet"
    table.unlink()
    assert again(bench) == rows
    assert table.exists()
    assert place.read_run()["reading"] == run["reading"]


def test_rows_that_a_run_would_ask_again_count_as_they_are(tmp_path: Path) -> None:
    retry = {"attempts": 2, "base": 0.01, "ceiling": 0.02}
    with emulator(seed=4, faults={"malformed": 0.6}) as url:
        bench = Bench(tmp_path, url)
        bench.write(12)
        bench.config["online"] = {"retry": retry}
        bench.config["breaker"] = {"share": 1}
        assert bench.run().exit_code == 1
        failed = sum(row["status"] == "failed" for row in bench.rows)
        assert failed
        assert len(again(bench, code=1)) == 12
        assert RunDirectory(bench.directory).read_run()["counts"]["failed"] == failed
        again(bench, "output.tolerate=1")


def test_an_unfinished_run_stays_unfinished(bench: Bench) -> None:
    bench.write(12)
    before = bench.asked
    summary = rescore_run(load_config(bench.directory / "config.yaml", base=bench.folder))
    assert (summary.exit_code, summary.stop_reason, bench.asked) == (4, "incomplete", before)
    assert "2 requests have no row yet" in (summary.message or "")
    assert len(bench.samples) == 10
    assert bench.run().exit_code == 0
    assert len(bench.rows) == 12


def test_a_limit_holds(tmp_path: Path, url: str) -> None:
    bench = Bench(tmp_path, url)
    bench.write(10)
    assert bench.run(limit=4).exit_code == 0
    assert len(again(bench, "judge.verdict=last_number")) == 4


def test_what_is_asked_may_not_change(bench: Bench) -> None:
    rows = bench.rows
    config = load_config(bench.directory / "config.yaml", ["judge.user=Other {answer}"], base=bench.folder)
    with pytest.raises(RunDirectoryError, match="user was"):
        rescore_run(config)
    assert bench.rows == rows
    assert again(bench) == rows


def test_no_run(bench: Bench) -> None:
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
    said = json.loads((bench.directory / "status.json").read_bytes())
    assert (said["state"], said["exit_code"], said["unparsed"]) == ("finished", 1, 10)
