"""Rows recorded together equal rows recorded one by one, whatever rows the run directory already holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from result_rows import stored_row

from runner.core import price_of
from runner.results import (
    CompletionIndex,
    ResultRecorder,
    ResultWriter,
    load_completion_index,
    recover_results,
    results_schema,
)
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Sample, Usage, Verdict

SCHEMA = results_schema(())
SHARED = {"judge": "j", "judge_model": "m", "kind": "template", "service": "s", "swapped": False, "repeat": 0}
VARIANTS = {("j", False, 0): 0}
SAMPLES = 12

OUTCOMES = (
    RequestResult(JudgeResponse("5"), Verdict(score=5.0), 1, Usage(7, 3, 10), None, "batch", "b", "s"),
    RequestResult(Failure("bad_request", "no"), None, 1, Usage(), None, "batch", "b", "s"),
    RequestResult(
        JudgeResponse("?"), Verdict(problem="conflict", detail="two"), 1, Usage(1, 1, 2), None, "batch", "b", "s"
    ),
)


def results() -> list[tuple[JudgeRequest, RequestResult]]:
    return [
        (JudgeRequest(Sample(n, f"s{n}", {}, {}, {}, ""), 0, f"{n}-j-o-0", b"", "aa"), OUTCOMES[n % len(OUTCOMES)])
        for n in range(SAMPLES)
    ]


async def run(root: Path, together: bool) -> tuple[list[Row], CompletionIndex, list[tuple[Row, int]]]:
    """Record twelve results in a run directory that holds two failures and three answers without a verdict."""
    for folder in ("results", "journal"):
        (root / folder).mkdir(parents=True)
    before = ResultWriter(root, SCHEMA, 0, 100, "zstd", {})
    for n in range(5):
        status = {"status": "unparsed", "error_type": "no_verdict"} if n < 3 else {"status": "failed"}
        before.append(stored_row(n, error_type="timeout") | status)
    await before.close()
    first = recover_results(root, SCHEMA, "zstd")
    done = load_completion_index(root, SAMPLES, VARIANTS, retry=("failed", "unparsed"))
    for n in (0, 7, 8):
        done.mark_unanswered(n, 0)
    writer = ResultWriter(root, SCHEMA, first, 100, "zstd", done.owners)
    recorder = ResultRecorder(writer, [SHARED], [price_of(1.0, 2.0, 1000, 0.5)], done)
    unparsed: list[tuple[Row, int]] = []
    if together:
        unparsed = recorder.record_all(results())
    else:
        for request, result in results():
            recorder.record(request, result)
    await writer.close()
    rows = [row for path in sorted((root / "results").iterdir()) for row in pq.read_table(path).to_pylist()]
    return [{**row, "finished_at": None} for row in rows], done, unparsed


def test_record_all_equals_record_one_by_one(tmp_path: Path) -> None:
    rows, done, unparsed = asyncio.run(run(tmp_path / "all", True))
    expected, other, _ = asyncio.run(run(tmp_path / "each", False))
    assert rows == expected
    assert done.counts == other.counts
    assert (done.missing(), other.missing()) == (0, 0)

    by_name: dict[str, Any] = {row["custom_id"]: row for row in rows}
    assert len(by_name) == len(rows) == SAMPLES
    assert (by_name["1-j-o-0"]["status"], by_name["4-j-o-0"]["error_type"]) == ("unparsed", "bad_request")
    assert [by_name[f"{n}-j-o-0"]["attempts"] for n in (0, 6, 7, 8)] == [2, 1, 2, 2]
    assert by_name["6-j-o-0"]["cost"] == 0.5 * (7 + 2 * 3) / 1000
    assert sorted((row["custom_id"], part) for row, part in unparsed) == [
        *(("11-j-o-0", 1), ("2-j-o-0", 0), ("5-j-o-0", 1), ("8-j-o-0", 1)),
    ]


def test_recording_no_results(tmp_path: Path) -> None:
    done = CompletionIndex(SAMPLES, VARIANTS)
    assert (
        ResultRecorder(
            ResultWriter(tmp_path, SCHEMA, 0, 100, "zstd", {}), [SHARED], [price_of(1, 1, 1)], done
        ).record_all([])
        == []
    )
