"""Monitoring never affects a run: without it the rows are the same."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench_run import Bench, emulator

from runner.monitor import console, progress_display
from runner.pipeline import execute
from runner.types import Row

VOLATILE_COLUMNS = ("latency_s", "finished_at", "response_id")


async def no_updates(*_: Any) -> None:
    await anyio.sleep_forever()


def stable_columns(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in VOLATILE_COLUMNS}


def test_without_monitoring_the_rows_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulator(faults={"500": 0.2, "unparsable": 0.1}, seed=5) as url:
        watched = Bench(tmp_path, url)
        watched.write(24)
        watched.run()
        expected = [stable_columns(row) for row in watched.rows]
    with emulator(faults={"500": 0.2, "unparsable": 0.1}, seed=5) as url:
        (tmp_path / "unwatched").mkdir()
        unwatched = Bench(tmp_path / "unwatched", url)
        unwatched.write(24)
        monkeypatch.setattr(execute, "_update_every_second", no_updates)
        unwatched.run()
        assert [stable_columns(row) for row in unwatched.rows] == expected


def test_all_prepared_requests_are_sent(tmp_path: Path) -> None:
    """With fewer rows than are prepared at a time and more workers than rows, no worker ends while requests remain."""
    with emulator() as url:
        bench = Bench(tmp_path, url)
        bench.write(12)
        for number in range(5):
            summary = bench.run({"service.limits.concurrency": 8, "output.directory": f"out{number}"})
            assert (summary.exit_code, summary.asked) == (0, 12)


class Broken(io.StringIO):
    """The stderr of a program whose terminal is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error

    def isatty(self) -> bool:
        return isinstance(self._error, BrokenPipeError)  # a live bar, else plain lines


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(32, "gone"), OSError(28, "full"), ValueError("closed"), UnicodeEncodeError("gbk", "é", 0, 1, "")],
)
def test_a_program_whose_stderr_is_broken_runs_to_its_end(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    with emulator() as url:
        bench = Bench(tmp_path, url)
        bench.config["monitor"]["progress"] = True
        bench.write(12)
        monkeypatch.setattr(sys, "stderr", Broken(error))
        assert bench.run(quiet=False).counts.ok == 12


@pytest.mark.parametrize("closed", [True, False])
def test_without_a_stderr_nothing_is_shown(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    assert type(progress_display(True, quiet=False)) is console.NoDisplay
    console.write_line("nobody reads this")
