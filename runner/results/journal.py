"""The journal: rows that are not in a part yet, one JSON line each.

A segment is written by one process only and never appended to by a later one: what is left of it becomes a part at
the next start. So a torn line can stand only where a write was cut off, and costs that one row.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from runner.core import sync_directory
from runner.results.row_block import Columns, RowBlock
from runner.types import Row

_encoder = msgspec.json.Encoder()
_encode = _encoder.encode

_NAME = re.compile(r"segment-(\d{5,})\.jsonl")


def segment_path(journal: Path, number: int) -> Path:
    """Where segment `number` stands."""
    return journal / f"segment-{number:05d}.jsonl"


def segment_paths(journal: Path) -> dict[int, Path]:
    """The segments there are, by number, in their order."""
    found = ((_NAME.fullmatch(path.name), path) for path in journal.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class Segment:
    """One journal file that rows are appended to."""

    def __init__(self, path: Path, floats: Collection[str] = ()) -> None:
        self.path = path
        self._floats = floats
        self.rows = 0
        self._size = 0
        self._synced = 0
        self._torn = False
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, row: Row) -> int:
        """The same as `extend` for one row."""
        return self.extend([row])[0]

    def extend(self, rows: Sequence[Row]) -> list[int]:
        """Hand rows to the operating system, in one go, and return where each one's line begins.

        Raises OSError where they could not be written whole; what was written of them is taken back.
        """
        lines = [encode_row(row, self._floats) + b"\n" for row in rows]
        start = self._size
        self._write(b"".join(lines), len(rows))
        return list(accumulate(map(len, lines[:-1]), initial=start))

    def extend_block(self, block: RowBlock) -> None:
        """The same for a block of rows."""
        self._write(encode_block(block, self._floats), len(block))

    def _write(self, lines: bytes, count: int) -> None:
        if self._torn:
            raise OSError(errno.EIO, "the line that was cut off before could not be taken back", str(self.path))
        written = os.write(self._handle, lines)
        while written < len(lines):
            try:
                written += os.write(self._handle, lines[written:])
            except OSError:
                self._take_back(self._size)
                raise
        self._size += len(lines)
        self.rows += count

    def sync(self) -> None:
        """Bring what was appended to the disk (fsync), if anything was."""
        size = self._size
        if self._handle >= 0 and size != self._synced:
            os.fsync(self._handle)
            if not self._synced:
                sync_directory(self.path.parent)
            self._synced = size

    def close(self) -> None:
        """Sync and close the file."""
        if self._handle >= 0:
            try:
                self.sync()
            finally:
                os.close(self._handle)
                self._handle = -1

    def _take_back(self, size: int) -> None:
        try:
            os.ftruncate(self._handle, size)
        except OSError:
            self._torn = True


def encode_row(row: Row, floats: Collection[str] = ()) -> bytes:
    """One row as JSON; numbers that JSON lacks are spelled out in the columns named `floats`.

    A lone surrogate, which no file can hold, becomes the replacement character, in `row` too.
    """
    whole = {**row, **{name: _spelled(row.get(name)) for name in floats}} if floats else row
    try:
        return _encode(whole)
    except UnicodeEncodeError:
        row.update(writable(row))
        return _encode(writable(whole))


def encode_block(block: RowBlock, floats: Collection[str] = ()) -> bytes:
    """A block as lines of JSON, each as `encode_row` makes it; lone surrogates in it are replaced, too."""
    columns = block.columns
    try:
        return _lines(columns, floats)
    except UnicodeEncodeError:
        columns.update(writable(columns))
        return _lines(columns, floats)


def _lines(columns: Columns, floats: Collection[str]) -> bytes:
    whole = {**columns, **{name: _spelled(columns[name]) for name in floats if name in columns}}
    return _encoder.encode_lines(list(map(_line_type(tuple(whole)), *whole.values())))


@lru_cache(maxsize=16)
def _line_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """A line with these columns; made and encoded in half the time that a dictionary takes."""
    fields = [f"column{number}" for number in range(len(names))]
    return msgspec.defstruct("Line", fields, rename=dict(zip(fields, names, strict=True)), gc=False)


def _spelled(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    return value


def writable(value: Any) -> Any:
    """The same value with every lone surrogate in it, however deep, as the replacement character."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [writable(item) for item in value]
    return value


def read_segment(path: Path) -> Iterator[tuple[int, Row]]:
    """The whole rows of a segment with the offset of their lines; torn lines are passed over."""
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            row = decode_row(line)
            if row is not None:
                yield offset, row
            offset += len(line)


def read_at(path: Path, offset: int) -> Row:
    """The row whose line begins at `offset`."""
    with path.open("rb") as lines:
        lines.seek(offset)
        row = decode_row(lines.readline())
    if row is None:
        raise OSError(f"{path}: no whole row at byte {offset}")
    return row


def decode_row(line: bytes) -> Row | None:
    """One journal line as a row, or None where it is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return row if isinstance(row, dict) and "custom_id" in row else None
