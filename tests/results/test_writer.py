"""The result writer: rows go into parts of the configured size, and a disk that fails loses none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import stored_row

from runner.errors import RunStopped
from runner.results import ResultWriter, RunDirectory, part_paths, parts, recover_results, results_schema, segment_paths
from runner.results.journal import Segment, segment_path
from runner.results.schema import to_batch
from runner.results.writer import SegmentCompactor

SCHEMA = results_schema(())


def new_writer(
    run_directory: RunDirectory, first: int = 0, size: int = 100, owners: dict[str, int] | None = None
) -> ResultWriter:
    return ResultWriter(run_directory.path, SCHEMA, first, size, "zstd", owners or {})


def names(run_directory: RunDirectory) -> list[str]:
    return sorted(path.name for folder in (run_directory.results, run_directory.journal) for path in folder.iterdir())


def test_segments_become_parts_of_the_configured_size(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(n) for n in range(250)], first=4, size=100)
    assert names(run_directory) == ["part-00004.parquet", "part-00005.parquet", "part-00006.parquet"]
    assert [pq.read_metadata(path).num_rows for path in part_paths(run_directory.results).values()] == [100, 100, 50]


def test_without_rows_no_file_remains(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([])
    assert names(run_directory) == []


def test_a_part_keeps_order_and_content_of_its_rows(write_rows: Any, read_rows: Any) -> None:
    rows = [
        stored_row(n, f"text {n}" * (n % 7), score=n / 3, contradiction=[None, True, False][n % 3]) for n in range(300)
    ]
    write_rows(rows, size=300)
    every = dict.fromkeys(SCHEMA.names)
    assert read_rows() == [{**every, **row} for row in rows]


def test_replacing_rows_go_into_the_parts_of_the_old_rows(
    run_directory: RunDirectory, write_rows: Any, read_rows: Any
) -> None:
    write_rows([stored_row(n, "old") for n in range(6)], size=3)
    write_rows(
        [stored_row(4, "new"), stored_row(0, "new"), stored_row(9, "added")],
        first=2,
        size=3,
        owners={"4-j-o-0": 1, "0-j-o-0": 0},
    )
    assert [(row["ordinal"], row["response"]) for row in read_rows()] == [
        *((0, "new"), (1, "old"), (2, "old")),
        *((3, "old"), (4, "new"), (5, "old")),
        (9, "added"),
    ]
    assert names(run_directory) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


def test_a_segment_with_only_replacing_rows_makes_no_part(
    run_directory: RunDirectory, write_rows: Any, read_rows: Any
) -> None:
    write_rows([stored_row(0, "old")])
    write_rows([stored_row(0, "new")], first=1, owners={"0-j-o-0": 0})
    assert [row["response"] for row in read_rows()] == ["new"]
    assert names(run_directory) == ["part-00000.parquet"]


def test_abort_keeps_the_segments(run_directory: RunDirectory, loop: asyncio.Runner, read_rows: Any) -> None:
    async def abort() -> None:
        writer = new_writer(run_directory)
        for n in range(5):
            writer.append(stored_row(n))
        writer.abort()

    loop.run(abort())
    assert names(run_directory) == ["segment-00000.jsonl"]
    assert recover_results(run_directory.path, SCHEMA, "zstd") == 1
    assert [row["ordinal"] for row in read_rows()] == [0, 1, 2, 3, 4]


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_journal_that_cannot_be_written_stops_the_run(
    run_directory: RunDirectory, loop: asyncio.Runner, read_rows: Any, number: int
) -> None:
    async def run() -> None:
        writer = new_writer(run_directory)
        writer.append(stored_row(0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", refusing(number))
            with pytest.raises(RunStopped, match="can no longer be written") as caught:
                writer.append(stored_row(1))
        assert (caught.value.reason, caught.value.exit_code) == ("output", 3)
        await writer.close()

    loop.run(run())
    assert [row["ordinal"] for row in read_rows()] == [0]


@pytest.mark.parametrize("step", ["write_table", "close", "__init__"])
def test_a_part_that_cannot_be_written_stops_the_run_and_recovery_makes_it(
    run_directory: RunDirectory, loop: asyncio.Runner, read_rows: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_MAX_ROWS", 2)

    async def run() -> None:
        writer = new_writer(run_directory, size=150)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pq.ParquetWriter, step, refusing(errno.ENOSPC))
            for n in range(140):
                writer.append(stored_row(n))
            with pytest.raises(RunStopped) as caught:
                await writer.close()
        assert (caught.value.reason, caught.value.exit_code) == ("output", 3)

    loop.run(run())
    assert [name for name in names(run_directory) if not name.startswith(".")] == ["segment-00000.jsonl"]
    assert recover_results(run_directory.path, SCHEMA, "zstd") == 1
    assert [row["ordinal"] for row in read_rows()] == list(range(140))


def test_waiting_for_capacity_raises_if_a_part_failed(run_directory: RunDirectory, loop: asyncio.Runner) -> None:
    async def run() -> None:
        writer = new_writer(run_directory, size=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", refusing(errno.EIO))
            for n in range(2):
                writer.append(stored_row(n))
            concurrent.futures.wait(writer._pending)
            with pytest.raises(RunStopped):
                await writer.wait_for_capacity()
        writer.append(stored_row(2))
        await writer.close()

    loop.run(run())
    assert list(segment_paths(run_directory.journal)) == [0]
    assert list(part_paths(run_directory.results)) == [1]
    assert recover_results(run_directory.path, SCHEMA, "zstd") == 2
    assert list(part_paths(run_directory.results)) == [0, 1]


def test_a_sync_that_fails_stops_the_run(run_directory: RunDirectory, loop: asyncio.Runner) -> None:
    async def run() -> None:
        writer = new_writer(run_directory)
        writer.append(stored_row(0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", refusing(errno.EIO))
            with pytest.raises(RunStopped):
                await writer.sync()
        writer.abort()

    loop.run(run())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_file_system_loses_no_row(small_disk: Path, loop: asyncio.Runner) -> None:
    run_directory = RunDirectory(small_disk / "run")
    run_directory.prepare()
    appended: list[int] = []

    async def run() -> None:
        writer = new_writer(run_directory, size=60)
        with pytest.raises(RunStopped) as caught:
            for n in range(2000):
                writer.append(stored_row(n, os.urandom(2000).hex()))
                appended.append(n)
                await writer.wait_for_capacity()
        assert (caught.value.reason, caught.value.exit_code) == ("output", 3)
        with (small_disk / "filler").open("ab", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(RunStopped):
            await writer.close()

    loop.run(run())
    with suppress(OSError):  # deleting a segment whose part exists may free just enough space
        recover_results(run_directory.path, SCHEMA, "zstd")
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    recover_results(run_directory.path, SCHEMA, "zstd")
    rows = [row for path in part_paths(run_directory.results).values() for row in pq.read_table(path).to_pylist()]
    assert sorted(row["ordinal"] for row in rows) == appended
    assert list(segment_paths(run_directory.journal)) == []


def test_cancelling_a_waiting_worker_loses_no_row(run_directory: RunDirectory, read_rows: Any) -> None:
    """The submitted work continues without the worker."""

    async def write_and_cancel() -> None:
        writer = new_writer(run_directory, size=4)
        blocker = threading.Event()
        writer._thread.submit(blocker.wait)
        for number in range(40):
            writer.append(stored_row(number))
        waiting = [asyncio.create_task(writer.wait_for_capacity()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        blocker.set()
        await writer.close()

    asyncio.run(write_and_cancel())
    assert [row["ordinal"] for row in read_rows()] == list(range(40))
    assert not segment_paths(run_directory.journal)


def test_a_segment_is_deleted_only_if_all_its_rows_were_compacted(run_directory: RunDirectory, read_rows: Any) -> None:
    """If rows are missing, the segment stays, and recovery makes its part."""
    segment = Segment(segment_path(run_directory.journal, 0))
    for number in range(3):
        segment.append(stored_row(number))
    segment.close()
    compactor = SegmentCompactor(run_directory.results, segment.path, 0, SCHEMA, "zstd")
    compactor.add(pa.Table.from_batches([to_batch([stored_row(0)], SCHEMA)]))
    with pytest.raises(OSError, match="3 rows, of which 1"):
        compactor.finish(3)
    compactor.abandon()
    assert recover_results(run_directory.path, SCHEMA, "zstd") == 1
    assert [row["ordinal"] for row in read_rows()] == [0, 1, 2]
