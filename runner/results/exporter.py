"""All rows so far, parts and journal together, each once, for readers that hold no lock."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from runner.core import TEMPORARY_SUFFIX
from runner.errors import UsageError
from runner.results.journal import decode_row, segment_paths
from runner.results.parts import PartWriter, open_part, part_paths, read_batches
from runner.results.run_directory import RunDirectory
from runner.results.schema import results_schema, revive
from runner.types import Row

ROWS_PER_WRITE = 1024
FORMATS = ("csv", "jsonl", "parquet")

Place = tuple[int, int]
"""Which of the segments, and which of its lines."""


@contextmanager
def rows_so_far(directory: RunDirectory) -> Iterator[tuple[pa.Schema, Iterator[list[Row]]]]:
    """The schema and all rows in small lists, also while a run is writing.

    Segments are opened before the parts are listed: a segment that becomes a part meanwhile can still be read through
    its open file, and a row that stands in both a segment and an older part is the segment's. What is appended after
    the segments were first gone through is left for the next reader.
    """
    with ExitStack() as stack:
        segments: dict[int, BinaryIO] = {}
        for number, path in segment_paths(directory.journal).items():
            with suppress(FileNotFoundError):  # it became a part just now
                segments[number] = stack.enter_context(path.open("rb"))
        parts = part_paths(directory.results)
        waiting = [lines for number, lines in segments.items() if number not in parts]
        newest = {row["custom_id"]: place for place, row in _rows(waiting)}
        schema = _schema(parts, directory)
        yield schema, _all(parts, waiting, newest, schema)


def export(directory: RunDirectory, target: Path, samples: bool = False) -> int:
    """Write all rows so far, or with `samples` the lines of samples.parquet, into one file by its ending.

    Returns the number of rows. Raises UsageError for an ending that is not known or where there is nothing yet.
    """
    ending = target.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise UsageError(f"{target}: an export ends in one of: {', '.join('.' + name for name in FORMATS)}")
    if samples:
        if not directory.samples.exists():
            raise UsageError(f"{directory.samples}: not there yet; it is written when a run ends or drains")
        schema = open_part(directory.samples).schema_arrow
        return _write(
            target,
            ending,
            schema,
            (batch.to_pylist() for batch in read_batches(directory.samples, size=ROWS_PER_WRITE)),
        )
    if not directory.has_rows():
        raise UsageError(f"{directory.path}: there are no rows yet")
    with rows_so_far(directory) as (schema, rows):
        return _write(target, ending, schema, rows)


def _schema(parts: dict[int, Path], directory: RunDirectory) -> pa.Schema:
    """The parts' schema; before the first part, the one that run.json holds."""
    for path in parts.values():
        return open_part(path).schema_arrow
    return directory.read_schema() or results_schema(())


def _rows(segments: Sequence[BinaryIO]) -> Iterator[tuple[Place, Row]]:
    """The whole rows of all segments with their places."""
    for number, lines in enumerate(segments):
        lines.seek(0)
        for index, line in enumerate(lines):
            row = decode_row(line)
            if row is not None:
                yield (number, index), row


def _all(
    parts: dict[int, Path], segments: Sequence[BinaryIO], newest: dict[str, Place], schema: pa.Schema
) -> Iterator[list[Row]]:
    for path in parts.values():
        for batch in read_batches(path, size=ROWS_PER_WRITE):
            yield [row for row in batch.to_pylist() if row["custom_id"] not in newest]
    chunk: list[Row] = []
    for place, row in _rows(segments):
        if newest.get(row["custom_id"]) == place:
            chunk.append(revive(row, schema))
        if len(chunk) >= ROWS_PER_WRITE:
            yield chunk
            chunk = []
    yield chunk


def _write(target: Path, ending: str, schema: pa.Schema, rows: Iterator[list[Row]]) -> int:
    writers: dict[str, Callable[[Path, pa.Schema, Iterator[list[Row]]], int]] = {
        "csv": _write_csv,
        "jsonl": _write_jsonl,
        "parquet": _write_parquet,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return writers[ending](target, schema, rows)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from error


def _write_parquet(target: Path, schema: pa.Schema, rows: Iterator[list[Row]]) -> int:
    writer = PartWriter(target, schema, "zstd")
    try:
        for chunk in rows:
            writer.add(chunk)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return writer.rows


def _write_jsonl(target: Path, schema: pa.Schema, rows: Iterator[list[Row]]) -> int:
    temporary, count = _temporary(target), 0
    with temporary.open("wb") as out:
        for chunk in rows:
            for row in chunk:
                out.write(msgspec.json.encode({name: row.get(name) for name in schema.names}) + b"\n")
                count += 1
    temporary.replace(target)
    return count


def _write_csv(target: Path, schema: pa.Schema, rows: Iterator[list[Row]]) -> int:
    temporary, count = _temporary(target), 0
    with temporary.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(schema.names)
        for chunk in rows:
            for row in chunk:
                table.writerow([_cell(row.get(name)) for name in schema.names])
                count += 1
    temporary.replace(target)
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return msgspec.json.encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else value


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}{TEMPORARY_SUFFIX}")
