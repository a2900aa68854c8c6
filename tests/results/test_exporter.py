"""All rows so far: each once, for a reader that holds no lock, whatever the writer does meanwhile."""

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
from result_rows import make

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


def waiting(place: RunDirectory, number: int, rows: list[Row]) -> Segment:
    segment = Segment(segment_path(place.journal, number))
    for row in rows:
        segment.append(row)
    return segment


def seen(place: RunDirectory, meanwhile: Callable[[], Any] = lambda: None) -> list[tuple[int, str]]:
    with open_snapshot(place) as (_, chunks):
        meanwhile()
        return [(row["ordinal"], row["response"]) for chunk in chunks for row in chunk]


def test_the_journals_row_stands_for_the_older_parts(place: RunDirectory, keep: Any) -> None:
    keep([make(0, "old"), make(1, "old")])
    waiting(place, 1, [make(1, "new"), make(2, "fresh")]).close()
    assert seen(place) == [(0, "old"), (1, "new"), (2, "fresh")]


def test_of_two_rows_in_the_journal_the_later_stands(place: RunDirectory) -> None:
    waiting(place, 0, [make(0, "first"), make(0, "second")]).close()
    waiting(place, 1, [make(0, "third")]).close()
    assert seen(place) == [(0, "third")]


def test_what_is_appended_while_reading_does_not_show_a_row_twice(place: RunDirectory, keep: Any) -> None:
    keep([make(0, "old"), make(1, "old")])
    segment = waiting(place, 1, [make(2, "fresh")])
    assert seen(place, lambda: segment.append(make(0, "new"))) == [(0, "old"), (1, "old"), (2, "fresh")]
    assert seen(place) == [(1, "old"), (2, "fresh"), (0, "new")]


def test_a_segment_that_becomes_a_part_while_reading_is_read_once(place: RunDirectory, keep: Any) -> None:
    keep([make(0, "old")])
    waiting(place, 1, [make(0, "new"), make(1, "fresh")]).close()
    assert seen(place, lambda: recover_results(place.path, SCHEMA, "zstd")) == [(0, "new"), (1, "fresh")]
    assert seen(place) == [(0, "new"), (1, "fresh")]


def test_a_segment_that_goes_before_it_is_opened_is_in_its_part(
    place: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(place, 0, [make(0, "row")]).close()
    real = exporter.segment_paths

    def listed_just_before(journal: Path) -> dict[int, Path]:
        found = real(journal)
        recover_results(place.path, SCHEMA, "zstd")
        return found

    monkeypatch.setattr(exporter, "segment_paths", listed_just_before)
    assert seen(place) == [(0, "row")]


def test_a_torn_line_is_not_shown(place: RunDirectory) -> None:
    waiting(place, 0, [make(0, "whole")]).close()
    with segment_path(place.journal, 0).open("ab") as journal:
        journal.write(b'{"custom_id": "1-j-o-0", "resp')
    assert seen(place) == [(0, "whole")]


def test_many_rows_come_in_small_lists(place: RunDirectory, keep: Any) -> None:
    keep([make(n) for n in range(3000)], size=3000)
    waiting(place, 1, [make(n) for n in range(3000, 6000)]).close()
    with open_snapshot(place) as (_, chunks):
        sizes = [len(chunk) for chunk in chunks]
    assert sum(sizes) == 6000
    assert max(sizes) <= exporter.ROWS_PER_WRITE


OWN = (
    pa.field("price", pa.decimal128(9, 2)),
    pa.field("days", pa.list_(pa.date32())),
    pa.field("odds", pa.float64()),
)
VALUES: Row = {"price": Decimal("1.50"), "days": [date(2024, 1, 2)], "odds": float("inf")}


def nested_in_journal(place: RunDirectory) -> None:
    schema = results_schema(OWN)
    place.write_run({"schema": schema_text(schema)})
    segment = Segment(segment_path(place.journal, 0), extra_float_columns(schema))
    segment.append(make(0, '汉字, "quoted"\nand more', **VALUES))
    segment.close()


@pytest.mark.parametrize("in_part", [False, True])
def test_every_export_holds_the_same_rows(place: RunDirectory, tmp_path: Path, in_part: bool) -> None:
    nested_in_journal(place)
    if in_part:
        recover_results(place.path, results_schema(OWN), "zstd")
    targets = {ending: tmp_path / "out" / f"rows.{ending}" for ending in ("csv", "jsonl", "parquet")}
    assert [export_results(place, target) for target in targets.values()] == [1, 1, 1]
    table = pq.read_table(targets["parquet"])
    assert table.schema.equals(results_schema(OWN))
    assert {name: table[name].to_pylist()[0] for name in VALUES} == VALUES
    line = json.loads(targets["jsonl"].read_text(encoding="utf-8"))
    assert (line["price"], line["days"], line["response"]) == ("1.50", ["2024-01-02"], '汉字, "quoted"\nand more')
    with targets["csv"].open(encoding="utf-8", newline="") as file:
        (cells,) = csv.DictReader(file)
    assert (cells["price"], cells["days"], cells["response"]) == ("1.50", '["2024-01-02"]', line["response"])
    assert (cells["winner"], cells["finished_at"]) == ("", "2024-05-06T07:08:09.123456+00:00")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rows.csv", "rows.jsonl", "rows.parquet"]


def test_an_export_says_what_it_cannot_do(place: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no rows yet"):
        export_results(place, tmp_path / "rows.csv")
    with pytest.raises(UsageError, match=r"ends in one of: \.csv, \.jsonl, \.parquet"):
        export_results(place, tmp_path / "rows.xlsx")
    with pytest.raises(UsageError, match="not there yet"):
        export_results(place, tmp_path / "rows.csv", samples=True)
    nested_in_journal(place)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        export_results(place, tmp_path / "file" / "rows.csv")
