"""Snapshots and exports: each row once, without the lock, whatever the writer does in the meantime."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import stored_row

from runner.errors import UsageError
from runner.results import (
    RunDirectory,
    export_results,
    exporter,
    extra_float_columns,
    open_snapshot,
    recover_results,
    results_schema,
    schema_text,
)
from runner.results.journal import Segment, segment_path
from runner.types import Row

SCHEMA = results_schema(())


def open_segment(run_directory: RunDirectory, number: int, rows: list[Row]) -> Segment:
    segment = Segment(segment_path(run_directory.journal, number))
    for row in rows:
        segment.append(row)
    return segment


def read_snapshot(
    run_directory: RunDirectory, while_reading: Callable[[], Any] = lambda: None
) -> list[tuple[int, str]]:
    with open_snapshot(run_directory) as (_, chunks):
        while_reading()
        return [(row["ordinal"], row["response"]) for chunk in chunks for row in chunk]


def test_a_journal_row_replaces_the_row_in_an_older_part(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(0, "old"), stored_row(1, "old")])
    open_segment(run_directory, 1, [stored_row(1, "new"), stored_row(2, "added")]).close()
    assert read_snapshot(run_directory) == [(0, "old"), (1, "new"), (2, "added")]


def test_the_later_of_two_journal_rows_counts(run_directory: RunDirectory) -> None:
    open_segment(run_directory, 0, [stored_row(0, "first"), stored_row(0, "second")]).close()
    open_segment(run_directory, 1, [stored_row(0, "third")]).close()
    assert read_snapshot(run_directory) == [(0, "third")]


def test_rows_appended_while_reading_are_not_in_the_snapshot(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(0, "old"), stored_row(1, "old")])
    segment = open_segment(run_directory, 1, [stored_row(2, "added")])
    assert read_snapshot(run_directory, lambda: segment.append(stored_row(0, "new"))) == [
        (0, "old"),
        (1, "old"),
        (2, "added"),
    ]
    assert read_snapshot(run_directory) == [(1, "old"), (2, "added"), (0, "new")]


def test_a_segment_that_becomes_a_part_while_reading_is_read_once(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(0, "old")])
    open_segment(run_directory, 1, [stored_row(0, "new"), stored_row(1, "added")]).close()
    assert read_snapshot(run_directory, lambda: recover_results(run_directory.path, SCHEMA, "zstd")) == [
        (0, "new"),
        (1, "added"),
    ]
    assert read_snapshot(run_directory) == [(0, "new"), (1, "added")]


def test_a_segment_deleted_before_it_is_opened_is_read_from_its_part(
    run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_segment(run_directory, 0, [stored_row(0, "row")]).close()
    real = exporter.segment_paths

    def list_then_recover(journal: Path) -> dict[int, Path]:
        found = real(journal)
        recover_results(run_directory.path, SCHEMA, "zstd")
        return found

    monkeypatch.setattr(exporter, "segment_paths", list_then_recover)
    assert read_snapshot(run_directory) == [(0, "row")]


def test_a_torn_line_is_skipped(run_directory: RunDirectory) -> None:
    open_segment(run_directory, 0, [stored_row(0, "whole")]).close()
    with segment_path(run_directory.journal, 0).open("ab") as journal:
        journal.write(b'{"custom_id": "1-j-o-0", "resp')
    assert read_snapshot(run_directory) == [(0, "whole")]


def test_rows_are_read_in_small_lists(run_directory: RunDirectory, write_rows: Any) -> None:
    write_rows([stored_row(n) for n in range(3000)], size=3000)
    open_segment(run_directory, 1, [stored_row(n) for n in range(3000, 6000)]).close()
    with open_snapshot(run_directory) as (_, chunks):
        sizes = [len(chunk) for chunk in chunks]
    assert sum(sizes) == 6000
    assert max(sizes) <= exporter.ROWS_PER_WRITE


EXTRA = (
    pa.field("price", pa.decimal128(9, 2)),
    pa.field("days", pa.list_(pa.date32())),
    pa.field("odds", pa.float64()),
)
EXTRA_VALUES: Row = {"price": Decimal("1.50"), "days": [date(2024, 1, 2)], "odds": float("inf")}


def write_extra_columns(run_directory: RunDirectory) -> None:
    schema = results_schema(EXTRA)
    run_directory.write_run({"schema": schema_text(schema)})
    segment = Segment(segment_path(run_directory.journal, 0), extra_float_columns(schema))
    segment.append(stored_row(0, '汉字, "quoted"\nand more', **EXTRA_VALUES))
    segment.close()


@pytest.mark.parametrize("in_part", [False, True])
def test_every_format_exports_the_same_rows(run_directory: RunDirectory, tmp_path: Path, in_part: bool) -> None:
    write_extra_columns(run_directory)
    if in_part:
        recover_results(run_directory.path, results_schema(EXTRA), "zstd")
    targets = {ending: tmp_path / "out" / f"rows.{ending}" for ending in ("csv", "jsonl", "parquet")}
    assert [export_results(run_directory, target) for target in targets.values()] == [1, 1, 1]
    table = pq.read_table(targets["parquet"])
    assert table.schema.equals(results_schema(EXTRA))
    assert {name: table[name].to_pylist()[0] for name in EXTRA_VALUES} == EXTRA_VALUES
    line = json.loads(targets["jsonl"].read_text(encoding="utf-8"))
    assert (line["price"], line["days"], line["response"]) == ("1.50", ["2024-01-02"], '汉字, "quoted"\nand more')
    with targets["csv"].open(encoding="utf-8", newline="") as file:
        (cells,) = csv.DictReader(file)
    assert (cells["price"], cells["days"], cells["response"]) == ("1.50", '["2024-01-02"]', line["response"])
    assert (cells["winner"], cells["finished_at"]) == ("", "2024-05-06T07:08:09.123456+00:00")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rows.csv", "rows.jsonl", "rows.parquet"]


FORMULAS = ['=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "＝1"]


def test_no_cell_of_a_csv_is_a_formula_unless_that_is_asked_for(run_directory: RunDirectory, tmp_path: Path) -> None:
    segment = Segment(segment_path(run_directory.journal, 0))
    for number, text in enumerate([*FORMULAS, "-1.5", "text", "a=b"]):
        segment.append(stored_row(number, text, score=-1.5))
    segment.close()
    for exact, prefix in ((False, "'"), (True, "")):
        target = tmp_path / f"rows{exact}.csv"
        export_results(run_directory, target, exact=exact)
        with target.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["response"] for row in rows] == [*(prefix + text for text in FORMULAS), "-1.5", "text", "a=b"]
        assert {row["score"] for row in rows} == {"-1.5"}
    with pytest.raises(UsageError, match="--exact writes CSV for programs"):
        export_results(run_directory, tmp_path / "rows.jsonl", exact=True)


def test_an_impossible_export_is_reported(run_directory: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no rows yet"):
        export_results(run_directory, tmp_path / "rows.csv")
    with pytest.raises(UsageError, match=r"ends in one of: \.csv, \.jsonl, \.parquet"):
        export_results(run_directory, tmp_path / "rows.xlsx")
    with pytest.raises(UsageError, match="not there yet"):
        export_results(run_directory, tmp_path / "rows.csv", samples=True)
    write_extra_columns(run_directory)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        export_results(run_directory, tmp_path / "file" / "rows.csv")
