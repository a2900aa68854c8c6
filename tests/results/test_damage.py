"""Bits that a disk has changed, and rows that do not fit their columns: noticed, named, and never a wrong value."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import stored_row

from runner.errors import RunDirectoryError, RunStopped
from runner.results import (
    Rejected,
    ResultWriter,
    RunDirectory,
    check_parts,
    export_results,
    load_completion_index,
    read_segment,
    recover_results,
    results_schema,
)
from runner.results.journal import Segment, decode_row, encode_row, segment_path
from runner.results.parts import part_path, read_part_batches
from runner.results.schema import FIELDS
from runner.types import Row

pytestmark = pytest.mark.anyio

SCHEMA = results_schema(())
FLIPS = 300


def write_segment(path: Path, rows: list[Row]) -> None:
    segment = Segment(path)
    segment.extend(rows)
    segment.close()


def flipped(content: bytes, seed: int) -> bytes:
    """Return the content with one bit changed."""
    bit = random.Random(seed).randrange(8 * len(content))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_in_the_journal_costs_its_rows_and_changes_none(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 0)
    write_segment(path, [stored_row(number, f"text {number}") for number in range(4)])
    whole, rows = path.read_bytes(), [row for _, row in read_segment(path)]
    lost = 0
    for seed in range(FLIPS):
        path.write_bytes(flipped(whole, seed))
        damaged: list[int] = []
        found = [row for _, row in read_segment(path, lambda offset, _, to=damaged: to.append(offset))]
        assert all({name: row.get(name) for name in rows[0]} in rows for row in found)
        # Only what looks like a row that a kill cut off, at the very end, is not mentioned.
        assert len(found) == 4 or damaged or not path.read_bytes().endswith(b"\n")
        lost += len(found) < 4
    assert lost > FLIPS / 2


def test_a_line_of_an_earlier_version_has_no_checksum(tmp_path: Path) -> None:
    line = encode_row(stored_row(3)) + b"\n"
    assert b"crc32" not in line
    row = decode_row(line)
    assert row is not None
    assert row["ordinal"] == 3
    path = segment_path(tmp_path, 0)
    write_segment(path, [stored_row(3)])
    with_checksum = decode_row(path.read_bytes())
    assert with_checksum == row
    assert isinstance(json.loads(path.read_bytes())["crc32"], str)


def test_a_flipped_bit_in_a_part_is_an_error(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(number, f"text {number}") for number in range(20)])
    path = part_path(run_directory.results, 0)
    whole = path.read_bytes()
    for seed in range(FLIPS):
        path.write_bytes(flipped(whole, seed))
        with pytest.raises(RunDirectoryError, match=r"part-00000\.parquet.*checksums/part-00000"):
            list(read_part_batches(path))
    path.write_bytes(whole)
    assert sum(batch.num_rows for batch in read_part_batches(path)) == 20


def test_pages_have_checksums_for_other_readers(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(number, "x" * 500 + str(number)) for number in range(20)])
    path = part_path(run_directory.results, 0)
    column = pq.read_metadata(path).row_group(0).column(SCHEMA.get_field_index("response"))
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


# Rows that do not fit

UNFIT: dict[str, Any] = {"int8": 2**7, "int16": 2**15, "int32": 2**31, "int64": 2**63, "double": "a", "bool": "a"}
COLUMNS = [field.name for field in FIELDS if field.name not in ("custom_id", "ordinal")]


def unfit(name: str) -> Any:
    """Return a value that the column cannot hold."""
    kind = SCHEMA.field(name).type
    return UNFIT.get(str(kind), {"a": 1} if kind in (pa.string(), SCHEMA.field("finished_at").type) else 2.5)


@pytest.mark.parametrize("name", COLUMNS)
def test_recovery_gets_past_a_row_that_does_not_fit(run_directory: RunDirectory, name: str, read_rows: Any) -> None:
    rows = [stored_row(number) for number in range(5)]
    rows[2][name] = unfit(name)
    write_segment(segment_path(run_directory.journal, 0), rows)
    exported = run_directory.path.parent / "rows.parquet"
    assert export_results(run_directory, exported) == 4
    rejected = Rejected(run_directory.journal)
    recover_results(run_directory.path, SCHEMA, "zstd", rejected)
    assert [row["ordinal"] for row in read_rows()] == [0, 1, 3, 4]
    assert (rejected.count, [path.name for path in run_directory.journal.iterdir()]) == (1, ["rejected.jsonl"])
    kept = json.loads((run_directory.journal / "rejected.jsonl").read_text())
    assert json.loads(kept["content"])["custom_id"] == "2-j-o-0"
    assert kept["file"] == "segment-00000.jsonl"
    done = load_completion_index(run_directory.path, 5, {("j", False, 0): 0})
    assert (done.missing(), done.next_wanted(0)) == (1, 2)


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_run_keeps_such_a_row_aside_and_says_so(
    run_directory: RunDirectory, replaces: bool, read_rows: Any
) -> None:
    owners = {}
    if replaces:
        first = ResultWriter(run_directory.path, SCHEMA, 0, 100, "zstd", {})
        first.append(stored_row(2, "old"))
        await first.close()
        owners = {"2-j-o-0": 0}
    rejected = Rejected(run_directory.journal)
    writer = ResultWriter(run_directory.path, SCHEMA, 1, 100, "zstd", owners, rejected)
    writer.open()
    writer.extend([stored_row(number, **({"attempts": 2**40} if number == 2 else {})) for number in range(5)])
    await writer.close()
    assert rejected.count == 1
    responses = {row["ordinal"]: row["response"] for row in read_rows()}
    assert responses == dict.fromkeys((0, 1, 3, 4), "Rating: 4") | ({2: "old"} if replaces else {})
    if not replaces:
        with pytest.raises(RunStopped, match=r"hold 4 rows, but 5 were written; 1 journal lines.*rejected\.jsonl"):
            writer.check()


def test_damaged_lines_are_kept_aside_in_recovery(run_directory: RunDirectory, read_rows: Any) -> None:
    path = segment_path(run_directory.journal, 0)
    write_segment(path, [stored_row(number) for number in range(3)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"Rating: 4", b"Rating: 5") + lines[2] + b'{"custom_id": "cut')
    rejected = Rejected(run_directory.journal)
    recover_results(run_directory.path, SCHEMA, "zstd", rejected)
    assert [row["ordinal"] for row in read_rows()] == [0, 2]
    kept = [json.loads(line) for line in (run_directory.journal / "rejected.jsonl").read_text().splitlines()]
    assert [(each["offset"], "Rating: 5" in each["content"]) for each in kept] == [(len(lines[0]), True)]


def test_a_copied_part_is_refused(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(number) for number in range(4)])
    check_parts(run_directory.results)
    shutil.copy(part_path(run_directory.results, 0), part_path(run_directory.results, 7))
    for check in (
        lambda: check_parts(run_directory.results),
        lambda: load_completion_index(run_directory.path, 4, {("j", False, 0): 0}),
    ):
        with pytest.raises(RunDirectoryError, match=r"4 requests have several rows.*part-00000.*part-00007"):
            check()
