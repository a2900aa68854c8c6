"""The run directory: its lock, its run.json, and the errors if it cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from runner.core import write_json, write_text
from runner.errors import RunDirectoryError
from runner.results import RunDirectory, move_aside, schema_text

HOLDER = """
import sys
from pathlib import Path
from runner.results.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(run_directory: RunDirectory) -> Any:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run_directory.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_the_error_names_the_first(run_directory: RunDirectory, holder: Any) -> None:
    assert run_directory.is_held()
    with (
        pytest.raises(RunDirectoryError, match=f"another judge-runner .*process {holder.pid} on "),
        run_directory.held(),
    ):
        pass


def test_a_killed_process_releases_the_lock(run_directory: RunDirectory, holder: Any) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not run_directory.is_held()
    with run_directory.held():
        assert run_directory.is_held()
    assert not run_directory.is_held()


def test_the_lock_cannot_be_held_twice_in_one_process(run_directory: RunDirectory) -> None:
    with run_directory.held(), pytest.raises(RunDirectoryError, match="another judge-runner"), run_directory.held():
        pass


def test_is_held_of_another_process_does_not_refuse_a_run(
    run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` holds the lock for a moment to check it; a run that starts at that moment retries."""
    import fcntl

    with run_directory.held():
        pass
    shared_lock = os.open(run_directory.path / "lock", os.O_RDONLY)
    fcntl.flock(shared_lock, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(shared_lock, fcntl.LOCK_UN))
    with run_directory.held():
        assert run_directory.is_held()
    os.close(shared_lock)


def test_a_directory_without_a_run_is_not_held(tmp_path: Path) -> None:
    assert not RunDirectory(tmp_path / "nowhere").is_held()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_directory_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(RunDirectoryError, match=f"cannot be written: {os.strerror(number)}"):
        RunDirectory(tmp_path / "run").prepare()


def test_a_file_instead_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        RunDirectory(tmp_path / "run").prepare()


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        with pytest.raises(RunDirectoryError, match="cannot be written: Read-only file system"):
            RunDirectory(tmp_path / "run").prepare()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_prepare_creates_only_the_folders(run_directory: RunDirectory) -> None:
    run_directory.prepare()
    assert sorted(path.name for path in run_directory.path.rglob("*")) == ["journal", "results"]
    assert not run_directory.is_run()


@pytest.mark.parametrize("name", ["run.json", "results/part-00000.parquet", "journal/segment-00000.jsonl"])
def test_run_json_a_part_or_a_segment_makes_it_a_run(run_directory: RunDirectory, name: str) -> None:
    (run_directory.path / name).write_bytes(b"")
    assert run_directory.is_run()


def test_other_files_do_not_make_it_a_run(run_directory: RunDirectory) -> None:
    for name in ("config.yaml", "results/notes.parquet", "journal/x.jsonl", "status.json"):
        (run_directory.path / name).write_bytes(b"")
    assert not run_directory.is_run()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 99}', "\u0000"])
def test_an_invalid_run_json_is_reported(run_directory: RunDirectory, text: str) -> None:
    (run_directory.path / "run.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"run\.json: "):
        run_directory.read_run()


def test_run_json_is_read_back_with_its_schema(run_directory: RunDirectory) -> None:
    assert run_directory.read_run() == {}
    assert run_directory.read_schema() is None
    schema = pa.schema([("d", pa.decimal128(7, 2)), ("t", pa.list_(pa.timestamp("ms", "Asia/Shanghai")))])
    run_directory.write_run({"id": "x", "schema": schema_text(schema)})
    assert run_directory.read_run()["id"] == "x"
    assert run_directory.read_schema() == schema


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"n": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        for durable in (True, False):
            with pytest.raises(OSError, match="broken"):
                write_json(path, {"n": 2}, durable=durable)
    assert msgspec.json.decode(path.read_bytes()) == {"n": 1}
    write_text(path, "汉字")
    assert path.read_text(encoding="utf-8") == "汉字"


def test_moving_aside_never_overwrites_an_earlier_run(tmp_path: Path) -> None:
    moved = []
    for number in range(3):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "n").write_text(str(number))
        moved.append(move_aside(tmp_path / "run"))
    assert len({*moved}) == 3
    assert [(path / "n").read_text() for path in moved] == ["0", "1", "2"]
    assert all(path.name.startswith("run.2") for path in moved)
