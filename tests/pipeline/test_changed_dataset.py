"""A dataset that is rewritten while a run reads it is noticed, and samples.parquet never mixes two versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from fake_service import judge, ok, rows_by_ordinal

pytestmark = pytest.mark.anyio


async def test_a_rewritten_dataset_is_noticed(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    before: list[str] = []

    def answer(number: int, _: int) -> web.Response:
        if number == 10 and not before:
            before.append(data.read_text())
            data.write_text(before[0].replace('"answer ', '"another '))
        return ok()

    summary, _ = await judge(tmp_path, answer, 30)
    assert (summary.exit_code, summary.stop_reason, summary.counts.done) == (3, "dataset", 30)
    assert "data.jsonl: the dataset was changed during the run" in (summary.message or "")
    assert not (tmp_path / "run" / "samples.parquet").exists()
    data.write_text(before[0])
    summary, service = await judge(tmp_path, lambda *_: ok(), 30)
    assert (summary.exit_code, service.requests.total(), len(rows_by_ordinal(tmp_path))) == (0, 0, 30)
    assert (tmp_path / "run" / "samples.parquet").exists()


async def test_a_dataset_that_grows_is_no_change(tmp_path: Path) -> None:
    def answer(number: int, _: int) -> web.Response:
        if number == 10:
            with (tmp_path / "data.jsonl").open("a") as data:
                data.write('{"id": "new", "question": "question 30", "answer": "new"}\n')
        return ok()

    summary, _ = await judge(tmp_path, answer, 30)
    assert (summary.exit_code, summary.counts.done) == (0, 30)
