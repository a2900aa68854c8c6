"""The files of the service: bytes on disk that end with the process, and what is known of them."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runner.emulator.api_errors import bad_request, not_found

MB = 1024 * 1024


class Blob:
    """Bytes on disk that have no name there: gone with the last reference to them, however the process ends."""

    def __init__(self) -> None:
        self._handle, path = tempfile.mkstemp(prefix="emulator-")
        Path(path).unlink()
        weakref.finalize(self, os.close, self._handle)
        self.size = 0

    def append(self, data: bytes | bytearray) -> None:
        """Write at the end."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        self.size += len(data)

    def read(self, offset: int, count: int) -> bytes:
        """Return at most `count` bytes from `offset` on; readers do not disturb each other."""
        return os.pread(self._handle, count, offset)

    @contextmanager
    def mapped(self) -> Iterator[mmap.mmap]:
        """Give all bytes as a read-only map; there have to be some."""
        with mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ) as view:
            yield view


class StoredFile(msgspec.Struct, frozen=True):
    """One file that can be listed and downloaded; `created_at` is a Unix time."""

    id: str
    name: str
    purpose: str
    created_at: int
    blob: Blob


class FileStore:
    """All files of one emulator, oldest first.

    Args:
        room: bytes that uploads may fill together with all else that is stored.
    """

    def __init__(self, room: float) -> None:
        self._room = room
        self._files: dict[str, StoredFile] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[StoredFile]:
        return iter(self._files.values())

    def make_room(self, size: int) -> None:
        """Raise a 400 where an upload of this size would be one too many."""
        if sum(file.blob.size for file in self) + size > self._room:
            raise bad_request(
                f"All files together may have {self._room / MB:g} MB: delete some.", code="storage_quota_exceeded"
            )

    def add(self, key: str, name: str, purpose: str, blob: Blob) -> StoredFile:
        """Keep a whole file under an id."""
        self._files[key] = StoredFile(key, name, purpose, int(time.time()), blob)
        return self._files[key]

    def find(self, key: str) -> StoredFile:
        """Return a file; raises a 404 where there is none of this id."""
        if key not in self._files:
            raise not_found("file", key)
        return self._files[key]

    def remove(self, key: str) -> None:
        """Forget a file; what still reads it reads on. Raises a 404 where there is none of this id."""
        del self._files[self.find(key).id]
