"""Observers never steer: a run that nobody watches has the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from bench_run import Bench, emulator

from runner.pipeline import execute
from runner.types import Row

ITS_OWN = ("latency_s", "finished_at", "response_id")


async def nobody_looks(*_: Any) -> None:
    await anyio.sleep_forever()


def lasting(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ITS_OWN}


def test_without_anybody_watching_the_rows_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with emulator(faults={"500": 0.2, "unparsable": 0.1}, seed=5) as url:
        watched = Bench(tmp_path, url)
        watched.write(24)
        watched.run()
        seen = [lasting(row) for row in watched.rows]
    with emulator(faults={"500": 0.2, "unparsable": 0.1}, seed=5) as url:
        (tmp_path / "alone").mkdir()
        alone = Bench(tmp_path / "alone", url)
        alone.write(24)
        monkeypatch.setattr(execute, "_update_every_second", nobody_looks)
        alone.run()
        assert [lasting(row) for row in alone.rows] == seen


def test_rows_that_were_made_ready_are_all_asked(tmp_path: Path) -> None:
    """Fewer rows than are made ready at a time, more workers than rows: nobody may call it a day with some left."""
    with emulator() as url:
        bench = Bench(tmp_path, url)
        bench.write(12)
        for number in range(5):
            summary = bench.run({"service.limits.concurrency": 8, "output.directory": f"out{number}"})
            assert (summary.exit_code, summary.asked) == (0, 12)
