"""A run whose directory is moved, deleted or replaced, or whose parts vanish, ends with exit code 3."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from fake_service import judge, ok, rows_by_ordinal

from runner.results import RunDirectory

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_directory_that_is_moved_ends_the_run(tmp_path: Path, is_replaced: bool) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"

    def answer(number: int, _: int) -> web.Response:
        if number == 20:
            run.rename(moved)
            if is_replaced:
                with_another = RunDirectory(run)
                with_another.prepare()
                (run / "lock").touch()
        return ok()

    summary, _ = await judge(tmp_path, answer, 100_000, service={"limits": {"concurrency": 2}})
    assert (summary.exit_code, summary.stop_reason) == (3, "output")
    assert "put the run directory back in its place" in (summary.message or "")
    assert run.exists() == is_replaced
    if is_replaced:
        assert sorted(path.name for path in run.rglob("*")) == ["journal", "lock", "results"]
        run.rename(tmp_path / "other")
        (tmp_path / "other").rename(tmp_path / "another")
    moved.rename(run)
    answered = summary.counts.done
    summary, service = await judge(tmp_path, lambda *_: ok(), answered + 5)
    assert (summary.exit_code, len(rows_by_ordinal(tmp_path))) == (0, answered + 5)
    assert service.requests.total() == 5


async def test_a_part_that_vanishes_is_missed_at_the_end(tmp_path: Path) -> None:
    part = tmp_path / "run" / "results" / "part-00000.parquet"

    def answer(number: int, _: int) -> web.Response:
        if part.exists():
            part.unlink()
        return ok()

    output = {"directory": "run", "rows_per_part": 1000}
    summary, _ = await judge(tmp_path, answer, 2500, output=output)
    assert (summary.exit_code, summary.stop_reason) == (3, "output")
    assert "the parts hold 1,500 rows, but 2,500 were written" in (summary.message or "")
    again, service = await judge(tmp_path, lambda *_: ok(), 2500, output=output)
    assert (again.exit_code, service.requests.total(), len(rows_by_ordinal(tmp_path))) == (0, 1000, 2500)
