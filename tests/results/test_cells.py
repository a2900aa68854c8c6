"""Cells of CSV exports: bytes as base64, and for Excel a byte order mark and no cell that runs."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_rows import stored_row

from runner.errors import UsageError
from runner.results import RunDirectory, export_results, recover_results, results_schema, schema_text
from runner.results.cells import CUT_MARK, EXCEL_CELL_MAX_UTF16_UNITS, ExcelCells, plain_cell
from runner.results.journal import Segment, segment_path

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "－好的回答",
    "- first point",
]
HARMLESS = ["-5", "+3.25", "-1e-5", "5", "a=b", " =1", "'=1", "中文", "", "3-2"]
EXTRA = (
    pa.field("blob", pa.binary()),
    pa.field("blobs", pa.list_(pa.binary())),
    pa.field("=name", pa.string()),
    pa.field("number", pa.float64()),
)


def write_run(directory: RunDirectory, texts: list[str], in_part: bool = True) -> None:
    schema = results_schema(EXTRA)
    directory.write_run({"schema": schema_text(schema)})
    segment = Segment(segment_path(directory.journal, 0))
    for ordinal, text in enumerate(texts):
        more = {"blob": b"\xff\x00" + text.encode()[:3], "blobs": [b"\xfe"], "=name": text, "number": -1.5}
        segment.append(stored_row(ordinal, text, **more))
    segment.close()
    if in_part:
        recover_results(directory.path, schema, "zstd")


def cells_of(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("in_part", [False, True])
def test_bytes_are_base64_in_every_text_format(run_directory: RunDirectory, tmp_path: Path, in_part: bool) -> None:
    write_run(run_directory, ["text"], in_part)
    for name, excel in (("a.csv", False), ("e.csv", True), ("a.jsonl", False)):
        assert export_results(run_directory, tmp_path / name, excel=excel) == 1
        assert b"b'" not in (tmp_path / name).read_bytes()
    (row,) = cells_of(tmp_path / "a.csv")
    assert base64.b64decode(row["blob"]) == b"\xff\x00tex"
    assert [base64.b64decode(item) for item in json.loads(row["blobs"])] == [b"\xfe"]
    line = json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    assert (line["blob"], line["blobs"]) == (row["blob"], json.loads(row["blobs"]))


def test_excel_opens_the_file_as_utf_8_and_runs_nothing(run_directory: RunDirectory, tmp_path: Path) -> None:
    texts = [*FORMULAS, *HARMLESS]
    write_run(run_directory, texts)
    export_results(run_directory, tmp_path / "rows.csv", excel=True)
    assert (tmp_path / "rows.csv").read_bytes().startswith(b"\xef\xbb\xbfsample_id,")
    rows = cells_of(tmp_path / "rows.csv", "utf-8-sig")
    assert [row["response"] for row in rows] == [*(f"'{text}" for text in FORMULAS), *HARMLESS]
    assert [row["'=name"] for row in rows] == [row["response"] for row in rows]
    assert {row["number"] for row in rows} == {"-1.5"}


def test_for_programs_the_texts_are_exact(run_directory: RunDirectory, tmp_path: Path) -> None:
    write_run(run_directory, FORMULAS)
    export_results(run_directory, tmp_path / "rows.csv", exact=True)
    assert (tmp_path / "rows.csv").read_bytes().startswith(b"sample_id,")
    assert [row["response"] for row in cells_of(tmp_path / "rows.csv")] == FORMULAS


def test_a_cell_that_is_too_long_for_excel_is_cut_and_counted(
    run_directory: RunDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longest = "字" * EXCEL_CELL_MAX_UTF16_UNITS
    write_run(run_directory, [longest, longest + "字", "😀" * 20_000])
    export_results(run_directory, tmp_path / "rows.csv", excel=True)
    csv.field_size_limit(1 << 20)
    first, *cut = [row["response"] for row in cells_of(tmp_path / "rows.csv", "utf-8-sig")]
    assert first == longest
    assert all(text.endswith(CUT_MARK) for text in cut)
    assert all(len(text.encode("utf-16-le")) // 2 <= EXCEL_CELL_MAX_UTF16_UNITS for text in cut)
    assert "4 cells are longer than Excel's 32,767 characters" in caplog.text


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_excel_is_an_option_of_csv(run_directory: RunDirectory, tmp_path: Path, name: str) -> None:
    write_run(run_directory, ["text"])
    with pytest.raises(UsageError, match=rf"{name}: --excel writes CSV; expected a name that ends in \.csv"):
        export_results(run_directory, tmp_path / name, excel=True)


@given(st.one_of(st.text(), st.from_regex(r"[=+\-@\t\r＝]?.{0,9}", fullmatch=True)))
def test_a_text_is_itself_or_has_an_apostrophe(text: str) -> None:
    cell = ExcelCells().cell(text)
    assert cell in (text, f"'{text}")
    if cell == text and text[:1] in tuple("=+-@\t\r\n＝＋－＠"):
        assert re.fullmatch(r"[+-][0-9.eE+-]+", text) or text == ""


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none()))
def test_numbers_stay_numbers(value: object) -> None:
    assert ExcelCells().cell(value) is value
    assert plain_cell(value) is value
