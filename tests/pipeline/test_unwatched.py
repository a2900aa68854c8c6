"""Monitoring never affects a run: without it the rows are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from bench_run import Bench, emulator

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
