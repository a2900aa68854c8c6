"""The sink: rows go into parts by the size asked for, and a disk that refuses loses none."""

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
from result_rows import make

from runner.errors import RunStopped
from runner.results import ResultWriter, RunDirectory, part_paths, parts, recover_results, results_schema, segment_paths
from runner.results.journal import Segment, segment_path
from runner.results.schema import to_batch
from runner.results.writer import SegmentCompactor

SCHEMA = results_schema(())


def new_sink(
    place: RunDirectory, first: int = 0, size: int = 100, owners: dict[str, int] | None = None
) -> ResultWriter:
    return ResultWriter(place.path, SCHEMA, first, size, "zstd", owners or {})


def names(place: RunDirectory) -> list[str]:
    return sorted(path.name for folder in (place.results, place.journal) for path in folder.iterdir())


def test_segments_become_parts_of_the_size_asked_for(place: RunDirectory, keep: Any) -> None:
    keep([make(n) for n in range(250)], first=4, size=100)
    assert names(place) == ["part-00004.parquet", "part-00005.parquet", "part-00006.parquet"]
    assert [pq.read_metadata(path).num_rows for path in part_paths(place.results).values()] == [100, 100, 50]


def test_nothing_appended_leaves_nothing(place: RunDirectory, keep: Any) -> None:
    keep([])
    assert names(place) == []


def test_a_part_keeps_the_order_and_the_content_of_its_rows(keep: Any, stored: Any) -> None:
    rows = [make(n, f"text {n}" * (n % 7), score=n / 3, contradiction=[None, True, False][n % 3]) for n in range(300)]
    keep(rows, size=300)
    every = dict.fromkeys(SCHEMA.names)
    assert stored() == [{**every, **row} for row in rows]


def test_replacing_rows_go_where_the_old_ones_stand(place: RunDirectory, keep: Any, stored: Any) -> None:
    keep([make(n, "old") for n in range(6)], size=3)
    keep([make(4, "new"), make(0, "new"), make(9, "fresh")], first=2, size=3, owners={"4-j-o-0": 1, "0-j-o-0": 0})
    assert [(row["ordinal"], row["response"]) for row in stored()] == [
        *((0, "new"), (1, "old"), (2, "old")),
        *((3, "old"), (4, "new"), (5, "old")),
        (9, "fresh"),
    ]
    assert names(place) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


def test_a_segment_of_replacing_rows_alone_makes_no_part(place: RunDirectory, keep: Any, stored: Any) -> None:
    keep([make(0, "old")])
    keep([make(0, "new")], first=1, owners={"0-j-o-0": 0})
    assert [row["response"] for row in stored()] == ["new"]
    assert names(place) == ["part-00000.parquet"]


def test_leaving_at_once_keeps_the_segments(place: RunDirectory, loop: asyncio.Runner, stored: Any) -> None:
    async def leave() -> None:
        sink = new_sink(place)
        for n in range(5):
            sink.append(make(n))
        sink.abort()

    loop.run(leave())
    assert names(place) == ["segment-00000.jsonl"]
    assert recover_results(place.path, SCHEMA, "zstd") == 1
    assert [row["ordinal"] for row in stored()] == [0, 1, 2, 3, 4]


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_journal_that_cannot_be_written_stops_the_run(
    place: RunDirectory, loop: asyncio.Runner, stored: Any, number: int
) -> None:
    async def run() -> None:
        sink = new_sink(place)
        sink.append(make(0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", refusing(number))
            with pytest.raises(RunStopped, match="can no longer be written") as caught:
                sink.append(make(1))
        assert (caught.value.reason, caught.value.exit_code) == ("output", 3)
        await sink.close()

    loop.run(run())
    assert [row["ordinal"] for row in stored()] == [0]


@pytest.mark.parametrize("step", ["write_table", "close", "__init__"])
def test_a_part_that_cannot_be_written_stops_the_run_and_is_made_by_the_next(
    place: RunDirectory, loop: asyncio.Runner, stored: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_MAX_ROWS", 2)

    async def run() -> None:
        sink = new_sink(place, size=150)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pq.ParquetWriter, step, refusing(errno.ENOSPC))
            for n in range(140):
                sink.append(make(n))
            with pytest.raises(RunStopped) as caught:
                await sink.close()
        assert (caught.value.reason, caught.value.exit_code) == ("output", 3)

    loop.run(run())
    assert [name for name in names(place) if not name.startswith(".")] == ["segment-00000.jsonl"]
    assert recover_results(place.path, SCHEMA, "zstd") == 1
    assert [row["ordinal"] for row in stored()] == list(range(140))


def test_who_waits_for_room_hears_of_a_part_that_failed(place: RunDirectory, loop: asyncio.Runner) -> None:
    async def run() -> None:
        sink = new_sink(place, size=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", refusing(errno.EIO))
            for n in range(2):
                sink.append(make(n))
            concurrent.futures.wait(sink._pending)
            with pytest.raises(RunStopped):
                await sink.wait_for_capacity()
        sink.append(make(2))
        await sink.close()

    loop.run(run())
    assert list(segment_paths(place.journal)) == [0]
    assert list(part_paths(place.results)) == [1]
    assert recover_results(place.path, SCHEMA, "zstd") == 2
    assert list(part_paths(place.results)) == [0, 1]


def test_a_sync_that_fails_stops_the_run(place: RunDirectory, loop: asyncio.Runner) -> None:
    async def run() -> None:
        sink = new_sink(place)
        sink.append(make(0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", refusing(errno.EIO))
            with pytest.raises(RunStopped):
                await sink.sync()
        sink.abort()

    loop.run(run())


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_really_is_full_loses_no_row(tiny: Path, loop: asyncio.Runner) -> None:
    place = RunDirectory(tiny / "run")
    place.prepare()
    taken: list[int] = []

    async def run() -> None:
        sink = new_sink(place, size=60)
        with pytest.raises(RunStopped) as caught:
            for n in range(2000):
                sink.append(make(n, os.urandom(2000).hex()))
                taken.append(n)
                await sink.wait_for_capacity()
        assert (caught.value.reason, caught.value.exit_code) == ("output", 3)
        with (tiny / "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4096))
        with pytest.raises(RunStopped):
            await sink.close()

    loop.run(run())
    with suppress(OSError):  # dropping a segment whose part stands may make just enough room
        recover_results(place.path, SCHEMA, "zstd")
    subprocess.run(["mount", "-o", "remount,size=16m", str(tiny)], check=True)
    recover_results(place.path, SCHEMA, "zstd")
    rows = [row for path in part_paths(place.results).values() for row in pq.read_table(path).to_pylist()]
    assert sorted(row["ordinal"] for row in rows) == taken
    assert list(segment_paths(place.journal)) == []


def test_a_worker_cancelled_while_it_waits_for_the_disk_loses_no_row(place: RunDirectory, stored: Any) -> None:
    """The work it waits for goes on without it."""

    async def through() -> None:
        sink = new_sink(place, size=4)
        held = threading.Event()
        sink._thread.submit(held.wait)
        for number in range(40):
            sink.append(make(number))
        waiting = [asyncio.create_task(sink.wait_for_capacity()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        held.set()
        await sink.close()

    asyncio.run(through())
    assert [row["ordinal"] for row in stored()] == list(range(40))
    assert not segment_paths(place.journal)


def test_a_segment_is_never_dropped_on_trust(place: RunDirectory, stored: Any) -> None:
    """A piece of work that got lost keeps the segment, and the next start makes its part."""
    segment = Segment(segment_path(place.journal, 0))
    for number in range(3):
        segment.append(make(number))
    segment.close()
    closing = SegmentCompactor(place.results, segment.path, 0, SCHEMA, "zstd")
    closing.add(pa.Table.from_batches([to_batch([make(0)], SCHEMA)]))
    with pytest.raises(OSError, match="3 rows, of which 1"):
        closing.finish(3)
    closing.abandon()
    assert recover_results(place.path, SCHEMA, "zstd") == 1
    assert [row["ordinal"] for row in stored()] == [0, 1, 2]
