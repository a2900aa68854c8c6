"""Count what a client wrote, in a process of its own: who measures stays small.

    python benchmarks/result_counts.py OUT PAIRS.jsonl SAMPLES

Prints JSON: rows, samples without an answered row, samples with more than one, and for how long a long sample was
overtaken by later ones at most.
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

LONG = 10
"""A sample is long from so many times the median on."""


class Written(NamedTuple):
    """What was found: ids of answered samples, all rows, and when requests were sent, where it is known."""

    ids: pa.Array
    rows: int
    sent: Sequence[float] | None


def main() -> None:
    """Count and print."""
    out, data, samples = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    written = read_parquet(out) or read_lines(out)
    distinct = pc.count_distinct(written.ids).as_py()
    lost, doubled = samples - distinct, len(written.ids) - distinct
    overtaken = longest_overtaking(data, written) if not lost and not doubled else None
    print(json.dumps({"rows": written.rows, "lost": lost, "doubled": doubled, "overtaken_s": overtaken}))


def read_parquet(out: Path) -> Written | None:
    """Rows of all Parquet files but the one with a line per sample; None where there are none."""
    paths = sorted(path for path in out.rglob("*.parquet") if path.name != "samples.parquet")
    if not paths:
        return None
    tables = []
    for path in paths:
        names = pq.read_schema(path).names
        key = "sample_id" if "sample_id" in names else "id"
        wanted = [name for name in (key, "status", "finished_at", "latency_s") if name in names]
        tables.append(pq.read_table(path, columns=wanted).rename_columns(["id", *wanted[1:]]))
    table = pa.concat_tables(tables)
    rows = len(table)
    if "status" in table.column_names:
        table = table.filter(pc.equal(table["status"], "ok"))
    finished = table["finished_at"]
    if pa.types.is_timestamp(finished.type):
        finished = pc.divide(finished.cast(pa.int64()).cast(pa.float64()), 1e6)
    return Written(table["id"], rows, pc.subtract(finished, table["latency_s"]).to_pylist())


def read_lines(out: Path) -> Written:
    """Rows of JSON lines."""
    found = [json.loads(line)["id"] for path in sorted(out.glob("*.jsonl")) for line in path.open("rb")]
    return Written(pa.array(found, pa.string()), len(found), None)


def longest_overtaking(data: Path, written: Written) -> float | None:
    """Seconds between the first later sample that was sent and a long one itself, at most; None without long ones."""
    with data.open("rb") as lines:
        sizes = [len(line) for line in lines]
    usual = median(sizes)
    long = [number for number, size in enumerate(sizes) if size > LONG * usual]
    if written.sent is None or not long:
        return None
    sent = [0.0] * len(sizes)
    for name, when in zip(written.ids.to_pylist(), written.sent, strict=True):
        sent[int(name[1:])] = when
    first_later = list(accumulate(reversed(sent), min))[::-1]
    return round(max((sent[n] - first_later[n + 1] for n in long if n + 1 < len(sent)), default=0.0), 3)


if __name__ == "__main__":
    main()
