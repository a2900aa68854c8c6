"""Read and export all rows stored so far, each once, without holding the run directory's lock."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from runner.core import TEMPORARY_SUFFIX, put_in_place
from runner.errors import UsageError
from runner.results.cells import EXCEL_CELL_MAX_UTF16_UNITS, ExcelCells, harmless_cell, plain_cell
from runner.results.journal import decode_row, segment_paths
from runner.results.parts import PartWriter, open_part, part_paths, read_part_batches, with_all_columns
from runner.results.run_directory import RunDirectory
from runner.results.schema import results_schema, to_batch, to_batches
from runner.types import Row
from runner.values import Style, exact_rows, shown_rows

log = logging.getLogger(__name__)

ROWS_PER_WRITE = 1024
FORMATS = ("csv", "jsonl", "parquet")

_JSON, _CSV = Style(utc="Z"), Style(utc="+00:00")
_lines = msgspec.json.Encoder()

# The index of a segment among those that are read, and of a line in it.
JournalPosition = tuple[int, int]


@contextmanager
def open_snapshot(directory: RunDirectory) -> Iterator[tuple[pa.Schema, Iterator[list[Row]]]]:
    """Give a consistent snapshot of all rows, even while a run is writing: the schema, and the rows in small lists.

    The rows have values in their exact form (`runner.values`).
    """
    with _open_batches(directory) as (schema, batches):
        yield schema, map(exact_rows, batches)


def export_journal(directory: RunDirectory, target: Path) -> int:
    """Write the rows that are only in the journal into a Parquet file, for a program that reads only Parquet.

    A part that is closed in the meantime may have some of these rows, too. Returns the number of rows; raises OSError.
    """
    if not segment_paths(directory.journal):
        return 0
    with _open_batches(directory, with_parts=False) as (schema, batches):
        return _write_parquet(target, schema, batches)


@contextmanager
def _open_batches(
    directory: RunDirectory, with_parts: bool = True
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Give a snapshot of all rows, or of those outside the parts, as Arrow batches of at most `ROWS_PER_WRITE` rows.

    Segments are opened before the parts are listed: a segment that becomes a part in the meantime can still be read
    through its open file. If a segment and an older part both have a row of a request, the segment's row counts. Rows
    that are appended after the first pass over the segments are not part of the snapshot.
    """
    with ExitStack() as stack:
        segments: dict[int, BinaryIO] = {}
        for number, path in segment_paths(directory.journal).items():
            with suppress(FileNotFoundError):  # it has just become a part
                segments[number] = stack.enter_context(path.open("rb"))
        parts = part_paths(directory.results)
        unmerged = [file for number, file in segments.items() if number not in parts]
        newest = {row["custom_id"]: position for position, row in _journal_rows(unmerged)}
        schema = _schema(parts, directory)
        yield schema, _all_batches(parts if with_parts else {}, unmerged, newest, schema)


def export_results(
    directory: RunDirectory, target: Path, samples: bool = False, excel: bool = False, exact: bool = False
) -> int:
    """Write all rows stored so far into one file.

    Args:
        directory: the run directory; its lock need not be held.
        target: the file to write; its ending (.csv, .jsonl, .parquet) decides the format.
        samples: write the lines of samples.parquet instead.
        excel: write CSV that Excel opens as it is meant: with a byte order mark, and no cell is too long.
        exact: write CSV with every text as it is, also one that a spreadsheet would run as a formula.

    Returns:
        The number of rows.

    Raises:
        UsageError: the ending is unknown, there are no rows yet, or the file cannot be written.
    """
    ending = target.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise UsageError(f"{target}: an export ends in one of: {', '.join('.' + name for name in FORMATS)}")
    if excel and ending != "csv":
        raise UsageError(f"{target}: --excel writes CSV; expected a name that ends in .csv")
    if exact and (excel or ending != "csv"):
        raise UsageError(f"{target}: --exact writes CSV for programs; other exports are exact, and --excel never is")
    ending = "excel" if excel else "exact" if exact else ending
    directory.refuse_links()
    if samples:
        if not directory.samples.exists():
            raise UsageError(f"{directory.samples}: not there yet; it is written when a run ends or drains")
        schema = open_part(directory.samples).schema_arrow
        return _write(target, ending, schema, read_part_batches(directory.samples, size=ROWS_PER_WRITE))
    if not directory.has_rows():
        raise UsageError(f"{directory.path}: there are no rows yet")
    with _open_batches(directory) as (schema, batches):
        return _write(target, ending, schema, batches)


def _schema(parts: dict[int, Path], directory: RunDirectory) -> pa.Schema:
    """Returns the schema of the parts; before there is a part, the schema in run.json."""
    for path in parts.values():
        return open_part(path).schema_arrow
    return directory.read_schema() or results_schema(())


def _journal_rows(segments: Sequence[BinaryIO]) -> Iterator[tuple[JournalPosition, Row]]:
    """Yield the complete rows of all segments with their positions."""
    for number, lines in enumerate(segments):
        lines.seek(0)
        for index, line in enumerate(lines):
            row = decode_row(line)
            if row is not None:
                yield (number, index), row


def _all_batches(
    parts: dict[int, Path], segments: Sequence[BinaryIO], newest: dict[str, JournalPosition], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    replaced = pa.array(newest, pa.string())
    for path in parts.values():
        for batch in read_part_batches(path, size=ROWS_PER_WRITE):
            kept = batch.filter(pc.invert(pc.is_in(batch["custom_id"], value_set=replaced))) if newest else batch
            yield with_all_columns(kept, schema)
    chunk: list[Row] = []
    for position, row in _journal_rows(segments):
        if newest.get(row["custom_id"]) == position:
            chunk.append(row)
        if len(chunk) >= ROWS_PER_WRITE:
            yield from _batches(chunk, schema)
            chunk = []
    yield from _batches(chunk, schema)
    yield to_batch([], schema)  # the columns, if there is no row


def _batches(rows: list[Row], schema: pa.Schema) -> list[pa.RecordBatch]:
    """Convert rows of the journal; those that do not fit their columns are left out, as they will be of the parts."""
    batches, refused = to_batches(rows, schema)
    for row, why in refused:
        log.warning("the row %s does not fit its columns and is left out: %s", row["custom_id"], why)
    return batches


def _write(target: Path, ending: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    writers: dict[str, Callable[[Path, pa.Schema, Iterator[pa.RecordBatch]], int]] = {
        "csv": _write_csv,
        "excel": _write_excel_csv,
        "exact": partial(_write_csv, cell=plain_cell),
        "jsonl": _write_jsonl,
        "parquet": _write_parquet,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return writers[ending](target, schema, batches)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from error


def _write_parquet(target: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    writer = PartWriter(target, schema, "zstd", put_in_place)
    try:
        for batch in batches:
            writer.add_batch(batch)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return writer.rows


def _write_jsonl(target: Path, _schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    temporary, count = _temporary(target), 0
    with temporary.open("wb") as out:
        for batch in batches:
            out.write(_lines.encode_lines(shown_rows(batch, _JSON)))
            count += batch.num_rows
    temporary.replace(target)
    return count


def _write_csv(
    target: Path,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    encoding: str = "utf-8",
    cell: Callable[[Any], Any] = harmless_cell,
) -> int:
    temporary, count = _temporary(target), 0
    with temporary.open("w", encoding=encoding, newline="") as out:
        table = csv.writer(out)
        table.writerow([cell(name) for name in schema.names])
        for batch in batches:
            for row in shown_rows(batch, _CSV):
                table.writerow([cell(value) for value in row.values()])
                count += 1
    temporary.replace(target)
    return count


def _write_excel_csv(target: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    cells = ExcelCells()
    count = _write_csv(target, schema, batches, "utf-8-sig", cells.cell)
    if cells.cut:
        limit = f"{EXCEL_CELL_MAX_UTF16_UNITS:,}"
        log.warning("%s cells are longer than Excel's %s characters, and are cut", cells.cut, limit)
    return count


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}{TEMPORARY_SUFFIX}")
