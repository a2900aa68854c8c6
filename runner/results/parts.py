"""Closed Parquet parts: writing one row group at a time, reading, and replacing rows by rewriting a part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import RunDirectoryError
from runner.results.disk import TEMPORARY, put_in_place
from runner.results.schema import to_batch
from runner.types import Row

GROUP_ROWS = 10_000
GROUP_BYTES = 16_000_000
_NAME = re.compile(r"part-(\d{5,})\.parquet")


def part_path(results: Path, number: int) -> Path:
    """Where part `number` stands."""
    return results / f"part-{number:05d}.parquet"


def part_paths(results: Path) -> dict[int, Path]:
    """The closed parts there are, by number, in their order."""
    found = ((_NAME.fullmatch(path.name), path) for path in results.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class PartWriter:
    """Writes one part under a temporary name; it gets its own name when it is whole and on the disk."""

    def __init__(self, final: Path, schema: pa.Schema, compression: str) -> None:
        self.final = final
        self.rows = 0
        self._schema = schema
        self._temporary = final.with_name(f".{final.name}{TEMPORARY}")
        self._writer = pq.ParquetWriter(self._temporary, schema, compression=compression)
        self._batches: list[pa.RecordBatch] = []
        self._held = (0, 0)

    def add(self, rows: Sequence[Row]) -> None:
        """Add a few hundred rows; a row group is written when enough are together."""
        self.add_batch(to_batch(rows, self._schema))

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add rows that are in Arrow already."""
        self._batches.append(batch)
        self.rows += batch.num_rows
        self._held = (self._held[0] + batch.num_rows, self._held[1] + batch.nbytes)
        if self._held[0] >= GROUP_ROWS or self._held[1] >= GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        """Close the file, bring it to the disk and give it its name."""
        self._write_group()
        self._writer.close()
        put_in_place(self._temporary, self.final)

    def abandon(self) -> None:
        """Throw away what was written; never raises."""
        try:
            self._writer.close()
        except (OSError, pa.ArrowException):
            pass
        finally:
            self._temporary.unlink(missing_ok=True)

    def _write_group(self) -> None:
        batches, self._batches, self._held = self._batches, [], (0, 0)
        if batches:
            self._writer.write_table(pa.Table.from_batches(batches, self._schema), row_group_size=1 << 20)


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


def batches(path: Path, columns: Sequence[str] | None = None, size: int = 4096) -> Iterator[pa.RecordBatch]:
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
        for batch in batches(path, size=1024):
            writer.add(change(batch.to_pylist()))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
