"""Write files atomically: a reader sees the old or the new content, and one of the two survives a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

SMALL_FILE_MAX_BYTES = 10_000_000
TEMPORARY_SUFFIX = ".tmp"  # of unfinished files; one that exists when a run starts is left over from a crash


def open_private(path: Path, mode: Literal["wb", "r+b", "ab"] = "wb") -> BufferedWriter:
    """Open a file of questions or answers to write to it; a new one is readable for its owner only."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600)

    opened = open(path, mode, opener=opener)  # noqa: SIM115 - the caller closes it
    return cast(BufferedWriter, opened)


def sync_directory(path: Path) -> None:
    """Flush a directory to disk, so that the names in it are durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(temporary: Path, final: Path) -> None:
    """Rename a finished, closed file to its final name, durably."""
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(final)
    sync_directory(final.parent)


def read_small(path: Path) -> bytes:
    """Return the content of a file that a person writes: a configuration, a prompt, a token.

    Raises:
        OSError: it cannot be read, or has more than 10 MB (EFBIG), as a device without an end has.
    """
    with path.open("rb") as file:
        content = file.read(SMALL_FILE_MAX_BYTES + 1)
    if len(content) > SMALL_FILE_MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically and durably."""
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    temporary.write_text(text, encoding="utf-8")
    put_in_place(temporary, path)


def write_json(path: Path, data: Mapping[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file atomically; if `durable`, also wait until it is on disk."""
    raw = msgspec.json.format(msgspec.json.encode(data), indent=2)
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    temporary.write_bytes(raw + b"\n")
    if durable:
        put_in_place(temporary, path)
    else:
        temporary.replace(path)
