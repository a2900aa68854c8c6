"""Rows in: each into the journal at once, then into Arrow, and from there in a thread into the part of its segment.

The order in which a segment is closed is what keeps every row there exactly once (docs/decisions/0002-results.md):
parts whose rows are replaced are rewritten first, then the part of the segment gets its name, then the segment goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from runner.core import sync_directory
from runner.errors import output_failed
from runner.results.journal import Segment, read_at, segment_path
from runner.results.parts import PartWriter, RowGroupBuffer, part_path, rewrite_part
from runner.results.row_block import RowBlock
from runner.results.schema import columns_to_batch, own_floats, revive, to_batch
from runner.types import Row

ROWS_PER_BATCH = 256
"""Rows become Arrow so many at a time: a short pause of the loop, while they are still in its cache."""

MAX_PENDING_SEGMENTS = 2


class SegmentCompactor:
    """What becomes of one segment: fresh rows go into its part, replacing ones into the parts of the rows they replace.

    All but `replace` runs in one thread.
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
        self._taken = 0

    def add(self, group: pa.Table) -> None:
        """Take fresh rows, a row group of them."""
        if self._failed:
            return
        if self._writer is None:
            path = part_path(self._results, self._number)
            self._writer = PartWriter(path, self._schema, self._compression)
        self._writer.write(group)
        self._taken += group.num_rows

    def replace(self, part: int, custom_id: str, offset: int) -> None:
        """Take note of a row in the segment that replaces one of an older part."""
        self._replaced.setdefault(part, {})[custom_id] = offset
        self._taken += 1

    def finish(self, rows: int) -> None:
        """Rewrite, put the part in place, drop the segment: in this order.

        After a failure nothing is finished: the segment stays, and the next start makes its part. The same where not
        all of the segment's `rows` came here, which raises OSError: a segment is never dropped on trust.
        """
        if self._failed:
            return
        if self._taken != rows:
            raise OSError(f"{self._segment}: {rows} rows, of which {self._taken} were to become a part")
        for part, offsets in sorted(self._replaced.items()):
            self._rewrite(part_path(self._results, part), offsets)
        if self._writer is not None:
            self._writer.finish()
            self._writer = None
        self._segment.unlink(missing_ok=True)
        sync_directory(self._segment.parent)

    def abandon(self) -> None:
        """Leave the segment as it is and throw the unfinished part away, for good."""
        self._failed = True
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _rewrite(self, path: Path, offsets: Mapping[str, int]) -> None:
        def newest(row: Row) -> Row:
            offset = offsets.get(row["custom_id"])
            return row if offset is None else revive(read_at(self._segment, offset), self._schema)

        rewrite_part(path, self._schema, self._compression, lambda rows: [newest(row) for row in rows])


class ResultWriter:
    """Takes the rows of a run.

    Args:
        directory: the run directory; `results/` and `journal/` are in it.
        schema: of every part.
        first: number of the first segment to write.
        rows_per_part: a segment is closed when it holds so many rows.
        compression: of the parts.
        owners: number of the part that holds the row a custom_id's new row replaces.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        first: int,
        rows_per_part: int,
        compression: str,
        owners: Mapping[str, int],
    ) -> None:
        self._results = directory / "results"
        self._journal = directory / "journal"
        self._schema = schema
        self._number = first
        self._rows_per_part = rows_per_part
        self._compression = compression
        self._owners = owners
        self._floats = own_floats(schema)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._pending: list[Future[None]] = []
        self._rows: list[Row] = []
        self._group = RowGroupBuffer(schema)
        self._segment: Segment | None = None
        self._closing: SegmentCompactor | None = None

    def append(self, row: Row) -> int:
        """The same as `extend` for one row."""
        return self.extend([row])[0]

    def extend(self, rows: Sequence[Row]) -> list[int]:
        """Hand rows to the operating system; after this, SIGKILL does not lose them.

        Returns the number of the part that each will stand in. Raises RunStopped (exit code 3) where the output can no
        longer be written.
        """
        try:
            segment = self._segment or self._open()
            offsets = segment.extend(rows)
        except OSError as error:
            raise output_failed(error) from error
        parts = [self._number - 1] * len(rows)
        if self._owners:
            parts = [self._place(row, offset) for row, offset in zip(rows, offsets, strict=True)]
        else:
            self._rows += rows
        if len(self._rows) >= ROWS_PER_BATCH:
            self._convert()
        if segment.rows >= self._rows_per_part:
            self._roll()
        return parts

    def extend_block(self, block: RowBlock) -> int:
        """The same as `extend` for a block of rows that replace none; returns the part they will stand in."""
        try:
            segment = self._segment or self._open()
            segment.extend_block(block)
        except OSError as error:
            raise output_failed(error) from error
        part = self._number - 1
        if self._rows:
            self._convert()
        self._collect(columns_to_batch(block.columns, len(block), self._schema))
        if segment.rows >= self._rows_per_part:
            self._roll()
        return part

    def _place(self, row: Row, offset: int) -> int:
        """Put a row where it belongs: into the part of the row that it replaces, or into the present one."""
        owner = self._owners.get(row["custom_id"])
        if owner is None:
            self._rows.append(row)
            return self._number - 1
        if self._closing is not None:
            self._closing.replace(owner, row["custom_id"], offset)
        return owner

    async def wait_for_capacity(self) -> None:
        """Wait while the thread is behind, so that memory stays bounded; raises RunStopped where it failed."""
        while self._pending and (self._pending[0].done() or len(self._pending) > MAX_PENDING_SEGMENTS):
            await self._oldest()

    async def sync(self) -> None:
        """Bring every appended row to the disk."""
        segment = self._segment
        if segment is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, segment.sync)
            except OSError as error:
                raise output_failed(error) from error

    async def flush(self) -> None:
        """Wait until the thread has done what was handed to it; raises RunStopped where that failed."""
        while self._pending:
            await self._oldest()

    async def compact_all(self) -> None:
        """Make the open segment a part and wait until every row is in one; raises RunStopped where that failed."""
        if self._segment is not None:
            self._roll()
        await self.flush()

    async def close(self) -> None:
        """Make the open segment a part and wait until it is one; raises RunStopped where that failed."""
        try:
            await self.compact_all()
        finally:
            self._thread.shutdown(wait=True)

    def abort(self) -> None:
        """Stop at once: the segments stay as they are, and the next start makes parts of them."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._closing is not None:
            self._closing.abandon()

    async def _oldest(self) -> None:
        """Wait for the oldest piece of work; a worker that is cancelled meanwhile must not cancel the work with it."""
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
        self._segment = Segment(path, self._floats)
        self._closing = SegmentCompactor(self._results, path, self._number, self._schema, self._compression)
        self._number += 1
        return self._segment

    def _convert(self) -> None:
        rows, self._rows = self._rows, []
        self._collect(to_batch(rows, self._schema))

    def _collect(self, batch: pa.RecordBatch) -> None:
        if self._group.add(batch):
            self._hand_over()

    def _hand_over(self) -> None:
        if self._group.rows and self._closing is not None:
            self._pending.append(self._thread.submit(_add, self._closing, self._group.take()))

    def _roll(self) -> None:
        if self._rows:
            self._convert()
        self._hand_over()
        segment, closing = self._segment, self._closing
        self._segment = self._closing = None
        if segment is not None and closing is not None:
            self._pending.append(self._thread.submit(_finish, segment, closing))


def _add(closing: SegmentCompactor, group: pa.Table) -> None:
    try:
        closing.add(group)
    except BaseException:
        closing.abandon()
        raise


def _finish(segment: Segment, closing: SegmentCompactor) -> None:
    try:
        segment.close()
        closing.finish(segment.rows)
    except BaseException:
        closing.abandon()
        raise
