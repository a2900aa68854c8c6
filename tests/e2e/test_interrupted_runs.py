"""Run directories that an earlier version left half-finished are taken up: nothing is lost and nothing sent twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

INTERRUPTED = Path(__file__).parents[1] / "data" / "interrupted"
REQUESTS = 20
# What the rows of these directories lack: they are of the time before these columns.
NEW_COLUMNS = {"served_model": None, "cached_tokens": None}


# The emulator knows none of the batches: a run need not look for minutes whether it shows them late.
NOT_LATE = {"runner.lanes.batch.result_files.LOOK_AGAIN_SECONDS": 0.0}


def restore(folder: Path, name: str, service: str) -> Path:
    """Copy an interrupted run directory and its dataset; put in the folder and the service's address."""
    shutil.copy(INTERRUPTED / "pairs.jsonl", folder)
    run = folder / name
    shutil.copytree(INTERRUPTED / name, run)
    for folder in ("results", "journal"):  # git, and other tools that copy, leave out an empty folder
        if not any((run / folder).glob("*")):
            shutil.rmtree(run / folder, ignore_errors=True)
    for path in run.rglob("*"):
        if path.suffix in (".json", ".yaml"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("@FOLDER@", str(folder)).replace("@SERVICE@", service), encoding="utf-8")
    return run


def rows(run: Path) -> dict[str, Any]:
    table = duckdb.sql(f"from read_parquet('{run}/results/*.parquet', hive_partitioning = false)")
    return {row["custom_id"]: row for row in table.arrow().read_all().to_pylist()}


@pytest.mark.parametrize(
    ("name", "answered", "flags", "exit_code"),
    [
        ("online", 8, (), 0),
        ("batch", 12, (), 3),  # this service does not know the jobs that were running: a person must decide
        ("batch", 12, ("--resubmit-unknown",), 0),
    ],
)
def test_a_run_that_an_earlier_version_left_is_resumed(
    name: str,
    answered: int,
    flags: tuple[str, ...],
    exit_code: int,
    tmp_path: Path,
    cli: Callable[..., Any],
    emulator: Callable[..., Any],
) -> None:
    service = emulator()
    run = restore(tmp_path, name, service.url)
    before = rows(run)
    finished = cli("run", run, "--quiet", *flags, constants=NOT_LATE)
    assert finished.returncode == exit_code, finished.stderr
    after = rows(run)
    assert len(after) == (REQUESTS if exit_code == 0 else answered)
    assert all(row["status"] == "ok" for row in after.values())
    assert {name: after[name] for name in before} == {name: {**row, **NEW_COLUMNS} for name, row in before.items()}
    served = [row["served_model"] for row in after.values() if row["served_model"] is not None]
    assert served == ["emulated:pai-judge"] * (len(after) - answered)
    assert len({tuple(pq.read_schema(path).names) for path in (run / "results").glob("*.parquet")}) == 1
    stats = service.stats()
    assert stats["distinct_ok"] == len(after) - answered
    assert stats["dup_ok"] == 0


@pytest.mark.parametrize(("name", "stored"), [("online", 8), ("batch", 12)])
def test_the_other_commands_read_what_an_earlier_version_left(
    name: str, stored: int, tmp_path: Path, cli: Callable[..., Any], plain_emulator: Any
) -> None:
    run = restore(tmp_path, name, plain_emulator.url)
    before = rows(run)
    shutil.copy(run / "config.yaml", tmp_path / "judge.yaml")
    for command in (("plan", "judge.yaml", "--run-dir", run), ("report", run), ("export", run, "rows.jsonl")):
        done = cli(*command)
        assert done.returncode == 0, done.stderr
    exported = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(exported) == stored
    assert "served_model" not in exported[0]
    report = json.loads((run / "report" / "summary.json").read_bytes())
    assert report["served"] == []
    assert report["counts"]["all"]["rows"] == stored
    assert cli("rescore", run).returncode == 4  # requests without a row are left to `run`
    after = rows(run)
    assert len(after) == stored
    assert all(after[custom_id] == {**row, **NEW_COLUMNS} for custom_id, row in before.items())
    for command in (("report", run), ("export", run, "rows.parquet"), ("export", run, "samples.csv", "--samples")):
        assert cli(*command).returncode == 0
    assert pq.read_table(tmp_path / "rows.parquet")["served_model"].null_count == stored


def test_while_a_run_directory_gets_new_columns_its_parts_can_be_read(
    tmp_path: Path, cli: Callable[..., Any], plain_emulator: Any
) -> None:
    run = restore(tmp_path, "batch", plain_emulator.url)
    before = rows(run)
    first, second = sorted((run / "results").glob("*.parquet"))
    table = pq.read_table(first)
    for column, kind in (("served_model", pa.string()), ("cached_tokens", pa.int32())):
        table = table.append_column(column, pa.nulls(len(table), kind))
    pq.write_table(table, first)  # as if the run had been killed before it rewrote the second part
    assert cli("report", run).returncode == 0
    assert cli("export", run, "rows.parquet").returncode == 0
    assert len(pq.read_table(tmp_path / "rows.parquet")) == len(before)
    assert cli("run", run, "--quiet", "--resubmit-unknown", constants=NOT_LATE).returncode == 0
    assert pq.read_schema(first).names == pq.read_schema(second).names
    after = rows(run)
    assert all(after[custom_id] == {**row, **NEW_COLUMNS} for custom_id, row in before.items())
