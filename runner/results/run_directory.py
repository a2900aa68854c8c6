"""The run directory: one process at a time holds it, and `run.json` says what it is."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from runner.core import sync_directory, write_json
from runner.errors import RunDirectoryError
from runner.results.journal import segment_paths
from runner.results.parts import part_paths

SCHEMA_VERSION = 1
GLANCES, GLANCE_S = 5, 0.02


class RunDirectory:
    """The places in a run directory, and its `run.json` as it was last written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results"
        self.journal = path / "journal"
        self.batches = path / "batches"
        self.config = path / "config.yaml"
        self.status = path / "status.json"
        self.log = path / "run.log"
        self.samples = path / "samples.parquet"
        self._drain = path / "drain"
        self._run = path / "run.json"

    def is_run(self) -> bool:
        """Whether something was run here: without run.json, part or journal a directory counts as new."""
        return self._run.exists() or self.has_rows() or self.has_shards()

    def has_rows(self) -> bool:
        """Whether any part or segment is there."""
        return (self.results.is_dir() and bool(part_paths(self.results))) or (
            self.journal.is_dir() and bool(segment_paths(self.journal))
        )

    def has_shards(self) -> bool:
        """Whether the state of any shard is there."""
        return self.batches.is_dir() and any(self.batches.glob("shard-*.json"))

    def ask_to_drain(self) -> None:
        """Ask the process that holds the directory, wherever it is, to drain."""
        self._drain.touch()

    def is_asked_to_drain(self) -> bool:
        """Whether somebody asked for that."""
        return self._drain.exists()

    def read_run(self) -> dict[str, Any]:
        """`run.json` as data; empty where there is none. Raises RunDirectoryError where it cannot be read."""
        try:
            data = msgspec.json.decode(self._run.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise RunDirectoryError(f"{self._run}: cannot be read ({error})") from error
        if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
            found = data.get("schema_version") if isinstance(data, dict) else type(data).__name__
            raise RunDirectoryError(
                f"{self._run}: schema_version {found!r} was written by another version of judge-runner; "
                f"this one reads {SCHEMA_VERSION}"
            )
        return data

    def write_run(self, data: Mapping[str, Any]) -> None:
        """Replace `run.json`, durably."""
        write_json(self._run, {"schema_version": SCHEMA_VERSION, **data})

    def read_schema(self) -> pa.Schema | None:
        """The schema of the parts and the journal as `run.json` holds it; None before the first run."""
        text = self.read_run().get("schema")
        return None if text is None else pa.ipc.read_schema(pa.py_buffer(b64decode(text)))

    def prepare(self) -> None:
        """Make the folders; raises RunDirectoryError where nothing can be written here."""
        try:
            for place in (self.path, self.results, self.journal):
                place.mkdir(parents=True, exist_ok=True)
                probe = place / f".probe-{os.getpid()}.tmp"
                probe.write_bytes(b"")
                probe.unlink(missing_ok=True)
                sync_directory(place.parent)
        except OSError as error:
            raise RunDirectoryError(f"{self.path}: the output place cannot be written: {error.strerror}") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory's lock; raises RunDirectoryError where another process holds it."""
        handle = _open_lock(self.path / "lock")
        try:
            if not _try_lock_patiently(handle):
                holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
                raise RunDirectoryError(
                    f"{self.path}: another judge-runner works in this run directory ({holder or 'unknown process'}); "
                    "wait for it, or give another directory with --run-dir"
                )
            with suppress(OSError):  # it is only a name for messages; a full disk is told where rows are written
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                self._drain.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)

    def is_held(self) -> bool:
        """Whether some process holds the lock just now."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _try_lock(handle, fcntl.LOCK_SH)
        finally:
            os.close(handle)


def schema_text(schema: pa.Schema) -> str:
    """A schema as `run.json` holds it: as Arrow writes it, in base64, as its types have no other whole spelling."""
    return b64encode(schema.serialize().to_pybytes()).decode()


def move_aside(path: Path) -> Path:
    """Give an existing run directory its sibling's name `DIR.<UTC time>` and return that."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{stamp}-{number}")
    path.rename(target)
    return target


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunDirectoryError(f"{path}: the output place cannot be written: {error.strerror}") from error


def _try_lock_patiently(handle: int) -> bool:
    """Try for a moment: who only looks whether a run is held (`is_held`) holds it too, for that moment."""
    for _ in range(GLANCES):
        if _try_lock(handle):
            return True
        time.sleep(GLANCE_S)
    return _try_lock(handle)


def _try_lock(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
