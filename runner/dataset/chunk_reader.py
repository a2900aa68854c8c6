"""Iterate over all files of a dataset in chunks, skipping rows that are not wanted."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing

import msgspec

from runner.dataset.csv_reader import read_csv
from runner.dataset.data_file import DataFile
from runner.dataset.decode import Broken, record_of
from runner.dataset.fingerprint import DatasetFingerprint
from runner.dataset.json_reader import read_json
from runner.dataset.readers import READ_ERRORS, NextWanted, RawRow, Reader, SeekPoint, read_lines, read_parquet
from runner.errors import BadRow, DatasetError

NEVER = sys.maxsize  # the next wanted ordinal if there is none


def pending(done: bytes | bytearray, limit: int | None = None) -> NextWanted:
    """Want every row whose flag in `done` is 0, and all rows after the flags, up to `limit` rows.

    The flags are one byte per ordinal; the reader looks at a flag when it reaches the row.
    """
    stop = NEVER if limit is None else limit

    def next_wanted(ordinal: int) -> int:
        if ordinal < len(done):
            found = done.find(0, ordinal)
            ordinal = len(done) if found < 0 else found
        return ordinal if ordinal < stop else NEVER

    return next_wanted


def everything(ordinal: int) -> int:
    """Want every row."""
    return ordinal


def chunks(
    files: Sequence[DataFile],
    wanted: NextWanted = everything,
    *,
    known: DatasetFingerprint | None = None,
    columns: Sequence[str] | None = None,
    exact: Collection[str] = (),
    chunk_rows: int = 256,
    chunk_bytes: int = 4_000_000,
) -> Iterator[list[RawRow]]:
    """Yield the wanted rows in order, in lists.

    This is a plain generator that blocks on the disk: iterate over it in a thread, as `Prefetcher` does.

    Args:
        files: as `discover` lists them.
        wanted: returns the next wanted ordinal; called with ordinals that never decrease.
        known: the fingerprint of the files. A file that has grown since is read up to its old end, so that ordinals
            stay the same; in an unchanged file, unwanted stretches are skipped from seek point to seek point.
        columns: the top-level columns to read; only the Parquet reader uses it.
        exact: columns of Parquet of which rows also carry the exact values.
        chunk_rows: the largest number of rows in a chunk.
        chunk_bytes: a chunk that has reached this many bytes is not extended.

    Raises:
        DatasetError: a file cannot be read to its end, or has fewer rows than its fingerprint says.
    """
    chunk: list[RawRow] = []
    size = 0
    with closing(_rows(files, wanted, known, columns, exact)) as source:
        for row in source:
            chunk.append(row)
            size += row.size
            if len(chunk) >= chunk_rows or size >= chunk_bytes:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def _rows(
    files: Sequence[DataFile],
    wanted: NextWanted,
    known: DatasetFingerprint | None,
    columns: Sequence[str] | None,
    exact: Collection[str],
) -> Reader:
    ordinal = 0
    for index, file in enumerate(files):
        seen = None if known is None else known.files[index]
        end = NEVER if seen is None else ordinal + seen.rows
        upcoming = wanted(ordinal)
        if upcoming == NEVER:
            break
        if upcoming >= end:
            ordinal = end
            continue
        try:
            marks = seen.marks if seen is not None and seen.has(file.stamp()) else ()
            rows = _reader(file, ordinal, end, wanted, columns, exact, marks)
            added = file.folder_columns()
            reached = yield from _with_columns(rows, added) if added else rows
        except READ_ERRORS as error:
            raise DatasetError(f"{file.place}: cannot be read to its end: {error}") from error
        if seen is not None and wanted(reached) < end:
            raise DatasetError(f"{file.place}: has {reached - ordinal} rows, but had {seen.rows} when it was counted")
        ordinal = reached if seen is None else end
    return ordinal


def _with_columns(rows: Reader, added: Mapping[str, str | None]) -> Reader:
    """Give each row the columns that its folders name; a column of the file itself wins."""
    while True:
        try:
            row = next(rows)
        except StopIteration as end:
            return int(end.value)
        try:
            payload: object = {**added, **record_of(row.payload)}
        except BadRow as error:
            payload = Broken(str(error))
        yield msgspec.structs.replace(row, payload=payload)


def _reader(
    file: DataFile,
    ordinal: int,
    end: int,
    wanted: NextWanted,
    columns: Sequence[str] | None,
    exact: Collection[str],
    marks: Sequence[SeekPoint],
) -> Reader:
    match file.format:
        case "jsonl":
            return read_lines(file, ordinal, end, wanted, marks)
        case "json":
            return read_json(file, ordinal, end, wanted)
        case "parquet":
            return read_parquet(file, ordinal, end, wanted, columns, exact)
        case _:
            return read_csv(file, ordinal, end, wanted)
