"""Write rows: append each to a journal segment at once, convert it to Arrow, and compact full segments in a thread.

The order in which a segment is closed keeps every row exactly once (docs/decisions/0002-results.md): first the parts
whose rows are replaced are rewritten, then the segment's part gets its name, then the segment is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from runner.core import sync_directory
from runner.errors import RunDirectoryError, RunStopped, output_failed
from runner.results.journal import Segment, encode_row, read_at, segment_path
from runner.results.part_check import count_rows
from runner.results.parts import PartWriter, RowGroupBuffer, part_path, rewrite_part
from runner.results.rejected import Rejected
from runner.results.row_block import RowBlock
from runner.results.schema import UNFIT, columns_to_batch, extra_float_columns, to_batches
from runner.types import Row

# Rows are converted to Arrow in groups of this size: the event loop pauses briefly, and the rows are still in cache.
ROWS_PER_BATCH = 256

MAX_PENDING_SEGMENTS = 2


class SegmentCompactor:
    """Compacts one segment: new rows go into its own part, replacing rows into the parts of the rows they replace.

    All methods except `replace` and `reject` run in one thread.
    """

    def __init__(self, results: Path, segment: Path, number: int, schema: pa.Schema, compression: str) -> None:
        self._results = results
        self._segment = segment
        self._number = number
        self._schema = schema
        self._compression = compression
        self._writer: PartWriter | None = None
        self._replaced: dict[int, dict[str, int]] = {}
        self._failed = False
        self._rows_taken = 0

    def add(self, group: pa.Table) -> None:
        """Write new rows as one row group."""
        if self._failed:
            return
        if self._writer is None:
            path = part_path(self._results, self._number)
            self._writer = PartWriter(path, self._schema, self._compression)
        self._writer.write(group)
        self._rows_taken += group.num_rows

    def replace(self, part: int, custom_id: str, offset: int) -> None:
        """Note that the row at byte `offset` of the segment replaces a row of part `part`."""
        self._replaced.setdefault(part, {})[custom_id] = offset
        self._rows_taken += 1

    def reject(self, rows: int) -> None:
        """Note that so many rows of the segment are in no part: they do not fit their columns."""
        self._rows_taken += rows

    def finish(self, rows: int) -> None:
        """Rewrite older parts, put the new part in place, delete the segment: in this order.

        Does nothing after a failure: the segment stays, and the next process makes its part.

        Args:
            rows: the number of rows of the segment.

        Raises:
            OSError: a step failed, or not all rows arrived here; the segment is never deleted without this check.
        """
        if self._failed:
            return
        if self._rows_taken != rows:
            raise OSError(f"{self._segment}: {rows} rows, of which {self._rows_taken} were to become a part")
        for part, offsets in sorted(self._replaced.items()):
            self._rewrite(part_path(self._results, part), offsets)
        if self._writer is not None:
            self._writer.finish()
            self._writer = None
        self._segment.unlink(missing_ok=True)
        sync_directory(self._segment.parent)

    def abandon(self) -> None:
        """Keep the segment and discard the unfinished part; every later call has no effect."""
        self._failed = True
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _rewrite(self, path: Path, offsets: Mapping[str, int]) -> None:
        def newest(row: Row) -> Row:
            offset = offsets.get(row["custom_id"])
            return row if offset is None else read_at(self._segment, offset)

        rewrite_part(path, self._schema, self._compression, lambda rows: [newest(row) for row in rows])


class ResultWriter:
    """Writes the rows of a run.

    Args:
        directory: the run directory; it contains `results/` and `journal/`.
        schema: the schema of every part.
        first: the number of the first segment to write.
        rows_per_part: a segment is closed when it holds this many rows.
        compression: the Parquet compression of the parts.
        owners: for a custom_id whose new row replaces an old one, the number of the part that holds the old row.
        rejected: takes rows that do not fit their columns.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        first: int,
        rows_per_part: int,
        compression: str,
        owners: Mapping[str, int],
        rejected: Rejected | None = None,
    ) -> None:
        self._results = directory / "results"
        self._journal = directory / "journal"
        self._schema = schema
        self._number = first
        self._rows_per_part = rows_per_part
        self._compression = compression
        self._owners = owners
        self._rejected = rejected or Rejected(self._journal)
        self._float_columns = extra_float_columns(schema)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._pending: list[Future[None]] = []
        self._rows: list[Row] = []
        self._buffer = RowGroupBuffer(schema)
        self._segment: Segment | None = None
        self._compactor: SegmentCompactor | None = None
        self._expected = 0  # rows that the parts hold at the end

    def open(self) -> None:
        """Create the first segment before anything is sent, so that the first answers have a place.

        The file that it keeps open also takes a descriptor before the connections do.

        Raises:
            RunStopped: the output cannot be written.
            RunDirectoryError: a part cannot be read.
        """
        self._expected = count_rows(self._results)
        try:
            self._open()
        except OSError as error:
            raise output_failed(error) from error

    def check(self) -> None:
        """Check that the parts hold what was written, once the writer is closed; raises RunStopped if they do not."""
        try:
            found = count_rows(self._results)
        except RunDirectoryError as error:
            raise RunStopped("output", str(error), exit_code=3) from error
        if found == self._expected:
            return
        rejected = f"; {self._rejected.note()}" if self._rejected.count else ""
        raise RunStopped(
            "output",
            f"{self._results}: the parts hold {found:,} rows, but {self._expected:,} were written{rejected}. Run the "
            "same command again: it asks what has no row",
            exit_code=3,
        )

    def append(self, row: Row) -> int:
        """Write one row, as `extend` does; returns the number of the part that will hold it."""
        return self.extend([row])[0]

    def extend(self, rows: Sequence[Row]) -> list[int]:
        """Write rows to the operating system; once this returns, SIGKILL does not lose them.

        Returns:
            For each row the number of the part that will hold it.

        Raises:
            RunStopped: the output can no longer be written (exit code 3).
        """
        try:
            segment = self._segment or self._open()
            offsets = segment.extend(rows)
        except OSError as error:
            raise output_failed(error) from error
        parts = [self._number - 1] * len(rows)
        if self._owners:
            parts = [self._assign(row, offset) for row, offset in zip(rows, offsets, strict=True)]
        else:
            self._rows += rows
            self._expected += len(rows)
        if len(self._rows) >= ROWS_PER_BATCH:
            self._convert()
        if segment.rows >= self._rows_per_part:
            self._roll()
        return parts

    def extend_block(self, block: RowBlock) -> int:
        """Write a block of rows that replace no old row, as `extend` does; returns the number of their part."""
        try:
            segment = self._segment or self._open()
            segment.extend_block(block)
        except OSError as error:
            raise output_failed(error) from error
        part = self._number - 1
        self._expected += len(block)
        if self._rows:
            self._convert()
        try:
            self._add_to_buffer(columns_to_batch(block.columns, len(block), self._schema))
        except UNFIT:
            self._rows = [block.row(index) for index in range(len(block))]
            self._convert()
        if segment.rows >= self._rows_per_part:
            self._roll()
        return part

    def _assign(self, row: Row, offset: int) -> int:
        """Assign a row to the part of the row that it replaces, or else to the current part; returns its number."""
        owner = self._owners.get(row["custom_id"])
        if owner is None:
            self._rows.append(row)
            self._expected += 1
            return self._number - 1
        _, refused = to_batches([row], self._schema)
        self._reject(refused)
        if self._compactor is not None and not refused:
            self._compactor.replace(owner, row["custom_id"], offset)
        return owner

    async def wait_for_capacity(self) -> None:
        """Wait while the thread is behind, so that memory stays bounded; raises RunStopped if the thread failed."""
        while self._pending and (self._pending[0].done() or len(self._pending) > MAX_PENDING_SEGMENTS):
            await self._wait_for_oldest()

    async def sync(self) -> None:
        """Sync every appended row to the disk; raises RunStopped if that failed."""
        segment = self._segment
        if segment is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, segment.sync)
            except OSError as error:
                raise output_failed(error) from error

    async def flush(self) -> None:
        """Wait until the thread has finished all submitted work; raises RunStopped if that failed."""
        while self._pending:
            await self._wait_for_oldest()

    async def compact_all(self) -> None:
        """Compact the open segment and wait until every row is in a part; raises RunStopped if that failed."""
        if self._segment is not None:
            self._roll()
        await self.flush()

    async def close(self) -> None:
        """Compact the open segment, wait until every row is in a part, and end the thread; raises RunStopped."""
        try:
            await self.compact_all()
        finally:
            self._thread.shutdown(wait=True)

    def abort(self) -> None:
        """Stop at once: the segments stay, and the next process turns them into parts."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._compactor is not None:
            self._compactor.abandon()

    async def _wait_for_oldest(self) -> None:
        """Wait for the oldest submitted work; cancelling the waiter does not cancel the work."""
        oldest = self._pending[0]
        try:
            await asyncio.shield(asyncio.wrap_future(oldest))
        except (OSError, pa.ArrowException) as error:
            raise output_failed(error) from error
        finally:
            if oldest.done() and self._pending and self._pending[0] is oldest:
                self._pending.pop(0)

    def _open(self) -> Segment:
        path = segment_path(self._journal, self._number)
        self._segment = Segment(path, self._float_columns)
        self._compactor = SegmentCompactor(self._results, path, self._number, self._schema, self._compression)
        self._number += 1
        return self._segment

    def _convert(self) -> None:
        rows, self._rows = self._rows, []
        batches, refused = to_batches(rows, self._schema)
        self._reject(refused)
        for batch in batches:
            self._add_to_buffer(batch)

    def _reject(self, refused: Sequence[tuple[Row, str]]) -> None:
        """Keep rows aside that do not fit their columns; raises RunStopped."""
        segment, compactor = self._segment, self._compactor
        if not refused or segment is None or compactor is None:
            return
        try:
            for row, why in refused:
                self._rejected.add(segment.path, None, encode_row(row, self._float_columns), why)
        except OSError as error:
            raise output_failed(error) from error
        compactor.reject(len(refused))

    def _add_to_buffer(self, batch: pa.RecordBatch) -> None:
        if self._buffer.add(batch):
            self._submit_row_group()

    def _submit_row_group(self) -> None:
        if self._buffer.rows and self._compactor is not None:
            self._pending.append(self._thread.submit(_add, self._compactor, self._buffer.take()))

    def _roll(self) -> None:
        if self._rows:
            self._convert()
        self._submit_row_group()
        segment, compactor = self._segment, self._compactor
        self._segment = self._compactor = None
        if segment is not None and compactor is not None:
            self._pending.append(self._thread.submit(_finish, segment, compactor))


def _add(compactor: SegmentCompactor, group: pa.Table) -> None:
    try:
        compactor.add(group)
    except BaseException:
        compactor.abandon()
        raise


def _finish(segment: Segment, compactor: SegmentCompactor) -> None:
    try:
        segment.close()
        compactor.finish(segment.rows)
    except BaseException:
        compactor.abandon()
        raise
