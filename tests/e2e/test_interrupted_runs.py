"""Run directories that an earlier version left half-finished are taken up: nothing is lost and nothing sent twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

INTERRUPTED = Path(__file__).parents[1] / "data" / "interrupted"
REQUESTS = 20


def restore(folder: Path, name: str, service: str) -> Path:
    """Copy an interrupted run directory and its dataset; put in the folder and the service's address."""
    shutil.copy(INTERRUPTED / "pairs.jsonl", folder)
    run = folder / name
    shutil.copytree(INTERRUPTED / name, run)
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
    finished = cli("run", run, "--quiet", *flags)
    assert finished.returncode == exit_code, finished.stderr
    after = rows(run)
    assert len(after) == (REQUESTS if exit_code == 0 else answered)
    assert all(row["status"] == "ok" for row in after.values())
    assert all(after[custom_id] == row for custom_id, row in before.items())
    stats = service.stats()
    assert stats["distinct_ok"] == len(after) - answered
    assert stats["dup_ok"] == 0
