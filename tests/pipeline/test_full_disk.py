"""A whole run whose disk fills up or turns read-only: it stops with 3, loses nothing and goes on when there is room."""

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
from runner.results import RunDirectory, part_paths, parts

FLYING = 4


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=2) as address:
        yield address


def fill(disk: Path) -> None:
    """Take the last byte: rows that went from the journal into parts may have made room."""
    with (disk / "ballast").open("ab", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def goes_on(bench: Bench, before: int, samples: int) -> None:
    """The next run asks what has no row yet, and nothing else was paid for but what was in flight."""
    summary = bench.run()
    assert (summary.exit_code, summary.counts.done) == (0, samples)
    assert [row["ordinal"] for row in bench.rows] == list(range(samples))
    assert len(bench.samples) == samples
    assert bench.asked - before <= samples + FLYING


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_journal_that_refuses(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bench = Bench(tmp_path, url)
    bench.write(40)
    before, real, taken = bench.asked, os.write, 0

    def write(handle: int, data: bytes) -> int:
        nonlocal taken
        if data.startswith(b'{"sample_id"'):
            taken += 1
            if taken > 10:
                raise OSError(number, os.strerror(number))
        return real(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        summary = bench.run()
    assert (summary.exit_code, summary.stop_reason, summary.counts.done) == (3, "output", 10)
    assert os.strerror(number) in str(summary.message)
    assert len(bench.rows) == 10
    goes_on(bench, before, 40)


def test_a_run_json_that_cannot_be_written(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, url)
    bench.write(5)
    before = bench.asked

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_run", full)
        summary = bench.run()
    assert (summary.exit_code, summary.stop_reason, bench.asked) == (3, "output", before)
    goes_on(bench, before, 5)


def test_parts_that_cannot_be_put_in_place(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, url)
    bench.write(40)
    before = bench.asked

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(parts, "put_in_place", full)
        summary = bench.run()
    assert (summary.exit_code, summary.stop_reason) == (3, "output")
    assert bench.rows == []
    goes_on(bench, before, 40)


def test_a_disk_that_really_is_full(tmp_path: Path, url: str) -> None:
    disk = tmp_path / "out"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        bench = Bench(tmp_path, url)
        bench.config["output"]["rows_per_part"] = 200
        bench.write(2500)
        with (disk / "ballast").open("wb") as ballast:
            ballast.write(bytes(200_000))
        before = bench.asked
        summary = bench.run()
        assert (summary.exit_code, summary.stop_reason) == (3, "output")
        assert 0 < summary.counts.done < 2500
        parts_then = part_paths(disk / "results")
        fill(disk)
        refused = bench.asked
        with pytest.raises(RunDirectoryError, match="No space left"):
            bench.run()
        assert bench.asked == refused
        assert parts_then.items() <= part_paths(disk / "results").items()
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        goes_on(bench, before, 2500)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
