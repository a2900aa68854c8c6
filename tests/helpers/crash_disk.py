"""A folder whose file operations are watched, and what of it SIGKILL or a power cut would leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

FOLDERS = ("results", "journal")

Picture = dict[str, bytes]
"""The files of a run directory by their relative names."""


class Slow(Executor):
    """The sink's thread, working only when it is told to; so histories can be played again exactly."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.eager = False
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: work(*args, **kwargs)))
        if self.eager:
            self.catch_up()
        return future

    def catch_up(self, most: int = 1000) -> None:
        """Do what waits, oldest first."""
        while self._waiting and most > 0:
            future, work = self._waiting.pop(0)
            most -= 1
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - as a real thread pool does
                future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future, _ in self._waiting:
                future.cancel()
        self.catch_up()


class Disk:
    """Watches the file operations below a folder, and knows what of it a power cut would leave."""

    def __init__(self, root: Path, before: Callable[[Disk, str], None]) -> None:
        self.root = root
        self.torn: tuple[str, bytes] | None = None
        self._before = before
        self._paths: dict[int, Path] = {}
        self._pins: list[int] = []
        self._synced: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        for folder in FOLDERS:
            self._names[folder] = self._listing(folder)
            for name, inode in self._names[folder].items():
                self._synced[inode] = (root / folder / name).read_bytes()
                self._pins.append(os.open(root / folder / name, os.O_RDONLY))

    def picture(self) -> Picture:
        """What SIGKILL would leave just now."""
        return {f"{f}/{name}": (self.root / f / name).read_bytes() for f in FOLDERS for name in self._listing(f)}

    def after_power_cut(self, *, results_lag: bool, journal_lag: bool, zeros: bool) -> Picture:
        """What a power cut would leave: what was fsynced of each file, and a folder's names as they are or were."""
        left = {}
        for folder, lag in zip(FOLDERS, (results_lag, journal_lag), strict=True):
            now = self._listing(folder)
            for name, inode in (self._names[folder] if lag else now).items():
                kept = self._synced.get(inode, b"")
                grown = (self.root / folder / name).stat().st_size - len(kept) if now.get(name) == inode else 0
                left[f"{folder}/{name}"] = kept + bytes(max(0, grown)) if zeros else kept
        return left

    def _listing(self, folder: str) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.root / folder)}

    def note_synced(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            if path.name in self._names:
                self._names[path.name] = self._listing(path.name)
        elif path.exists():
            self._synced[os.fstat(handle).st_ino] = path.read_bytes()
            self._pins.append(os.dup(handle))

    def close(self) -> None:
        """Let go of the inodes that were kept from being used again."""
        for pin in self._pins:
            REAL["close"](pin)

    def tell(self, operation: str) -> None:
        """Something is about to happen."""
        self._before(self, operation)

    def tell_of_half(self, handle: int, line: bytes) -> None:
        """A line is half written; an OSError says that no more than that was taken."""
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
    """Tell of every file operation that the results make, before it happens."""
    disk = Disk(root, before)

    def plain(name: str) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            disk.tell(name)
            return REAL[name](*args, **kwargs)

        return operation

    def write(handle: int, line: bytes) -> int:
        disk.tell("write")
        try:
            disk.tell_of_half(handle, line)
        except OSError:
            line = line[: len(line) // 2]
        return int(REAL["write"](handle, line))

    def fsync(handle: int) -> None:
        disk.tell("fsync")
        REAL["fsync"](handle)
        disk.note_synced(handle)

    def parquet(name: str) -> Callable[..., Any]:
        def operation(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if name != "close" or writer.is_open:
                disk.tell(f"parquet {name}")
            return WRITER[name](writer, *args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ftruncate", "open", "replace", "unlink"):
            patch.setattr(os, name, plain(name))
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
    """Let the laboratory use the real operations while a history is being watched."""
    with pytest.MonkeyPatch.context() as patch:
        for name, operation in REAL.items():
            patch.setattr(os, name, operation)
        patch.setattr(os, "fsync", lambda handle: None)
        for name, operation in WRITER.items():
            patch.setattr(pq.ParquetWriter, name, operation)
        yield
