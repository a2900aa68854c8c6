"""The report of a run that goes on or was killed: rows of the journal count, each request once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_runs import make_run, row

from runner.report import render, summarize
from runner.results import RunDirectory, encode_row, export_journal, results_schema, schema_text


def add_segment(run: Path, number: int, lines: list[bytes]) -> None:
    (run / "journal").mkdir(exist_ok=True)
    (run / "journal" / f"segment-{number:05}.jsonl").write_bytes(b"".join(lines))


def with_journal(run: Path, target: Path) -> dict[str, Any]:
    count = export_journal(RunDirectory(run), target)
    return summarize(run, journal=str(target) if count else "")


def line(n: int, **more: Any) -> bytes:
    return encode_row(row(n, **more)) + b"\n"


def test_rows_of_the_journal_count_once(tmp_path: Path) -> None:
    """One row is new, one replaces the row of a part, one is written twice, one is torn, one segment is a part now."""
    parts = [row(n, score=1.0) for n in range(4)]
    run = make_run(tmp_path / "run", parts, samples=False, run={"state": "running"})
    add_segment(run, 1, [line(77, score=5.0)])
    add_segment(run, 2, [line(3, score=3.0), line(4, score=1.0), line(4, score=4.0), line(9, score=2.0)[:-40]])
    data = with_journal(run, tmp_path / "journal")
    assert data["settings"]["journal_rows"] == 2
    assert data["counts"]["all"]["rows"] == 5
    assert data["distributions"]["scores"][0]["mean"]["value"] == pytest.approx((1 + 1 + 1 + 3 + 4) / 5)
    assert "Rows that are still in the journal" not in render(data)


def test_before_the_first_part_there_is_only_the_journal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    state = {"schema_version": 1, "state": "running", "schema": schema_text(results_schema(()))}
    (run / "run.json").write_text(json.dumps(state))
    add_segment(run, 0, [line(n, winner="1") for n in range(7)])
    data = with_journal(run, tmp_path / "journal")
    assert data["counts"]["all"]["rows"] == data["settings"]["journal_rows"] == 7
    assert "There are no rows" not in render(data)


def test_a_report_that_did_not_read_the_journal_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [], samples=False, run={"state": "running"})
    add_segment(run, 0, [line(0, winner="1")])
    page = render(summarize(run))
    assert "Rows that are still in the journal are not included." in page
    assert "There are no rows in Parquet parts yet." in page


def test_without_a_journal_nothing_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [row(0, score=1.0)], samples=False, run={"state": "stopped"})
    data = with_journal(run, tmp_path / "journal")
    assert data["settings"]["journal_rows"] == 0
    assert "journal" not in render(data)
