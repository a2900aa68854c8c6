"""Rows, and a directory to write them into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import make

from runner.results import ResultWriter, RunDirectory, results_schema
from runner.types import Row


@pytest.fixture
def row() -> Callable[..., Row]:
    return make


@pytest.fixture
def place(tmp_path: Path) -> RunDirectory:
    """A run directory with its folders."""
    directory = RunDirectory(tmp_path / "run")
    directory.prepare()
    return directory


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def keep(place: RunDirectory, loop: asyncio.Runner) -> Callable[..., None]:
    """Write rows through a sink and close it: they stand in parts then."""

    def write(
        rows: list[Row], *, first: int = 0, size: int = 1000, extra: tuple[pa.Field, ...] = (), **more: Any
    ) -> None:
        async def through() -> None:
            sink = ResultWriter(place.path, results_schema(extra), first, size, "zstd", more.get("owners", {}))
            for each in rows:
                sink.append(each)
                await sink.wait_for_capacity()
            await sink.close()

        loop.run(through())

    return write


@pytest.fixture
def stored(place: RunDirectory) -> Callable[[], list[Row]]:
    """All rows of the closed parts."""

    def read() -> list[Row]:
        return [row for path in sorted(place.results.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]

    return read
