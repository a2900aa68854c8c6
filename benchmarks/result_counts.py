"""Count what a client wrote; a separate process, so that the measuring process stays small.

    python benchmarks/result_counts.py OUT PAIRS.jsonl SAMPLES

Prints JSON: the rows, the samples without an answered row, the samples with more than one, and the longest time for
which later samples overtook a long one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LONG_RATIO = 10  # a sample is long above this ratio to the median length


class Written(NamedTuple):
    """The output of a client: ids of answered samples, number of rows, and send times in Unix seconds if known."""

    ids: pa.Array
    rows: int
    sent: Sequence[float] | None


def main() -> None:
    """Parse the command line, count and print."""
    out, data, samples = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    written = read_parquet(out) or read_lines(out)
    distinct = pc.count_distinct(written.ids).as_py()
    lost, doubled = samples - distinct, len(written.ids) - distinct
    overtaken = longest_overtaking(data, written) if not lost and not doubled else None
    print(json.dumps({"rows": written.rows, "lost": lost, "doubled": doubled, "overtaken_s": overtaken}))


def read_parquet(out: Path) -> Written | None:
    """Read the rows of all Parquet files except samples.parquet; None if there are no such files."""
    paths = sorted(path for path in out.rglob("*.parquet") if path.name != "samples.parquet")
    if not paths:
        return None
    tables = []
    for path in paths:
        names = pq.read_schema(path).names
        key = "sample_id" if "sample_id" in names else "id"
        columns = [name for name in (key, "status", "finished_at", "latency_s") if name in names]
        tables.append(pq.read_table(path, columns=columns).rename_columns(["id", *columns[1:]]))
    table = pa.concat_tables(tables)
    rows = len(table)
    if "status" in table.column_names:
        table = table.filter(pc.equal(table["status"], "ok"))
    finished = table["finished_at"]
    if pa.types.is_timestamp(finished.type):
        finished = pc.divide(finished.cast(pa.int64()).cast(pa.float64()), 1e6)
    return Written(table["id"], rows, pc.subtract(finished, table["latency_s"]).to_pylist())


def read_lines(out: Path) -> Written:
    """Read the rows of JSON lines."""
    found = [json.loads(line)["id"] for path in sorted(out.glob("*.jsonl")) for line in path.open("rb")]
    return Written(pa.array(found, pa.string()), len(found), None)


def longest_overtaking(data: Path, written: Written) -> float | None:
    """Return the longest time in seconds from the first send of a later sample to the send of a long one, or None."""
    with data.open("rb") as lines:
        sizes = [len(line) for line in lines]
    typical = median(sizes)
    long = [number for number, size in enumerate(sizes) if size > LONG_RATIO * typical]
    if written.sent is None or not long:
        return None
    sent = [0.0] * len(sizes)
    for name, when in zip(written.ids.to_pylist(), written.sent, strict=True):
        sent[int(name[1:])] = when
    first_later = list(accumulate(reversed(sent), min))[::-1]
    return round(max((sent[n] - first_later[n + 1] for n in long if n + 1 < len(sent)), default=0.0), 3)


if __name__ == "__main__":
    main()
