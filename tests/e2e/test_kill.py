"""SIGKILL at any moment: what is there stays readable, nothing is there twice, nothing is lost in the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from subprocess import TimeoutExpired

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from fork_server import ForkedCommand

from runner.results import RunDirectory, open_snapshot

CONCURRENCY = 25


def ids_so_far(folder: Path) -> list[str]:
    """The custom_ids of all rows, parts and journal together; the parts must be readable on their own."""
    for path in folder.glob("results/*.parquet"):
        assert pq.read_table(path).num_rows
    if not folder.exists():
        return []
    with open_snapshot(RunDirectory(folder)) as (_, chunks):
        return [row["custom_id"] for chunk in chunks for row in chunk]


def rows_arrive(folder: Path, process: ForkedCommand) -> Callable[[], bool]:
    """Whether the process has begun a new segment of its journal, or ended."""
    before = set(folder.glob("journal/*"))
    return lambda: process.poll() is not None or bool(set(folder.glob("journal/*")) - before)


@pytest.mark.slow
def test_killed_again_and_again(cli, spawn, until, tmp_path, emulator, long, write_run):
    samples, kills = (5_000, 20) if long else (1_500, 6)
    service = emulator(seed=3, latency={"median": 0.1, "sigma": 0.4})
    limits = {"concurrency": CONCURRENCY}
    write_run(
        tmp_path,
        service.url,
        samples,
        service={"base_url": service.url, "token_env": None, "limits": limits},
        output={"directory": "out", "rows_per_part": 100},
    )
    out, rng, killed = tmp_path / "out", random.Random(1), 0
    seen: set[str] = set()
    for number in range(kills):
        process = spawn("run", "judge.yaml", "--quiet")
        if number % 3:
            until(rows_arrive(out, process))
        try:
            process.wait(rng.uniform(0, 1))
        except TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        now = ids_so_far(out)
        assert len(now) == len(set(now))
        assert seen <= set(now)
        seen = set(now)

    assert killed == kills and len(seen) > 100
    assert cli("run", "judge.yaml", timeout=120).returncode == 0
    assert sorted(ids_so_far(out)) == sorted(f"{n}-judge-o-0" for n in range(samples))
    assert service.stats()["dup_ok"] <= killed * CONCURRENCY
    assert not list(out.glob("journal/*"))

    expected = [(f"s{n}", n, "ok") for n in range(samples)]
    parts = f"{out}/results/*.parquet"
    query = f"select sample_id, ordinal, status from '{parts}' order by ordinal"
    frame = pl.read_parquet(parts).sort("ordinal").select("sample_id", "ordinal", "status")
    table = pq.read_table(out / "results").sort_by("ordinal").select(["sample_id", "ordinal", "status"])
    assert duckdb.sql(query).fetchall() == expected
    assert frame.rows() == expected
    assert list(zip(*table.to_pydict().values(), strict=True)) == expected
