"""The journal: rows that are not in a part yet, one JSON line each.

A segment is written by one process only; a later process never appends to it, but turns it into a part when it starts.
So only the last write of a process can leave a torn line, which costs that one row. Each line ends with its own
checksum, so that a line that the disk has changed is not taken for a row. Earlier versions wrote none.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from runner.core import storable, sync_directory
from runner.results.row_block import Columns, RowBlock
from runner.types import Row

_encoder = msgspec.json.Encoder()
_encode = _encoder.encode

_NAME = re.compile(r"segment-(\d{5,})\.jsonl")
_CHECKSUM = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\n')
_CHECKSUM_BYTES = len(b',"crc32":"01234567"}\n')


def segment_path(journal: Path, number: int) -> Path:
    """Returns the path of segment `number`."""
    return journal / f"segment-{number:05d}.jsonl"


def segment_paths(journal: Path) -> dict[int, Path]:
    """Returns the segments by number, in ascending order; a copy of a run directory may lack the empty folder."""
    if not journal.is_dir():
        return {}
    found = ((_NAME.fullmatch(path.name), path) for path in journal.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class Segment:
    """One journal file that rows are appended to.

    Attributes:
        path: the file.
        rows: the number of rows appended so far.

    Args:
        path: the file, which must not exist yet.
        floats: columns that may hold a number that JSON lacks (see `encode_row`).
    """

    def __init__(self, path: Path, floats: Collection[str] = ()) -> None:
        self.path = path
        self._floats = floats
        self.rows = 0
        self._size = 0
        self._synced = 0
        self._torn = False
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, row: Row) -> int:
        """Append one row, as `extend` does; returns the byte offset of its line."""
        return self.extend([row])[0]

    def extend(self, rows: Sequence[Row]) -> list[int]:
        """Append rows in one write to the operating system.

        Returns:
            The byte offset of each row's line.

        Raises:
            OSError: the rows could not be written completely; a partial write is truncated.
        """
        lines = [with_checksum(encode_row(row, self._floats)) for row in rows]
        start = self._size
        self._write(b"".join(lines), len(rows))
        return list(accumulate(map(len, lines[:-1]), initial=start))

    def extend_block(self, block: RowBlock) -> None:
        """Append a block of rows in one write, as `extend` does."""
        self._write(encode_block(block, self._floats), len(block))

    def _write(self, lines: bytes, count: int) -> None:
        if self._torn:
            raise OSError(errno.EIO, "an earlier partial line could not be truncated", str(self.path))
        written = os.write(self._handle, lines)
        while written < len(lines):
            try:
                written += os.write(self._handle, lines[written:])
            except OSError:
                self._truncate(self._size)
                raise
        self._size += len(lines)
        self.rows += count

    def sync(self) -> None:
        """Sync what was appended since the last call to the disk (fsync), if anything."""
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

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._handle, size)
        except OSError:
            self._torn = True


def encode_row(row: Row, floats: Collection[str] = ()) -> bytes:
    """Encode one row as JSON.

    A lone surrogate, which UTF-8 cannot encode, is replaced by U+FFFD, in `row` too.

    Args:
        row: the row.
        floats: columns in which numbers that JSON lacks (infinities, NaN) are written as text.
    """
    encodable = {**row, **{name: _without_non_finite(row.get(name)) for name in floats}} if floats else row
    try:
        return _encode(encodable)
    except UnicodeEncodeError:
        row.update(replace_surrogates(row))
        return _encode(replace_surrogates(encodable))


def encode_block(block: RowBlock, floats: Collection[str] = ()) -> bytes:
    """Encode a block as lines of JSON, each as `encode_row` writes it; lone surrogates are replaced in `block` too."""
    columns = block.columns
    try:
        return _lines(columns, floats)
    except UnicodeEncodeError:
        columns.update(replace_surrogates(columns))
        return _lines(columns, floats)


def _lines(columns: Columns, floats: Collection[str]) -> bytes:
    encodable = {**columns, **{name: _without_non_finite(columns[name]) for name in floats if name in columns}}
    lines = map(_line_type(tuple(encodable)), *encodable.values())
    return b"".join([with_checksum(_encode(line)) for line in lines])


def with_checksum(encoded: bytes) -> bytes:
    """Return a JSON object as a line that ends with the CRC-32 of all before it, as the key `crc32`."""
    content = encoded[:-1]
    return b'%b,"crc32":"%08x"}\n' % (content, crc32(content))


@lru_cache(maxsize=16)
def _line_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """Returns a struct type for lines with these columns; building and encoding one takes half as long as a dict."""
    fields = [f"column{number}" for number in range(len(names))]
    return msgspec.defstruct("Line", fields, rename=dict(zip(fields, names, strict=True)), gc=False)


def _without_non_finite(value: Any) -> Any:
    """Returns the value with every infinity and NaN in it, at any depth, as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(item) for item in value]
    return value


def replace_surrogates(value: Any) -> Any:
    """Returns the value with every lone surrogate in it, at any depth, replaced by U+FFFD."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_surrogates(item) for item in value]
    return value


def read_segment(path: Path, on_damaged: Callable[[int, bytes], None] | None = None) -> Iterator[tuple[int, Row]]:
    """Yield the complete rows of a segment with the byte offsets of their lines.

    Args:
        path: the segment.
        on_damaged: called with the offset and the bytes of each other line, except for one that is cut off at the end:
            that is what a kill leaves.
    """
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            row = decode_row(line)
            if row is not None:
                yield offset, row
            elif on_damaged is not None and line.endswith(b"\n"):
                on_damaged(offset, line)
            offset += len(line)


def read_at(path: Path, offset: int) -> Row:
    """Returns the row whose line starts at byte `offset`; raises OSError if there is no complete row."""
    with path.open("rb") as lines:
        lines.seek(offset)
        row = decode_row(lines.readline())
    if row is None:
        raise OSError(f"{path}: no complete row at byte {offset}")
    return row


def decode_row(line: bytes) -> Row | None:
    """Decode one journal line; None if it is torn or damaged."""
    if not line.endswith(b"\n"):
        return None
    if (found := _CHECKSUM.fullmatch(line, max(0, len(line) - _CHECKSUM_BYTES))) is not None:
        content = line[:-_CHECKSUM_BYTES]
        if crc32(content) != int(found[1], 16):
            return None
        line = content + b"}"
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return row if isinstance(row, dict) and "custom_id" in row else None
