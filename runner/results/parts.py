"""Closed Parquet parts: write them row group by row group, read them, and replace rows by rewriting a part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner.core import TEMPORARY_SUFFIX, open_private
from runner.errors import RunDirectoryError
from runner.model_names import EMULATED_PREFIX
from runner.results.checksums import damage, put_in_place_with_checksum
from runner.results.schema import to_batch
from runner.types import Row
from runner.values import exact_rows

ROW_GROUP_MAX_ROWS = 10_000
ROW_GROUP_MAX_BYTES = 8_000_000
# Columns whose values hardly ever repeat: a Parquet dictionary of them costs time and is discarded by the writer.
UNIQUE_COLUMNS = frozenset(
    {
        *("sample_id", "ordinal", "custom_id", "request_hash", "response_id", "finished_at", "latency_s"),
        *("response", "explanation", "error_message", "question", "answer", "answer1", "answer2", "reference"),
    }
)
# In the metadata of each Parquet file that has a row of an emulator.
EMULATED_METADATA = {b"judge_runner.emulated": b"true"}
_NAME = re.compile(r"part-(\d{5,})\.parquet")


def part_path(results: Path, number: int) -> Path:
    """Returns the path of part `number`."""
    return results / f"part-{number:05d}.parquet"


def part_paths(results: Path) -> dict[int, Path]:
    """Returns the closed parts by number, in ascending order; a copy of a run directory may lack the empty folder."""
    if not results.is_dir():
        return {}
    found = ((_NAME.fullmatch(path.name), path) for path in results.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class RowGroupBuffer:
    """Collects record batches until they fill a row group.

    Attributes:
        rows: the number of collected rows.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        self._bytes = 0
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> bool:
        """Add a batch; returns True if there is enough for a row group."""
        self._batches.append(batch)
        self.rows += batch.num_rows
        self._bytes += batch.nbytes
        return self.rows >= ROW_GROUP_MAX_ROWS or self._bytes >= ROW_GROUP_MAX_BYTES

    def take(self) -> pa.Table:
        """Return the collected rows and empty the buffer."""
        table = pa.Table.from_batches(self._batches, self._schema)
        self.rows, self._bytes, self._batches = 0, 0, []
        return table


class PartWriter:
    """Writes one Parquet file under a temporary name; the file gets its final name once it is complete and on the disk.

    Attributes:
        final: the final path.
        rows: the number of rows written so far.

    Args:
        final: the final path.
        schema: the columns.
        compression: the Parquet compression.
        place: gives the finished file its final name; files of a run directory also get a checksum.
    """

    def __init__(
        self,
        final: Path,
        schema: pa.Schema,
        compression: str,
        place: Callable[[Path, Path], None] = put_in_place_with_checksum,
    ) -> None:
        self.final = final
        self._place = place
        self.rows = 0
        self._schema = schema
        self._compression = compression
        self._temporary = final.with_name(f".{final.name}{TEMPORARY_SUFFIX}")
        self._opened: pq.ParquetWriter | None = None
        self._buffer = RowGroupBuffer(schema)
        self._is_emulated = False

    def add(self, rows: Sequence[Row]) -> None:
        """Add a few hundred rows; a row group is written once enough rows are collected."""
        self.add_batch(to_batch(rows, self._schema))

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add rows that are already an Arrow batch."""
        if self._buffer.add(batch):
            self.write(self._buffer.take())

    def write(self, group: pa.Table) -> None:
        """Write one row group."""
        if not self._is_emulated and "served_model" in group.schema.names:
            self._is_emulated = bool(pc.any(pc.starts_with(group["served_model"], EMULATED_PREFIX)).as_py())
        self._writer.write_table(group, row_group_size=1 << 20)
        self.rows += group.num_rows

    @property
    def _writer(self) -> pq.ParquetWriter:
        """The open file. Its schema says if the first row group has an emulator's rows, so it is opened with that."""
        if self._opened is None:
            metadata = {**(self._schema.metadata or {}), **(EMULATED_METADATA if self._is_emulated else {})}
            with open_private(self._temporary):
                pass  # Arrow would create it readable for others
            self._opened = pq.ParquetWriter(
                self._temporary,
                self._schema.with_metadata(metadata or None),
                compression=self._compression,
                use_dictionary=_dictionary_columns(self._schema),
                write_statistics=["ordinal"],
                write_page_checksum=True,
            )
        return self._opened

    def finish(self) -> None:
        """Close the file, sync it and rename it to its final name; its metadata says if it has an emulator's rows."""
        if self._buffer.rows:
            self.write(self._buffer.take())
        if self._is_emulated and not EMULATED_METADATA.keys() <= (self._writer.schema.metadata or {}).keys():
            self._writer.add_key_value_metadata(EMULATED_METADATA)
        self._writer.close()
        self._place(self._temporary, self.final)

    def abandon(self) -> None:
        """Delete the temporary file; never raises OSError or ArrowException."""
        if self._opened is not None:
            with suppress(OSError, pa.ArrowException):
                self._opened.close()
            self._opened.is_open = False  # else pyarrow closes it again on deletion, and prints the error
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _dictionary_columns(schema: pa.Schema) -> list[str]:
    """Returns the paths of the leaf columns that get a dictionary."""
    return [path for field in schema if field.name not in UNIQUE_COLUMNS for path in _leaves(field.name, field.type)]


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]


# What reading a damaged part raises: pyarrow's errors are OSError or ArrowException, but a text that is not UTF-8 and a
# schema that makes no sense come through as Python's own.
_DAMAGE = (OSError, pa.ArrowException, ValueError, TypeError, KeyError, IndexError, MemoryError)


def open_part(path: Path) -> pq.ParquetFile:
    """Open a part; raises RunDirectoryError if it cannot be read or is damaged."""
    try:
        if (problem := damage(path)) is not None:
            raise _unreadable(path, problem)
        return pq.ParquetFile(path, page_checksum_verification=True)
    except _DAMAGE as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, problem: str) -> RunDirectoryError:
    why = problem.splitlines()[0] if problem else "no reason given"
    return RunDirectoryError(
        f"{path}: this part cannot be read ({why}) and its journal segment is gone. "
        "Restore a copy of it, or move it away: its requests are then sent (and paid for) again."
    )


def read_part_batches(path: Path, columns: Sequence[str] | None = None, size: int = 4096) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part in order, in batches of at most `size` rows.

    Args:
        path: the part.
        columns: the columns to read; names that the part lacks are skipped. None reads all columns.
        size: the maximum number of rows per batch.

    Raises:
        RunDirectoryError: the part cannot be read.
    """
    part = open_part(path)
    try:
        present = None if columns is None else [name for name in columns if name in part.schema_arrow.names]
        yield from part.iter_batches(size, columns=present)
    except _DAMAGE as error:
        raise _unreadable(path, str(error)) from error
    finally:
        part.close()


def with_all_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the columns of a schema in their order; those that it lacks are null."""
    present = set(batch.schema.names)
    arrays = [batch[field.name] if field.name in present else pa.nulls(batch.num_rows, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def rewrite_part(path: Path, schema: pa.Schema, compression: str, change: Callable[[list[Row]], list[Row]]) -> None:
    """Pass all rows of a part through `change`, a list at a time, and atomically replace the part by the result."""
    rewrite_part_batches(
        path, schema, compression, lambda batch: to_batch(change(exact_rows(_with_types(batch, schema))), schema)
    )


def _with_types(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the types of a schema: exact values mean something only with their type.

    A column of another type that cannot be converted is null until the dataset fills it again.
    """
    kinds = dict(zip(schema.names, schema.types, strict=True))
    arrays = [_cast(batch[name], kinds.get(name, batch[name].type)) for name in batch.schema.names]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowException:
        return pa.nulls(len(column), kind)


def rewrite_part_batches(
    path: Path, schema: pa.Schema, compression: str, change: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> None:
    """Do as `rewrite_part`, but with Arrow batches."""
    writer = PartWriter(path, schema, compression)
    try:
        for batch in read_part_batches(path, size=1024):
            writer.add_batch(change(batch))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
