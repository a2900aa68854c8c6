"""What is there already: leftover segments become parts, and the parts say which requests have their row.

Resume is a set difference. Nothing here asks anything; it only finds out what need not be asked.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from runner.core import TEMPORARY_SUFFIX
from runner.errors import RunDirectoryError
from runner.results.completion import ROWS_PER_READ
from runner.results.journal import read_segment, segment_paths
from runner.results.parts import RowGroupBuffer, open_part, part_path, part_paths, read_batches
from runner.results.schema import revive, to_batch
from runner.results.writer import ROWS_PER_BATCH, SegmentCompactor

log = logging.getLogger(__name__)


def recover(directory: Path, schema: pa.Schema, compression: str) -> int:
    """Bring the directory into order after whatever ended the last run, and return the next free part number.

    Unfinished files are removed; a segment whose part is there is dropped; any other becomes its part. Raises
    RunDirectoryError for a part that cannot be read and has no segment.
    """
    results, journal = directory / "results", directory / "journal"
    for place in (results, journal, directory):
        for leftover in place.glob(f".*{TEMPORARY_SUFFIX}"):
            leftover.unlink()
    segments, parts = segment_paths(journal), part_paths(results)
    for number, path in parts.items():
        _check(path, segments.get(number))
    for number, segment in segments.items():
        if part_path(results, number).exists():
            segment.unlink()
        else:
            _make_part(results, segment, number, schema, compression)
    return max([*segments, *parts], default=-1) + 1


def _check(path: Path, segment: Path | None) -> None:
    """Raise for an unreadable part, or, where its segment is still there, remove it so that it is made again.

    Where the segment is about to be dropped, the part is read whole before.
    """
    try:
        if segment is None:
            open_part(path).close()
        else:
            deque(read_batches(path), maxlen=0)
    except RunDirectoryError:
        if segment is None:
            raise
        log.warning("%s cannot be read; it is made again from its segment", path)
        path.unlink()


def _make_part(results: Path, segment: Path, number: int, schema: pa.Schema, compression: str) -> None:
    closing = SegmentCompactor(results, segment, number, schema, compression)
    owners = _owners(results, {row["custom_id"] for _, row in read_segment(segment)})
    group, fresh, count = RowGroupBuffer(schema), [], 0
    try:
        for offset, row in read_segment(segment):
            count += 1
            owner = owners.get(row["custom_id"])
            if owner is not None:
                closing.replace(owner, row["custom_id"], offset)
                continue
            fresh.append(revive(row, schema))
            if len(fresh) >= ROWS_PER_BATCH:
                if group.add(to_batch(fresh, schema)):
                    closing.add(group.take())
                fresh = []
        if fresh:
            group.add(to_batch(fresh, schema))
        if group.rows:
            closing.add(group.take())
        closing.finish(count)
    except BaseException:
        closing.abandon()
        raise


def _owners(results: Path, ids: Collection[str]) -> dict[str, int]:
    """Which part holds a row of each of these requests already."""
    wanted, owners = pa.array(ids, pa.string()), {}
    for number, path in part_paths(results).items():
        for batch in read_batches(path, ["custom_id"], size=ROWS_PER_READ):
            column = batch.column(0)
            hits = column.filter(pc.is_in(column, value_set=wanted))
            owners.update(dict.fromkeys(hits.to_pylist(), number))
    return owners
