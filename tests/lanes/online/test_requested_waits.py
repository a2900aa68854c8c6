"""A service that asks to wait for a long time: people see until when, and a wait that is too long ends the run."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import Service, configure, http_error, judge, ok, statuses

from runner import RunOptions, arun, load_config
from runner.errors import RateLimited, RunStopped
from runner.lanes import RequestedWait
from runner.lanes.online import OnlineLane
from runner.lanes.online import executor as executor_module

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_probes")]


def asks_to_wait(seconds: int) -> web.Response:
    return http_error(429, "Throttling", **{"Retry-After": str(seconds)})


@pytest.mark.parametrize("concurrency", [8, {"start": 8, "max": 64}], ids=["given", "learned"])
async def test_a_service_that_asks_every_request_to_wait_too_long_ends_the_run_at_once(
    tmp_path: Path, concurrency: int | dict[str, int]
) -> None:
    summary, service = await judge(
        tmp_path,
        lambda number, _: ok() if number < 10 else asks_to_wait(3600),
        100,
        service={"limits": {"concurrency": concurrency}},
        retry={"patience": 1000},
    )
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")
    assert summary.elapsed_s < 30
    message = summary.message or ""
    assert "asks to wait until" in message and "longer than 1000 s (online.retry.max_retry_after)" in message
    assert service.requests.total() < 60
    assert statuses(tmp_path) == dict.fromkeys(range(10), "ok")


async def test_the_status_says_until_when_one_request_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr("runner.pipeline.execute.STATUS_INTERVAL_SECONDS", 0.05)
    lanes: list[OnlineLane] = []
    run = OnlineLane.run

    async def run_and_note(lane: OnlineLane) -> None:
        lanes.append(lane)
        await run(lane)

    monkeypatch.setattr(OnlineLane, "run", run_and_note)
    status_file = tmp_path / "run" / "status.json"

    def answer(number: int, attempt: int) -> web.Response:
        return asks_to_wait(3600) if number == 5 else ok()

    async def stop_when_it_is_said() -> dict[str, object]:
        while True:
            await asyncio.sleep(0.02)
            status = json.loads(status_file.read_text()) if status_file.exists() else {}
            if status.get("paused_because"):
                lanes[0].drain(RunStopped("interrupted", "drained", 130))
                return dict(status)

    async with Service(answer) as service:
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", 20)
        judging = asyncio.create_task(arun(load_config(path), RunOptions(quiet=True)))
        status = await asyncio.wait_for(stop_when_it_is_said(), 30)
        summary = await judging
    assert (summary.exit_code, summary.counts.ok) == (130, 19)
    assert status["state"] == "paused"
    said = str(status["paused_because"])
    assert "the service 'default' asked to wait until" in said
    assert "the next attempt is at" in said  # patience is 20 s, and an hour was asked for
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert log.count("asked to wait until") == 1


def test_the_wait_that_ends_last_is_shown_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [time.time()]
    monkeypatch.setattr("runner.lanes.requested_wait.time.time", lambda: clock[0])
    wait = RequestedWait("the service 'a'", 3600)
    for seconds in (None, 1, 4):
        wait.note(RateLimited("short", retry_after=seconds))
    assert wait.text is None
    wait.note(RateLimited("long", retry_after=600))
    wait.note(RateLimited("shorter", retry_after=60))
    assert (wait.text or "").endswith("(long)")
    wait.note(RateLimited("a little longer", retry_after=610))
    assert "a little longer" in (wait.text or "")
    clock[0] += 611
    assert wait.text is None
    wait.note(RateLimited("much longer", retry_after=7200))
    assert "much longer" in (wait.text or "") and "the next attempt is at" in (wait.text or "")
    clock[0] += 3601
    assert wait.text is None
    assert [record.getMessage().count("asked to wait until") for record in caplog.records] == [1, 1]
