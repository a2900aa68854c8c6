"""Write files atomically: a reader sees the old or the new content, and one of the two survives a power cut."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from runner.errors import RunDirectoryError

SMALL_FILE_MAX_BYTES = 10_000_000
TEMPORARY_SUFFIX = ".tmp"  # of unfinished files; one that exists when a run starts is left over from a crash

Content = TypeVar("Content")


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; raises OSError, also for a symbolic link, a folder or a device."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would block
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "expected a regular file", str(path))
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def read_json(path: Path, kind: type[Content], advice: str = "") -> Content:
    """Return the content of a JSON file.

    Args:
        path: the file.
        kind: the type of its content.
        advice: a sentence for a person whose file is damaged.

    Raises:
        FileNotFoundError: there is no such file.
        RunDirectoryError: it cannot be read or has another content; the message names the file and the key.
    """
    try:
        return msgspec.json.decode(read_file(path), type=kind)
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise damaged(path, error, advice) from error


def damaged(path: Path, error: object, advice: str = "") -> RunDirectoryError:
    """Return the error for a file of a run directory that cannot be used."""
    found = (isinstance(error, OSError) and error.strerror) or error
    return RunDirectoryError(f"{path}: cannot be read: {found}" + (f". {advice}" if advice else ""))


def open_private(path: Path, mode: Literal["wb", "r+b", "ab"] = "wb") -> BufferedWriter:
    """Open a file of questions or answers to write to it; a new one is readable for its owner only."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

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
    _write_new(temporary, text.encode())
    put_in_place(temporary, path)


def write_json(path: Path, data: Mapping[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file atomically; if `durable`, also wait until it is on disk."""
    raw = msgspec.json.format(msgspec.json.encode(data), indent=2)
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    _write_new(temporary, raw + b"\n")
    if durable:
        put_in_place(temporary, path)
    else:
        temporary.replace(path)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file of its own: what a symbolic link of that name leads to is never overwritten."""
    with open(path, "wb", opener=_no_link) as file:
        file.write(content)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
