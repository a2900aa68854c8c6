"""Checks of all parts together: each is whole, and no request has two rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from runner.errors import RunDirectoryError
from runner.results.parts import open_part, part_paths, read_part_batches

_IDS_PER_READ = 65_536


def count_rows(results: Path) -> int:
    """Return the number of rows by the footers of the parts; raises RunDirectoryError if one cannot be read."""
    total = 0
    for path in part_paths(results).values():
        part = open_part(path)
        total += part.metadata.num_rows
        part.close()
    return total


def check_parts(results: Path) -> None:
    """Raise RunDirectoryError if a part is damaged, or if a custom_id has several rows."""
    ids: dict[Path, pa.ChunkedArray] = {}
    for path in part_paths(results).values():
        batches = [batch.column(0) for batch in read_part_batches(path, ["custom_id"], _IDS_PER_READ)]
        ids[path] = pa.chunked_array(batches, pa.string())
    everything = pa.chunked_array([chunk for column in ids.values() for chunk in column.chunks], pa.string())
    if pc.count_distinct(everything, mode="all").as_py() == len(everything):
        return
    counts = pc.value_counts(everything)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    files = [str(path) for path, column in ids.items() if pc.any(pc.is_in(column, value_set=repeated)).as_py()]
    raise RunDirectoryError(
        f"{len(repeated):,} requests have several rows, for example {repeated[0].as_py()!r}, in {', '.join(files[:5])}"
        f"{' and others' if len(files) > 5 else ''}: if one of these files is a copy, move it away"
    )
