"""How a run ends that something from outside ends: SIGHUP drains it, an internal error is written down."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import judge, ok, rows_by_ordinal

from runner.lanes.online import OnlineLane

pytestmark = pytest.mark.anyio


async def test_sighup_drains(tmp_path: Path) -> None:
    def answer(number: int, _: int) -> web.Response:
        if number == 10:
            os.kill(os.getpid(), signal.SIGHUP)
        return ok()

    summary, _ = await judge(tmp_path, answer, 5000, service={"limits": {"concurrency": 2}})
    assert (summary.exit_code, summary.stop_reason) == (143, "terminated")
    assert 10 <= summary.counts.done < 5000


async def test_an_ignored_sighup_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def answer(number: int, _: int) -> web.Response:
            if number == 10:
                os.kill(os.getpid(), signal.SIGHUP)
            return ok()

        summary, _ = await judge(tmp_path, answer, 50)
        assert (summary.exit_code, summary.counts.done) == (0, 50)
    finally:
        signal.signal(signal.SIGHUP, previous)


async def test_an_internal_error_is_in_run_json_and_the_next_run_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OnlineLane.run

    async def fail(lane: OnlineLane) -> None:
        raise LookupError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(OnlineLane, "run", fail)
        with pytest.raises((LookupError, ExceptionGroup)):
            await judge(tmp_path, lambda *_: ok(), 20)
    assert OnlineLane.run is run
    data = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (data["state"], data["exit_code"], data["stop_reason"]) == ("stopped", 70, "internal")
    assert data["stop_message"] == "LookupError: a bug"
    summary, service = await judge(tmp_path, lambda *_: ok(), 20)
    assert (summary.exit_code, service.requests.total(), len(rows_by_ordinal(tmp_path))) == (0, 20, 20)
