"""The run directory: one holder at a time, known by run.json, refused where it cannot be written."""

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
def holder(place: RunDirectory) -> Any:
    """Another process that holds the run directory."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_it(place: RunDirectory, holder: Any) -> None:
    assert place.is_held()
    with pytest.raises(RunDirectoryError, match=f"another judge-runner .*process {holder.pid} on "), place.held():
        pass


def test_a_killed_process_holds_nothing(place: RunDirectory, holder: Any) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not place.is_held()
    with place.held():
        assert place.is_held()
    assert not place.is_held()


def test_the_lock_is_held_once_in_one_process_too(place: RunDirectory) -> None:
    with place.held(), pytest.raises(RunDirectoryError, match="another judge-runner"), place.held():
        pass


def test_a_glance_at_the_lock_keeps_nobody_out(place: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` holds it for a moment to find out; a run that starts just then waits for that moment."""
    import fcntl

    with place.held():
        pass
    glance = os.open(place.path / "lock", os.O_RDONLY)
    fcntl.flock(glance, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(glance, fcntl.LOCK_UN))
    with place.held():
        assert place.is_held()
    os.close(glance)


def test_nobody_holds_what_was_never_run(tmp_path: Path) -> None:
    assert not RunDirectory(tmp_path / "nowhere").is_held()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(RunDirectoryError, match=f"cannot be written: {os.strerror(number)}"):
        RunDirectory(tmp_path / "run").prepare()


def test_a_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        RunDirectory(tmp_path / "run").prepare()


def test_a_file_system_mounted_for_reading_is_refused(tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        with pytest.raises(RunDirectoryError, match="cannot be written: Read-only file system"):
            RunDirectory(tmp_path / "run").prepare()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_preparing_leaves_nothing_but_the_folders(place: RunDirectory) -> None:
    place.prepare()
    assert sorted(path.name for path in place.path.rglob("*")) == ["journal", "results"]
    assert not place.is_run()


@pytest.mark.parametrize("name", ["run.json", "results/part-00000.parquet", "journal/segment-00000.jsonl"])
def test_any_of_run_part_or_journal_makes_it_a_run(place: RunDirectory, name: str) -> None:
    (place.path / name).write_bytes(b"")
    assert place.is_run()


def test_other_files_do_not_make_it_a_run(place: RunDirectory) -> None:
    for name in ("config.yaml", "results/notes.parquet", "journal/x.jsonl", "status.json"):
        (place.path / name).write_bytes(b"")
    assert not place.is_run()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 99}', "\u0000"])
def test_a_run_json_that_is_not_ours_is_named(place: RunDirectory, text: str) -> None:
    (place.path / "run.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"run\.json: "):
        place.read_run()


def test_run_json_comes_back_with_its_schema(place: RunDirectory) -> None:
    assert place.read_run() == {}
    assert place.read_schema() is None
    schema = pa.schema([("d", pa.decimal128(7, 2)), ("t", pa.list_(pa.timestamp("ms", "Asia/Shanghai")))])
    place.write_run({"id": "x", "schema": schema_text(schema)})
    assert place.read_run()["id"] == "x"
    assert place.read_schema() == schema


def test_a_reader_sees_the_old_or_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_moving_aside_never_meets_an_earlier_one(tmp_path: Path) -> None:
    moved = []
    for number in range(3):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "n").write_text(str(number))
        moved.append(move_aside(tmp_path / "run"))
    assert len({*moved}) == 3
    assert [(path / "n").read_text() for path in moved] == ["0", "1", "2"]
    assert all(path.name.startswith("run.2") for path in moved)
