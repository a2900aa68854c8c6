"""The run directory: its file names, its lock for one process at a time, and `run.json`."""

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
from typing import Any, Literal

import pyarrow as pa

from runner.core import TEMPORARY_SUFFIX, damaged, read_json, sync_directory, write_json
from runner.errors import RunDirectoryError
from runner.results.journal import segment_paths
from runner.results.parts import part_paths
from runner.run_file import run_file_problem

SCHEMA_VERSION = 1

_RUN_ADVICE = "Put back a copy of it, or start over with --fresh, which keeps this directory under another name"

# What judge-runner writes into a run directory itself; a link of another name is the user's own.
_FOLDERS = ("results", "journal", "batches", "report")
_OWN_NAMES = frozenset(
    (*_FOLDERS, "config.yaml", "run.json", "status.json", "budget.json", "run.log", "samples.parquet", "lock", "drain")
)

# What `flock` says on a file system without locks, such as Lustre without `-o flock` and NFS without a lock service.
_NO_LOCKS = frozenset((errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO))
_UNLOCKED = "without a lock (output.lock: none)"

# `is_held` of another process holds the lock for a moment: taking it is retried this often, this many seconds apart.
LOCK_RETRIES, LOCK_RETRY_SECONDS = 5, 0.02


class RunDirectory:
    """The paths in a run directory, and access to its `run.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results"
        self.journal = path / "journal"
        self.batches = path / "batches"
        self.config = path / "config.yaml"
        self.status = path / "status.json"
        self.budget = path / "budget.json"
        self.log = path / "run.log"
        self.samples = path / "samples.parquet"
        self._drain_request = path / "drain"
        self._run = path / "run.json"
        self._lock = path / "lock"
        self._lock_handle: int | None = None

    def is_run(self) -> bool:
        """Returns True if the directory holds a run: run.json, a part, a journal segment or the state of a shard.

        Raises RunDirectoryError if it cannot be read.
        """
        try:
            return self._run.exists() or self.has_rows() or self.has_shards()
        except OSError as error:
            raise damaged(self.path, error) from error

    def refuse_links(self) -> None:
        """Raise RunDirectoryError if a file or folder in the directory is a symbolic link: it leads to other files.

        The directory itself may be one.
        """
        try:
            entries = [entry for entry in os.scandir(self.path) if _is_own(entry.name)]
            for name in _FOLDERS:
                if (self.path / name).is_dir() and not (self.path / name).is_symlink():
                    entries += os.scandir(self.path / name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise damaged(self.path, error) from error
        for entry in entries:
            if entry.is_symlink():
                raise RunDirectoryError(
                    f"{entry.path}: a symbolic link, which may lead to files of others; expected what "
                    "judge-runner wrote here itself. Put the file or folder in its place, or use another directory "
                    "with --run-dir"
                )

    def has_rows(self) -> bool:
        """Returns True if there is a part or a journal segment."""
        return (self.results.is_dir() and bool(part_paths(self.results))) or (
            self.journal.is_dir() and bool(segment_paths(self.journal))
        )

    def has_shards(self) -> bool:
        """Returns True if there is the state of a shard."""
        return self.batches.is_dir() and any(self.batches.glob("shard-*.json"))

    def request_drain(self) -> None:
        """Request a drain of the process that holds the directory, on whatever machine it runs."""
        try:
            self._drain_request.touch()
        except OSError as error:
            raise RunDirectoryError(f"{self._drain_request}: cannot be written: {error.strerror}") from error

    def is_drain_requested(self) -> bool:
        """Returns True if another process requested a drain."""
        return self._drain_request.exists()

    def read_run(self) -> dict[str, Any]:
        """Returns the content of `run.json`; empty if there is none. Raises RunDirectoryError if it cannot be read."""
        self.refuse_links()
        try:
            data = read_json(self._run, Any)
        except FileNotFoundError:
            return {}
        if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
            found = data.get("schema_version") if isinstance(data, dict) else type(data).__name__
            raise RunDirectoryError(
                f"{self._run}: schema_version {found!r} was written by another version of judge-runner; "
                f"this one reads {SCHEMA_VERSION}"
            )
        if (problem := run_file_problem(data)) is not None:
            raise damaged(self._run, problem, _RUN_ADVICE)
        return data

    def write_run(self, data: Mapping[str, Any]) -> None:
        """Replace `run.json` atomically and durably; raises OSError, also if the directory is another's by now."""
        self.check_in_place()
        write_json(self._run, {"schema_version": SCHEMA_VERSION, **data})

    def read_schema(self) -> pa.Schema | None:
        """Returns the schema of the parts and the journal that `run.json` holds; None before the first run."""
        text = self.read_run().get("schema")
        try:
            return None if text is None else pa.ipc.read_schema(pa.py_buffer(b64decode(text, validate=True)))
        except (ValueError, OSError, pa.ArrowException) as error:
            raise self.damaged_run("schema", error) from error

    def damaged_run(self, key: str, problem: object) -> RunDirectoryError:
        """Return the error for a key of `run.json` whose value cannot be used."""
        text = str(problem)
        place = f"`$.{key}"
        where = text.replace("`$", place, 1) if "`$" in text else f"{text} - at {place}`"
        return damaged(self._run, where, _RUN_ADVICE)

    def prepare(self) -> None:
        """Create the folders; raises RunDirectoryError if nothing can be written there."""
        self.refuse_links()
        try:
            for folder in (self.path, self.results, self.journal):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".probe-{os.getpid()}.tmp"
                probe.write_bytes(b"")
                probe.unlink(missing_ok=True)
                sync_directory(folder.parent)
        except OSError as error:
            raise RunDirectoryError(f"{self.path}: the output directory cannot be written: {error.strerror}") from error

    @contextmanager
    def held(self, lock: Literal["file", "none"] = "file") -> Iterator[None]:
        """Hold the directory's lock.

        Args:
            lock: `none` takes no lock: that no other process writes here is the user's business.

        Raises:
            RunDirectoryError: another process holds it, or the file system has no locks.
        """
        self.refuse_links()
        handle = _open_lock(self._lock)
        try:
            if lock == "file" and not self._take(handle):
                holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
                raise RunDirectoryError(
                    f"{self.path}: another judge-runner uses this run directory ({holder or 'unknown process'}); "
                    "wait until it ends, or choose another directory with --run-dir"
                )
            with suppress(OSError):  # only for messages; a full disk is reported when rows are written
                os.ftruncate(handle, 0)
                how = "" if lock == "file" else f" {_UNLOCKED}"
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}{how}\n".encode(), 0)
                self._drain_request.unlink(missing_ok=True)
            self._lock_handle = handle
            yield
        finally:
            self._lock_handle = None
            os.close(handle)

    def check_in_place(self) -> None:
        """Check that the path still leads to the directory that this object holds, if it holds one.

        Raises:
            OSError: ESTALE: the directory was moved or deleted, or another one is in its place.
        """
        if self._lock_handle is None:
            return
        held = os.fstat(self._lock_handle)
        with suppress(FileNotFoundError, NotADirectoryError):
            found = self._lock.stat()
            if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino):
                return
        raise OSError(
            errno.ESTALE, "this run directory was moved, deleted or replaced while the run used it", str(self.path)
        )

    def _take(self, handle: int) -> bool:
        """Lock the file; returns False if another process holds it, and raises RunDirectoryError without locks."""
        try:
            return _lock_with_retries(handle)
        except OSError as error:
            raise RunDirectoryError(
                f"{self.path}: this file system has no file locks (flock: {error.strerror}), which keep two processes "
                "from writing here at once. Mount it with locks (Lustre: -o flock; NFS: a lock service), choose a "
                "directory on another one with --run-dir, or set output.lock: none and make sure yourself that only "
                "one process runs here"
            ) from error

    def is_held(self) -> bool | None:
        """Returns True if a process holds the lock at the moment; None if no one can know: there are no locks."""
        try:
            handle = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            if not _try_lock(handle, fcntl.LOCK_SH):
                return True
            return None if os.pread(handle, 200, 0).rstrip().endswith(_UNLOCKED.encode()) else False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise damaged(self._lock, error) from error
            return None
        finally:
            os.close(handle)


def schema_text(schema: pa.Schema) -> str:
    """Encode a schema for `run.json`: Arrow's serialized form in base64, the only text form that keeps every type."""
    return b64encode(schema.serialize().to_pybytes()).decode()


def move_aside(path: Path) -> Path:
    """Rename an existing run directory to `DIR.<UTC time>` and return the new path."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{stamp}-{number}")
    try:
        path.rename(target)
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be moved aside to {target}: {error.strerror}") from error
    return target


def _is_own(name: str) -> bool:
    """Return True for a name that judge-runner writes, or for the temporary file of one."""
    return (
        name in _OWN_NAMES
        or (name.startswith(".") and name.endswith(TEMPORARY_SUFFIX))
        or (name.removesuffix(TEMPORARY_SUFFIX) in _OWN_NAMES)
    )


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise RunDirectoryError(f"{path}: the output directory cannot be written: {error.strerror}") from error


def _lock_with_retries(handle: int) -> bool:
    for _ in range(LOCK_RETRIES):
        if _try_lock(handle):
            return True
        time.sleep(LOCK_RETRY_SECONDS)
    return _try_lock(handle)


def _try_lock(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
