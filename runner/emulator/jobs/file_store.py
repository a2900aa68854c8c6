"""The service's files: bytes on disk that disappear with the process, and their metadata."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runner.emulator.api_errors import bad_request, not_found

MB = 1024 * 1024
RESULT_PURPOSE = "batch_output"  # of the files that jobs write


class Blob:
    """Bytes in an unlinked temporary file.

    The file has no name, so its space is freed with the last reference to it, however the process ends.
    """

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
        """Return at most `count` bytes starting at `offset`; concurrent readers are independent."""
        return os.pread(self._handle, count, offset)

    @contextmanager
    def mapped(self) -> Iterator[mmap.mmap]:
        """Map all bytes read-only. The blob must not be empty."""
        with mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ) as view:
            yield view


class StoredFile(msgspec.Struct, frozen=True):
    """One file that can be listed and downloaded.

    Attributes:
        created_at: a Unix time.
        ready_at: when it can be used, on the emulator's clock.
    """

    id: str
    name: str
    purpose: str
    created_at: int
    blob: Blob
    ready_at: float = 0.0


class FileStore:
    """All files of one emulator, oldest first.

    Args:
        capacity: bytes that all stored files together can have; only uploads are checked against it.
    """

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._files: dict[str, StoredFile] = {}
        self._downloads: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[StoredFile]:
        return iter(self._files.values())

    def get(self, key: str) -> StoredFile | None:
        """Return the file with this id, or None."""
        return self._files.get(key)

    def find(self, key: str) -> StoredFile:
        """Return the file with this id.

        Raises:
            ApiError: a 404, if there is none.
        """
        file = self.get(key)
        if file is None:
            raise not_found("file", key)
        return file

    def check_capacity(self, size: int) -> None:
        """Check that an upload of `size` bytes fits.

        Raises:
            ApiError: a 400, if it does not.
        """
        if sum(file.blob.size for file in self) + size > self._capacity:
            raise bad_request(
                f"All files together can have at most {self._capacity / MB:g} MB: delete some.",
                code="storage_quota_exceeded",
            )

    def add(self, key: str, name: str, purpose: str, blob: Blob, ready_at: float = 0.0) -> StoredFile:
        """Store a complete file under an id."""
        file = StoredFile(key, name, purpose, int(time.time()), blob, ready_at)
        self._files[key] = file
        return file

    def count_download(self, key: str) -> int:
        """Count a download of a file and return how many it has had."""
        self._downloads[key] += 1
        return self._downloads[key]

    def remove(self, key: str) -> None:
        """Remove a file; a job that reads it is not affected.

        Raises:
            ApiError: a 404, if there is no file with this id.
        """
        del self._files[self.find(key).id]


def half_of_lines(blob: Blob) -> int:
    """Return the size of the first half of a blob's lines, in bytes."""
    text = blob.read(0, blob.size)
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: len(lines) // 2]))
