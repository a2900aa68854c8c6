"""Closed Parquet parts: writing one row group at a time, reading, and replacing rows by rewriting a part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner.core import TEMPORARY_SUFFIX, put_in_place
from runner.errors import RunDirectoryError
from runner.results.schema import to_batch
from runner.types import Row

ROW_GROUP_MAX_ROWS = 10_000
ROW_GROUP_MAX_BYTES = 8_000_000
UNIQUE = frozenset(
    {
        *("sample_id", "ordinal", "custom_id", "request_hash", "response_id", "finished_at", "latency_s"),
        *("response", "explanation", "error_message", "question", "answer", "answer1", "answer2", "reference"),
    }
)
_NAME = re.compile(r"part-(\d{5,})\.parquet")


def part_path(results: Path, number: int) -> Path:
    """Where part `number` stands."""
    return results / f"part-{number:05d}.parquet"


def part_paths(results: Path) -> dict[int, Path]:
    """The closed parts there are, by number, in their order."""
    found = ((_NAME.fullmatch(path.name), path) for path in results.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class RowGroupBuffer:
    """Collects batches until they are worth a row group."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        self._bytes = 0
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> bool:
        """Add a batch; whether there is enough for a row group now."""
        self._batches.append(batch)
        self.rows += batch.num_rows
        self._bytes += batch.nbytes
        return self.rows >= ROW_GROUP_MAX_ROWS or self._bytes >= ROW_GROUP_MAX_BYTES

    def take(self) -> pa.Table:
        """Hand out what is collected and begin anew."""
        table = pa.Table.from_batches(self._batches, self._schema)
        self.rows, self._bytes, self._batches = 0, 0, []
        return table


class PartWriter:
    """Writes one part under a temporary name; it gets its own name when it is whole and on the disk."""

    def __init__(self, final: Path, schema: pa.Schema, compression: str) -> None:
        self.final = final
        self.rows = 0
        self._schema = schema
        self._temporary = final.with_name(f".{final.name}{TEMPORARY_SUFFIX}")
        self._writer = pq.ParquetWriter(
            self._temporary,
            schema,
            compression=compression,
            use_dictionary=_repeating(schema),
            write_statistics=["ordinal"],
        )
        self._group = RowGroupBuffer(schema)

    def add(self, rows: Sequence[Row]) -> None:
        """Add a few hundred rows; a row group is written when enough are together."""
        self.add_batch(to_batch(rows, self._schema))

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add rows that are in Arrow already."""
        if self._group.add(batch):
            self.write(self._group.take())

    def write(self, group: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(group, row_group_size=1 << 20)
        self.rows += group.num_rows

    def finish(self) -> None:
        """Close the file, bring it to the disk and give it its name."""
        if self._group.rows:
            self.write(self._group.take())
        self._writer.close()
        put_in_place(self._temporary, self.final)

    def abandon(self) -> None:
        """Throw away what was written; never raises."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._writer.is_open = False  # else pyarrow tries once more when it is thrown away, and prints what it meets
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _repeating(schema: pa.Schema) -> list[str]:
    """The columns whose values repeat: a dictionary of the others costs time and is thrown away."""
    return [path for field in schema if field.name not in UNIQUE for path in _leaves(field.name, field.type)]


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]


def open_part(path: Path) -> pq.ParquetFile:
    """Open a part; raises RunDirectoryError where it cannot be read."""
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> RunDirectoryError:
    """The error for a part that cannot be read and has no segment left to be rebuilt from."""
    return RunDirectoryError(
        f"{path}: this part cannot be read ({str(error).splitlines()[0]}) and its journal segment is gone. "
        "Put back a copy of it, or move it away: its requests are then asked (and paid for) again."
    )


def read_batches(path: Path, columns: Sequence[str] | None = None, size: int = 4096) -> Iterator[pa.RecordBatch]:
    """The rows of a part in small batches, in their order; raises RunDirectoryError where it cannot be read."""
    part = open_part(path)
    try:
        present = None if columns is None else [name for name in columns if name in part.schema_arrow.names]
        yield from part.iter_batches(size, columns=present)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    finally:
        part.close()


def rewrite_part(path: Path, schema: pa.Schema, compression: str, change: Callable[[list[Row]], list[Row]]) -> None:
    """Replace a part by one whose rows went through `change`, under the same name, atomically."""
    writer = PartWriter(path, schema, compression)
    try:
        for batch in read_batches(path, size=1024):
            writer.add(change(batch.to_pylist()))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
