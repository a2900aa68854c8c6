"""Watch the file operations in a folder, and compute what SIGKILL or a power cut would leave of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

FOLDERS = ("results", "journal", "checksums")

# The content of each file of a run directory, by its relative name.
Snapshot = dict[str, bytes]


class ManualExecutor(Executor):
    """Replaces the result writer's thread; it works only on request, so that a history can be repeated exactly.

    Attributes:
        eager: True to work at once on everything that is submitted.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        self.eager = False
        self._pending: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._pending.append((future, lambda: work(*args, **kwargs)))
        if self.eager:
            self.catch_up()
        return future

    def catch_up(self, limit: int = 1000) -> None:
        """Do at most `limit` pieces of pending work, oldest first."""
        while self._pending and limit > 0:
            future, work = self._pending.pop(0)
            limit -= 1
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - as a real thread pool does
                future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future, _ in self._pending:
                future.cancel()
        self.catch_up()


class Disk:
    """Watches the file operations below a folder, and records what a power cut would leave.

    Attributes:
        root: the folder.
        torn: during half a write, the name of the file and the bytes that are written.

    Args:
        root: the folder.
        before: called before each operation with this object and the name of the operation.
    """

    def __init__(self, root: Path, before: Callable[[Disk, str], None]) -> None:
        self.root = root
        self.torn: tuple[str, bytes] | None = None
        self._before = before
        self._paths: dict[int, Path] = {}
        self._open_handles: list[int] = []  # so that inodes are not used again
        self._synced: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        for folder in FOLDERS:
            self._names[folder] = self._listing(folder)
            for name, inode in self._names[folder].items():
                self._synced[inode] = (root / folder / name).read_bytes()
                self._open_handles.append(os.open(root / folder / name, os.O_RDONLY))

    def snapshot(self) -> Snapshot:
        """Returns what SIGKILL would leave at this moment."""
        return {f"{f}/{name}": (self.root / f / name).read_bytes() for f in FOLDERS for name in self._listing(f)}

    def after_power_cut(self, *, results_lag: bool, journal_lag: bool, zeros: bool) -> Snapshot:
        """Returns what a power cut would leave: of each file the content at its last fsync.

        Args:
            results_lag: True if `results/` and `checksums/` have the names of their last fsync, False if they have the
                current names.
            journal_lag: the same for `journal/`.
            zeros: True if files have their current size, filled up with zeros.
        """
        left = {}
        for folder, lag in zip(FOLDERS, (results_lag, journal_lag, results_lag), strict=True):
            now = self._listing(folder)
            for name, inode in (self._names[folder] if lag else now).items():
                kept = self._synced.get(inode, b"")
                grown = (self.root / folder / name).stat().st_size - len(kept) if now.get(name) == inode else 0
                left[f"{folder}/{name}"] = kept + bytes(max(0, grown)) if zeros else kept
        return left

    def _listing(self, folder: str) -> dict[str, int]:
        """Return the names and inodes in a folder; a folder that is not there yet has none."""
        path = self.root / folder
        return {entry.name: entry.inode() for entry in os.scandir(path)} if path.is_dir() else {}

    def record_fsync(self, handle: int) -> None:
        """Record the content of a synced file, or the names in a synced folder."""
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            if path.name in self._names:
                self._names[path.name] = self._listing(path.name)
        elif path.exists():
            self._synced[os.fstat(handle).st_ino] = path.read_bytes()
            self._open_handles.append(os.dup(handle))

    def close(self) -> None:
        """Close the handles that kept inodes from being used again."""
        for handle in self._open_handles:
            REAL["close"](handle)

    def report(self, operation: str) -> None:
        """Call `before`."""
        self._before(self, operation)

    def report_half_write(self, handle: int, line: bytes) -> None:
        """Call `before` as if half of a line were written; an OSError of it makes the write end there."""
        name = str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(self.root))
        self.torn = (name, line[: len(line) // 2])
        try:
            self._before(self, "half a write")
        finally:
            self.torn = None


REAL = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate", "open", "replace", "unlink", "close")}
WRITER = {name: getattr(pq.ParquetWriter, name) for name in ("__init__", "write_table", "close")}


@contextmanager
def watched(root: Path, before: Callable[[Disk, str], None]) -> Iterator[None]:
    """Call `before` before every file operation on the results."""
    disk = Disk(root, before)

    def simple(name: str) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            disk.report(name)
            return REAL[name](*args, **kwargs)

        return operation

    def write(handle: int, line: bytes) -> int:
        disk.report("write")
        try:
            disk.report_half_write(handle, line)
        except OSError:
            line = line[: len(line) // 2]
        return int(REAL["write"](handle, line))

    def fsync(handle: int) -> None:
        disk.report("fsync")
        REAL["fsync"](handle)
        disk.record_fsync(handle)

    def parquet(name: str) -> Callable[..., Any]:
        def operation(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if name != "close" or writer.is_open:
                disk.report(f"parquet {name}")
            return WRITER[name](writer, *args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ftruncate", "open", "replace", "unlink"):
            patch.setattr(os, name, simple(name))
        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", fsync)
        for name in WRITER:
            patch.setattr(pq.ParquetWriter, name, parquet(name))
        try:
            yield
        finally:
            disk.close()


@contextmanager
def unwatched() -> Iterator[None]:
    """Use the real operations while a history is watched."""
    with pytest.MonkeyPatch.context() as patch:
        for name, operation in REAL.items():
            patch.setattr(os, name, operation)
        patch.setattr(os, "fsync", lambda handle: None)
        for name, operation in WRITER.items():
            patch.setattr(pq.ParquetWriter, name, operation)
        yield
