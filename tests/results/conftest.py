"""Fixtures: rows, and a run directory to write them into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.results import ResultWriter, RunDirectory, results_schema
from runner.types import Row


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    """A run directory with its folders."""
    directory = RunDirectory(tmp_path / "run")
    directory.prepare()
    return directory


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def write_rows(run_directory: RunDirectory, loop: asyncio.Runner) -> Callable[..., None]:
    """Write rows through a result writer and close it, so that they are in parts."""

    def write(
        rows: list[Row], *, first: int = 0, size: int = 1000, extra: tuple[pa.Field, ...] = (), **more: Any
    ) -> None:
        async def write_all() -> None:
            schema, owners = results_schema(extra), more.get("owners", {})
            writer = ResultWriter(run_directory.path, schema, first, size, "zstd", owners)
            for each in rows:
                writer.append(each)
                await writer.wait_for_capacity()
            await writer.close()

        loop.run(write_all())

    return write


@pytest.fixture
def read_rows(run_directory: RunDirectory) -> Callable[[], list[Row]]:
    """Read all rows of the closed parts."""

    def read() -> list[Row]:
        paths = sorted(run_directory.results.glob("*.parquet"))
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    return read
