"""Finish or undo what an earlier process left half-written: leftover journal segments become parts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from runner.core import TEMPORARY_SUFFIX
from runner.errors import RunDirectoryError
from runner.results.checksums import checksum_path
from runner.results.completion import ROWS_PER_READ
from runner.results.journal import encode_row, read_segment, segment_paths
from runner.results.parts import (
    RowGroupBuffer,
    open_part,
    part_path,
    part_paths,
    read_part_batches,
    rewrite_part_batches,
    with_all_columns,
)
from runner.results.rejected import Rejected
from runner.results.schema import to_batches
from runner.results.writer import ROWS_PER_BATCH, SegmentCompactor
from runner.types import Row

log = logging.getLogger(__name__)


def recover_results(directory: Path, schema: pa.Schema, compression: str, rejected: Rejected | None = None) -> int:
    """Bring `results/` and `journal/` into a consistent state, however the last process ended.

    Temporary files are removed. A segment whose part exists is deleted. Every other segment becomes its part, without
    the lines that are damaged and the rows that do not fit their columns.

    Args:
        directory: the run directory.
        schema: the schema of the parts and of the journal.
        compression: the Parquet compression of new parts.
        rejected: takes those lines and rows.

    Returns:
        The next free part number.

    Raises:
        RunDirectoryError: a part cannot be read and its segment is gone.
    """
    results, journal = directory / "results", directory / "journal"
    rejected = rejected or Rejected(journal)
    for folder in (results, journal, directory, directory / "checksums"):
        for temporary in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            temporary.unlink()
    segments, parts = segment_paths(journal), part_paths(results)
    for number, path in parts.items():
        _check_part(path, segments.get(number))
    for number, segment in segments.items():
        if part_path(results, number).exists():
            segment.unlink()
        else:
            _make_part(results, segment, number, schema, compression, rejected)
    return max([*segments, *parts], default=-1) + 1


def add_missing_columns(directory: Path, schema: pa.Schema, compression: str) -> int:
    """Rewrite the parts of an earlier version that lack columns; the columns are null there.

    Every part is replaced atomically, in ascending order, so that the first one always has all columns.

    Args:
        directory: the run directory, already recovered.
        schema: the schema of all parts; a part may lack some of its columns and differs in nothing else.
        compression: the Parquet compression of the new parts.

    Returns:
        The number of parts that were rewritten.

    Raises:
        RunDirectoryError: a part cannot be read.
    """
    rewritten = 0
    for path in part_paths(directory / "results").values():
        part = open_part(path)
        is_complete = part.schema_arrow.names == schema.names
        part.close()
        if not is_complete:
            rewrite_part_batches(path, schema, compression, lambda batch: with_all_columns(batch, schema))
            rewritten += 1
    return rewritten


def _check_part(path: Path, segment: Path | None) -> None:
    """Check that a part can be read; remove an unreadable one if it can be made again from its segment.

    A part whose segment is about to be deleted is read completely; of every other part only the footer is read.
    """
    try:
        if segment is None:
            open_part(path).close()
        else:
            deque(read_part_batches(path), maxlen=0)
    except RunDirectoryError:
        if segment is None:
            raise
        log.warning("%s cannot be read; it is made again from its segment", path)
        path.unlink()
        checksum_path(path).unlink(missing_ok=True)


def _make_part(
    results: Path, segment: Path, number: int, schema: pa.Schema, compression: str, rejected: Rejected
) -> None:
    compactor = SegmentCompactor(results, segment, number, schema, compression)
    owners = _owners(results, {row["custom_id"] for _, row in read_segment(segment)})
    buffer, new_rows, count = RowGroupBuffer(schema), [], 0

    def convert(rows: list[Row]) -> list[pa.RecordBatch]:
        nonlocal count
        batches, refused = to_batches(rows, schema)
        for row, why in refused:
            rejected.add(segment, None, encode_row(row), why)
        count += len(rows) - len(refused)
        return batches

    def add(rows: list[Row]) -> None:
        for batch in convert(rows):
            if buffer.add(batch):
                compactor.add(buffer.take())

    def note_damaged(offset: int, line: bytes) -> None:
        rejected.add(segment, offset, line, "a damaged line")

    try:
        for offset, row in read_segment(segment, note_damaged):
            owner = owners.get(row["custom_id"])
            if owner is None:
                new_rows.append(row)
            elif convert([row]):
                compactor.replace(owner, row["custom_id"], offset)
            if len(new_rows) >= ROWS_PER_BATCH:
                add(new_rows)
                new_rows = []
        add(new_rows)
        if buffer.rows:
            compactor.add(buffer.take())
        compactor.finish(count)
    except BaseException:
        compactor.abandon()
        raise


def _owners(results: Path, ids: Collection[str]) -> dict[str, int]:
    """Returns for each of these custom_ids that already has a row the number of the part that holds it."""
    wanted, owners = pa.array(ids, pa.string()), {}
    for number, path in part_paths(results).items():
        for batch in read_part_batches(path, ["custom_id"], size=ROWS_PER_READ):
            column = batch.column(0)
            hits = column.filter(pc.is_in(column, value_set=wanted))
            owners.update(dict.fromkeys(hits.to_pylist(), number))
    return owners
