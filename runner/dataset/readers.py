"""What all readers of files share, and those of JSON lines and Parquet. Rows that are not wanted are not parsed.

Every reader takes the file, the ordinal of its first row, the ordinal to stop before, and a function that returns the
next wanted ordinal. It returns the ordinal after the last row that it passed.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from runner.dataset.data_file import BUFFER_BYTES, DataFile, open_bytes
from runner.dataset.decode import BOM
from runner.run_file import Count
from runner.types import Unreadable
from runner.values import FIELD, as_rows, exact_values, is_as_shown, shown_values

READ_ERRORS = (OSError, EOFError, UnicodeError, csv.Error, pa.ArrowException)
"""The errors of reading a file that vanished, is truncated, or has other content than its name says."""

NextWanted = Callable[[int], int]
"""Takes an ordinal and returns the smallest wanted ordinal that is not below it."""

SEEK_POINT_SPACING_BYTES = 64_000_000  # from one seek point to the next

_BATCH_ROWS = 256
_BATCH_BYTES = 4_000_000
_MAX_FIRST_LINE = 256_000_000


class RawRow(msgspec.Struct, frozen=True, gc=False):
    """A row as read, before it is decoded.

    Attributes:
        ordinal: its position in the whole dataset, from 0.
        file: the file's name relative to the dataset's root.
        number: its line (jsonl, csv, tsv) or row (json, parquet) in the file, from 1.
        payload: JSON text as bytes, or the columns by name, or `Broken`.
        size: its bytes, roughly.
        exact: Parquet: the columns that are kept and that `payload` shows in another form, in their exact form.
    """

    ordinal: int
    file: str
    number: int
    payload: Any
    size: int
    exact: Mapping[str, Any] | None = None


class SeekPoint(msgspec.Struct, frozen=True, array_like=True):
    """A place in a file of lines at which reading can start.

    Attributes:
        row: the number of rows before it.
        line: the number of lines before it.
        offset: the number of bytes before it.
    """

    row: Count
    line: Count
    offset: Count


Reader = Generator[RawRow, None, int]


def line_blocks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines of a text in blocks, without a byte order mark."""
    lines = [stream.readline(_MAX_FIRST_LINE)]
    if len(lines[0]) == _MAX_FIRST_LINE:
        raise OSError(f"the first line is longer than {_MAX_FIRST_LINE} bytes; is it JSON lines?")
    lines = [*filter(None, lines), *stream.readlines(BUFFER_BYTES)]
    if lines and lines[0].startswith(BOM):
        lines[0] = lines[0].removeprefix(BOM) or b"\n"
    while lines:
        yield lines
        lines = stream.readlines(BUFFER_BYTES)


def count_rows(lines: list[bytes]) -> int:
    """Count the lines that are not blank."""
    return len(lines) - sum(map(bytes.isspace, lines))


def count_lines(file: DataFile, raw: BinaryIO) -> tuple[int, tuple[SeekPoint, ...]]:
    """Count the rows of JSON lines and collect seek points; a compressed file has none."""
    rows, lines, marks, upcoming = 0, 0, list[SeekPoint](), SEEK_POINT_SPACING_BYTES
    with open_bytes(file, raw) as stream:
        for block in line_blocks(stream):
            rows += count_rows(block)
            lines += len(block)
            if file.compression is None and (offset := stream.tell()) >= upcoming:
                marks.append(SeekPoint(rows, lines, offset))
                upcoming = offset + SEEK_POINT_SPACING_BYTES
    return rows, tuple(marks)


def read_lines(
    file: DataFile, start: int, end: int, next_wanted: NextWanted, marks: Sequence[SeekPoint] = ()
) -> Reader:
    """Read JSON lines. A block without a wanted row is only counted; seek points skip whole stretches."""
    ordinal, number, wanted = start, 0, next_wanted(start)
    with open_bytes(file) as stream:
        for lines in line_blocks(stream):
            if wanted >= end:
                break
            if wanted >= ordinal + len(lines):
                ordinal += count_rows(lines)
                number += len(lines)
                mark = _last(marks, wanted - start)
                if mark is not None and start + mark.row > ordinal:
                    stream.seek(mark.offset)
                    ordinal, number = start + mark.row, mark.line
                continue
            for line in lines:
                number += 1
                if line.isspace():
                    continue
                if ordinal == wanted:
                    if ordinal >= end:
                        break
                    yield RawRow(ordinal, file.name, number, line, len(line))
                    wanted = next_wanted(ordinal + 1)
                ordinal += 1
    return ordinal


def _last(marks: Sequence[SeekPoint], row: int) -> SeekPoint | None:
    """Return the last seek point that is not after the row."""
    index = bisect_right(marks, row, key=lambda mark: mark.row)
    return marks[index - 1] if index else None


def read_parquet(
    file: DataFile,
    start: int,
    end: int,
    next_wanted: NextWanted,
    columns: Sequence[str] | None = None,
    exact: Collection[str] = (),
) -> Reader:
    """Read Parquet a small batch at a time, only the named columns; whole row groups are skipped."""
    ordinal = start
    with file.parquet(buffer_size=BUFFER_BYTES, pre_buffer=False) as table:
        has = set(table.schema_arrow.names)
        names = None if columns is None else [name for name in columns if name in has]
        for group in range(table.num_row_groups):
            facts = table.metadata.row_group(group)
            if next_wanted(ordinal) >= min(ordinal + facts.num_rows, end):
                ordinal += facts.num_rows
                continue
            row_bytes = max(facts.total_byte_size // facts.num_rows, 1)
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
            for batch in table.iter_batches(size, row_groups=[group], columns=names, use_threads=False):
                picked = _picked(ordinal, min(ordinal + batch.num_rows, end), next_wanted)
                for index, record, kept in zip(picked, *_records(batch, picked, exact), strict=True):
                    number = ordinal + index - start + 1
                    yield RawRow(ordinal + index, file.name, number, record, row_bytes, kept)
                ordinal += batch.num_rows
    return ordinal


def _picked(start: int, end: int, next_wanted: NextWanted) -> list[int]:
    picked = []
    wanted = next_wanted(start)
    while wanted < end:
        picked.append(wanted - start)
        wanted = next_wanted(wanted + 1)
    return picked


def _records(
    batch: pa.RecordBatch, picked: Sequence[int], exact: Collection[str]
) -> tuple[list[dict[str, Any]], Sequence[dict[str, Any] | None]]:
    """Return the picked rows as people read them, and of each the columns of `exact` in their exact form."""
    if not picked:
        return [], ()
    rows = batch if len(picked) == batch.num_rows else _taken(batch, picked)
    shown = _shown_rows(rows)
    if not exact:
        return shown, (None,) * len(picked)
    named = zip(rows.schema.names, rows.columns, strict=True)
    kept = {name: _converted(column, exact_values) for name, column in named if name in exact}
    return shown, as_rows(list(kept), list(kept.values()), rows.num_rows)


def _shown_rows(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    if all(map(is_as_shown, rows.schema.types)):
        with suppress(ValueError):
            return list(rows.to_pylist())  # a third of the time
    return as_rows(rows.schema.names, [_converted(column, _shown) for column in rows.columns], rows.num_rows)


def _taken(batch: pa.RecordBatch, picked: Sequence[int]) -> pa.RecordBatch:
    try:
        return batch.take(pa.array(picked))
    except pa.ArrowNotImplementedError:  # of views, and of extension types in some containers
        slices = pa.Table.from_batches([batch.slice(index, 1) for index in picked])
        return slices.combine_chunks().to_batches()[0]


def _shown(column: pa.Array) -> list[Any]:
    return shown_values(column, FIELD)


def _converted(column: pa.Array, convert: Callable[[pa.Array], list[Any]]) -> list[Any]:
    """Return the values of a column; one that cannot be read does not spoil its neighbours."""
    try:
        return convert(column)
    except ValueError:
        return [_one(column.slice(index, 1), convert) for index in range(len(column))]


def _one(column: pa.Array, convert: Callable[[pa.Array], list[Any]]) -> Any:
    try:
        return convert(column)[0]
    except UnicodeDecodeError:
        return Unreadable("a text that is not UTF-8")
    except ValueError as error:
        return Unreadable(f"a value that cannot be read ({error})")
