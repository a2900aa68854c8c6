"""A run whose disk becomes full or read-only stops with exit code 3, loses nothing, and can be resumed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bench_run import Bench, emulator

from runner.errors import RunDirectoryError
from runner.results import RunDirectory, checksums, part_paths

IN_FLIGHT = 4


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=2) as address:
        yield address


def fill(disk: Path) -> None:
    """Fill the disk completely: moving rows from the journal into parts may have freed space."""
    with (disk / "filler").open("ab", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))


def check_resume(bench: Bench, before: int, samples: int) -> None:
    """The next run sends the requests without a row, and only those that were in flight were sent twice."""
    summary = bench.run()
    assert (summary.exit_code, summary.counts.done) == (0, samples)
    assert [row["ordinal"] for row in bench.rows] == list(range(samples))
    assert len(bench.samples) == samples
    assert bench.request_count - before <= samples + IN_FLIGHT


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_journal_that_cannot_be_written(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bench = Bench(tmp_path, url)
    bench.write(40)
    before, real, writes = bench.request_count, os.write, 0

    def write(handle: int, data: bytes) -> int:
        nonlocal writes
        if data.startswith(b'{"sample_id"'):
            writes += 1
            if writes > 10:
                raise OSError(number, os.strerror(number))
        return real(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        summary = bench.run()
    assert (summary.exit_code, summary.stop_reason, summary.counts.done) == (3, "output", 10)
    assert os.strerror(number) in str(summary.message)
    assert len(bench.rows) == 10
    check_resume(bench, before, 40)


def test_a_run_json_that_cannot_be_written(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, url)
    bench.write(5)
    before = bench.request_count

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_run", full)
        summary = bench.run()
    assert (summary.exit_code, summary.stop_reason, bench.request_count) == (3, "output", before)
    check_resume(bench, before, 5)


def test_parts_that_cannot_be_put_in_place(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, url)
    bench.write(40)
    before = bench.request_count

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checksums, "put_in_place", full)
        summary = bench.run()
    assert (summary.exit_code, summary.stop_reason) == (3, "output")
    assert bench.rows == []
    check_resume(bench, before, 40)


def test_a_full_file_system(tmp_path: Path, url: str) -> None:
    disk = tmp_path / "out"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        bench = Bench(tmp_path, url)
        bench.config["output"]["rows_per_part"] = 200
        bench.write(2500)
        with (disk / "filler").open("wb") as filler:
            filler.write(bytes(200_000))
        before = bench.request_count
        summary = bench.run()
        assert (summary.exit_code, summary.stop_reason) == (3, "output")
        assert 0 < summary.counts.done < 2500
        parts_then = part_paths(disk / "results")
        fill(disk)
        requests_then = bench.request_count
        with pytest.raises(RunDirectoryError, match="No space left"):
            bench.run()
        assert bench.request_count == requests_then
        assert parts_then.items() <= part_paths(disk / "results").items()
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        check_resume(bench, before, 2500)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
