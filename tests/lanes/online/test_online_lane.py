"""The online lane on real sockets: which requests a run sends, which rows it keeps, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import Service, configure, http_error, judge, ok, rows_by_ordinal, statuses

from runner import RunOptions, arun, load_config
from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.errors import RunStopped
from runner.lanes.online import OnlineLane

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_probes")]


@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_requests_in_flight_never_exceed_the_concurrency(tmp_path: Path, concurrency: int) -> None:
    options = EmulatorOptions.from_mapping(
        {"latency": {"median": 0.005}, "faults": {"503": 0.05, "429": 0.05}, "seed": 4}
    )
    async with await start(options) as emulator:
        service = {"limits": {"concurrency": concurrency}}
        path = configure(tmp_path, f"{emulator.url}/v1", 150, service=service, retry={"attempts": 6})
        summary = await arun(load_config(path), RunOptions(quiet=True))
        assert emulator.stats.max_in_flight <= concurrency
    assert summary.exit_code == 0
    assert summary.retries > 0
    assert list(statuses(tmp_path).values()) == ["ok"] * 150


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_the_concurrency_is_used_in_full(tmp_path: Path, concurrency: int) -> None:
    all_arrived = asyncio.Event()

    async def answer() -> web.Response:
        if service.in_flight == concurrency:
            all_arrived.set()
        await all_arrived.wait()  # no request is answered before all have arrived
        return ok()

    async with Service(lambda *_: answer()) as service:
        limits = {"limits": {"concurrency": concurrency}}
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", 100, service=limits)
        summary = await arun(load_config(path), RunOptions(quiet=True))
    assert summary.exit_code == 0
    assert service.max_in_flight == concurrency


async def test_a_429_never_uses_up_an_attempt(tmp_path: Path) -> None:
    summary, service = await judge(
        tmp_path, lambda _, attempt: http_error(429) if attempt <= 20 else ok(), 2, retry={"attempts": 2}
    )
    assert summary.exit_code == 0
    assert set(service.requests.values()) == {21}
    assert summary.throttled == 2 * 20
    assert {row["attempts"] for row in rows_by_ordinal(tmp_path).values()} == {21}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("ordinal", [0, 12, 29], ids=["first", "middle", "last"])
@pytest.mark.parametrize("attempts", [1, 3, 7])
async def test_only_the_row_that_crashes_the_server_fails(
    tmp_path: Path, concurrency: int, ordinal: int, attempts: int
) -> None:
    summary, service = await judge(
        tmp_path,
        lambda number, _: http_error(500) if number == ordinal else ok(),
        30,
        service={"limits": {"concurrency": concurrency}},
        retry={"attempts": attempts, "base": 0.001},
    )
    assert summary.exit_code == 1
    assert service.requests[ordinal] == attempts
    rows = rows_by_ordinal(tmp_path)
    assert len(rows) == 30
    assert [number for number, row in rows.items() if row["status"] != "ok"] == [ordinal]
    row = rows[ordinal]
    assert (row["status"], row["error_type"], row["attempts"]) == ("failed", "server_error", attempts)
    assert "HTTP 500" in row["error_message"]


async def test_a_rejected_request_fails_its_row(tmp_path: Path) -> None:
    responses = {1: http_error(400), 4: http_error(422), 7: http_error(400, "DataInspectionFailed")}

    def answer(ordinal: int, _: int) -> web.Response:
        return responses.get(ordinal) or ok()

    summary, service = await judge(tmp_path, answer, 10)
    assert summary.exit_code == 1
    assert set(service.requests.values()) == {1}
    error_types = {
        number: row["error_type"] for number, row in rows_by_ordinal(tmp_path).items() if row["status"] == "failed"
    }
    assert error_types == {1: "bad_request", 4: "bad_request", 7: "content_filter"}


async def test_rejected_requests_alone_are_not_an_outage(tmp_path: Path) -> None:
    summary, service = await judge(tmp_path, lambda *_: http_error(400), 19)  # one fewer than `breaker.refusals`
    assert summary.exit_code == 1
    assert service.requests.total() == 19
    assert summary.counts.failed == 19


async def test_a_401_stops_the_run_and_keeps_the_answers_in_flight(tmp_path: Path) -> None:
    rejected = asyncio.Event()

    async def slow() -> web.Response:
        await rejected.wait()
        await asyncio.sleep(0.1)
        return ok()

    def answer(ordinal: int, _: int) -> Awaitable[web.Response] | web.Response:
        if ordinal == 5:
            rejected.set()
            return http_error(401, "InvalidApiKey")
        return slow()

    summary, service = await judge(tmp_path, answer, 200, service={"limits": {"concurrency": 6}})
    assert (summary.exit_code, summary.stop_reason) == (3, "authentication")
    assert service.requests.total() == 6
    assert statuses(tmp_path) == dict.fromkeys(range(5), "ok")  # there is no row for 5


@pytest.mark.parametrize(
    ("code", "reason"), [(404, "address"), (402, "quota"), (302, "address"), (403, "authentication")]
)
async def test_other_errors_that_the_user_must_fix_stop_the_run(tmp_path: Path, code: int, reason: str) -> None:
    summary, service = await judge(tmp_path, lambda *_: http_error(code), 50)
    assert (summary.exit_code, summary.stop_reason) == (3, reason)
    assert service.requests.total() <= 8 + 3  # those in flight, and what was sent before the third came back
    assert summary.asked == 0


@pytest.mark.parametrize("rows", [3, 60], ids=["all in flight", "many pending"])
async def test_a_service_that_is_down_for_a_while_loses_no_row(tmp_path: Path, rows: int) -> None:
    stopping = asyncio.Event()

    async def answer(ordinal: int) -> web.Response:
        if ordinal == min(20, rows - 1):
            stopping.set()
        await asyncio.sleep(0.02)
        return ok()

    service = Service(lambda ordinal, _: answer(ordinal))
    async with service:
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", rows, retry={"attempts": 2})
        running = asyncio.create_task(arun(load_config(path), RunOptions(quiet=True)))
        await stopping.wait()
    await asyncio.sleep(0.3)
    async with service:
        summary = await running
    assert summary.exit_code == 0
    assert statuses(tmp_path) == dict.fromkeys(range(rows), "ok")


async def test_a_run_exits_with_4_after_the_patience_and_can_be_resumed(tmp_path: Path) -> None:
    def down_later(ordinal: int, _: int) -> web.Response:
        return ok() if ordinal < 10 else http_error(503)

    summary, _ = await judge(tmp_path, down_later, 40, retry={"patience": 0.3})
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")
    assert "HTTP 503" in (summary.message or "")
    assert statuses(tmp_path) == dict.fromkeys(range(10), "ok")
    summary, service = await judge(tmp_path, lambda *_: ok(), 40)
    assert summary.exit_code == 0
    assert sorted(service.requests) == list(range(10, 40))
    assert len(statuses(tmp_path)) == 40


async def test_a_run_without_any_service_exits_with_4(tmp_path: Path) -> None:
    async with Service(lambda *_: ok()) as service:
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", 4, retry={"patience": 0.2, "attempts": 1})
    summary = await arun(load_config(path), RunOptions(quiet=True))
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")
    assert summary.asked == 0


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[OnlineLane]:
    """Return a list to which each lane that this test starts is added."""
    started: list[OnlineLane] = []
    run = OnlineLane.run

    async def run_and_note(lane: OnlineLane) -> None:
        started.append(lane)
        await run(lane)

    monkeypatch.setattr(OnlineLane, "run", run_and_note)
    return started


async def test_a_drain_sends_no_new_request_and_keeps_those_in_flight(tmp_path: Path, lanes: list[OnlineLane]) -> None:
    in_flight_at_drain: list[int] = []

    async def answer(ordinal: int) -> web.Response:
        await asyncio.sleep(0.05)
        if ordinal == 30:
            in_flight_at_drain.append(lanes[0].traffic.in_flight)
            lanes[0].drain(RunStopped("interrupted", "drained", 130))
            lanes[0].drain(RunStopped("other", "too late", 4))
            assert lanes[0].state == "draining"
            await asyncio.sleep(0.1)
        return ok()

    summary, service = await judge(tmp_path, lambda ordinal, _: answer(ordinal), 500)
    assert (summary.exit_code, summary.stop_reason) == (130, "interrupted")
    assert 1 <= in_flight_at_drain[0] <= 8
    assert service.requests.total() < 50
    assert statuses(tmp_path) == dict.fromkeys(service.requests, "ok")


async def test_a_drain_takes_at_most_its_grace_period(tmp_path: Path, lanes: list[OnlineLane]) -> None:
    async def answer(ordinal: int) -> web.Response:
        if ordinal >= 8:
            if ordinal == 15:
                lanes[0].drain(RunStopped("interrupted", "drained", 130), grace=0.1)
            await asyncio.sleep(20)
        return ok()

    summary, service = await judge(tmp_path, lambda ordinal, _: answer(ordinal), 100)
    assert summary.exit_code == 130
    assert summary.elapsed_s < 5
    assert service.requests.total() == 16
    assert statuses(tmp_path) == dict.fromkeys(range(8), "ok")


async def test_an_unreadable_verdict_is_requested_again_and_kept_if_that_fails(tmp_path: Path) -> None:
    def answer(ordinal: int, attempt: int) -> web.Response:
        if attempt == 1 and ordinal in (2, 5):
            return ok("Hmm.")
        return ok() if ordinal != 5 else http_error(400)

    summary, service = await judge(tmp_path, answer, 9, judge={"reask": 1})
    rows = rows_by_ordinal(tmp_path)
    assert summary.exit_code == 1
    assert (rows[2]["status"], rows[2]["attempts"], rows[2]["prompt_tokens"]) == ("ok", 2, 14)
    assert (rows[5]["status"], rows[5]["attempts"], rows[5]["response"]) == ("unparsed", 2, "Hmm.")
    assert {service.requests[2], service.requests[5]} == {2}


async def test_malformed_responses_become_rows_that_can_be_written(tmp_path: Path) -> None:
    malformed = {
        0: (200, b'{"choices": [{"message": {"content": "\\ud800 [[3]]"}}], "id": "\\udc00"}'),
        1: (400, b'{"code": "x\\ud800", "message": "m\\udfff"}'),
        2: (200, b'{"choices": [], "x": ' + b"[" * 9000),
        3: (422, b'{"detail": ' + b"[" * 700 + b"]" * 700 + b"}"),
    }

    def answer(ordinal: int, _: int) -> web.Response:
        code, raw = malformed.get(ordinal, (0, b""))
        return web.Response(status=code, body=raw) if code else ok()

    await judge(tmp_path, answer, 8, judge={"reask": 0})
    rows = rows_by_ordinal(tmp_path)
    assert len(rows) == 8
    assert "\ufffd" in rows[0]["response"]
    assert [rows[number]["error_type"] for number in (1, 2, 3)] == ["bad_request", "bad_reply", "bad_request"]
    assert rows[2]["attempts"] == 3
