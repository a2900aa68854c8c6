"""The whole lane over a real socket: what a run sends, what it keeps, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import Service, bad, configure, good, judge, status, table

from runner import RunOptions, arun, load_config
from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.errors import RunStopped
from runner.lanes.online import OnlineLane, outage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe at once; and no proxy of the machine's own."""
    monkeypatch.setattr(outage, "PROBE_DELAY_MIN_SECONDS", 0.01)
    monkeypatch.setattr(outage, "PROBE_DELAY_MAX_SECONDS", 0.04)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_concurrency_is_never_above_the_setting(tmp_path: Path, concurrency: int) -> None:
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
    assert list(status(tmp_path).values()) == ["ok"] * 150


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_concurrency_is_used_in_full(tmp_path: Path, concurrency: int) -> None:
    full = asyncio.Event()

    async def answer() -> web.Response:
        if service.in_flight == concurrency:
            full.set()
        await full.wait()  # nobody is answered before all are there
        return good()

    async with Service(lambda *_: answer()) as service:
        limits = {"limits": {"concurrency": concurrency}}
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", 100, service=limits)
        summary = await arun(load_config(path), RunOptions(quiet=True))
    assert summary.exit_code == 0
    assert service.most == concurrency


async def test_a_429_never_uses_up_attempts(tmp_path: Path) -> None:
    summary, service = await judge(
        tmp_path, lambda _, times: bad(429) if times <= 20 else good(), 2, retry={"attempts": 2}
    )
    assert summary.exit_code == 0
    assert set(service.asked.values()) == {21}
    assert summary.throttled == 2 * 20
    assert {row["attempts"] for row in table(tmp_path).values()} == {21}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("ordinal", [0, 12, 29], ids=["first", "middle", "last"])
@pytest.mark.parametrize("attempts", [1, 3, 7])
async def test_a_row_that_kills_its_server_fails_alone(
    tmp_path: Path, concurrency: int, ordinal: int, attempts: int
) -> None:
    summary, service = await judge(
        tmp_path,
        lambda number, _: bad(500) if number == ordinal else good(),
        30,
        service={"limits": {"concurrency": concurrency}},
        retry={"attempts": attempts, "base": 0.001},
    )
    assert summary.exit_code == 1
    assert service.asked[ordinal] == attempts
    rows = table(tmp_path)
    assert len(rows) == 30
    assert [number for number, row in rows.items() if row["status"] != "ok"] == [ordinal]
    row = rows[ordinal]
    assert (row["status"], row["error_type"], row["attempts"]) == ("failed", "server_error", attempts)
    assert "HTTP 500" in row["error_message"]


async def test_refusals_belong_to_their_rows(tmp_path: Path) -> None:
    replies = {1: bad(400), 4: bad(422), 7: bad(400, "DataInspectionFailed")}

    def answer(ordinal: int, _: int) -> web.Response:
        return replies.get(ordinal) or good()

    summary, service = await judge(tmp_path, answer, 10)
    assert summary.exit_code == 1
    assert set(service.asked.values()) == {1}
    kinds = {number: row["error_type"] for number, row in table(tmp_path).items() if row["status"] == "failed"}
    assert kinds == {1: "bad_request", 4: "bad_request", 7: "content_filter"}


async def test_only_refusals_are_no_outage(tmp_path: Path) -> None:
    summary, service = await judge(tmp_path, lambda *_: bad(400), 40)
    assert summary.exit_code == 1
    assert service.asked.total() == 40
    assert summary.counts.failed == 40


async def test_401_stops_and_keeps_what_is_under_way(tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def slow() -> web.Response:
        await entered.wait()
        await asyncio.sleep(0.1)
        return good()

    def answer(ordinal: int, _: int) -> Awaitable[web.Response] | web.Response:
        if ordinal == 5:
            entered.set()
            return bad(401, "InvalidApiKey")
        return slow()

    summary, service = await judge(tmp_path, answer, 200, service={"limits": {"concurrency": 6}})
    assert (summary.exit_code, summary.stop_reason) == (3, "authentication")
    assert service.asked.total() == 6
    assert status(tmp_path) == dict.fromkeys(range(5), "ok")  # 5 itself leaves no row


@pytest.mark.parametrize(
    ("code", "reason"), [(404, "address"), (402, "quota"), (302, "address"), (403, "authentication")]
)
async def test_other_causes_that_a_person_must_see_to(tmp_path: Path, code: int, reason: str) -> None:
    summary, service = await judge(tmp_path, lambda *_: bad(code), 50)
    assert (summary.exit_code, summary.stop_reason) == (3, reason)
    assert service.asked.total() <= 8
    assert summary.asked == 0


@pytest.mark.parametrize("rows", [3, 60], ids=["all under way", "many left"])
async def test_a_service_that_goes_away_for_a_while_costs_nothing(tmp_path: Path, rows: int) -> None:
    gone = asyncio.Event()

    async def answer(ordinal: int) -> web.Response:
        if ordinal == min(20, rows - 1):
            gone.set()
        await asyncio.sleep(0.02)
        return good()

    service = Service(lambda ordinal, _: answer(ordinal))
    async with service:
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", rows, retry={"attempts": 2})
        running = asyncio.create_task(arun(load_config(path), RunOptions(quiet=True)))
        await gone.wait()
    await asyncio.sleep(0.3)
    async with service:
        summary = await running
    assert summary.exit_code == 0
    assert status(tmp_path) == dict.fromkeys(range(rows), "ok")


async def test_patience_ends_with_4_and_the_next_run_goes_on(tmp_path: Path) -> None:
    def away_later(ordinal: int, _: int) -> web.Response:
        return good() if ordinal < 10 else bad(503)

    summary, _ = await judge(tmp_path, away_later, 40, retry={"patience": 0.3})
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")
    assert "HTTP 503" in (summary.message or "")
    assert status(tmp_path) == dict.fromkeys(range(10), "ok")
    summary, service = await judge(tmp_path, lambda *_: good(), 40)
    assert summary.exit_code == 0
    assert sorted(service.asked) == list(range(10, 40))
    assert len(status(tmp_path)) == 40


async def test_nobody_there_at_all(tmp_path: Path) -> None:
    async with Service(lambda *_: good()) as service:
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", 4, retry={"patience": 0.2, "attempts": 1})
    summary = await arun(load_config(path), RunOptions(quiet=True))
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")
    assert summary.asked == 0


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[OnlineLane]:
    """The lanes that runs of this test start."""
    seen: list[OnlineLane] = []
    run = OnlineLane.run

    async def noted(lane: OnlineLane) -> None:
        seen.append(lane)
        await run(lane)

    monkeypatch.setattr(OnlineLane, "run", noted)
    return seen


async def test_a_drain_sends_nothing_new_and_keeps_what_is_under_way(tmp_path: Path, lanes: list[OnlineLane]) -> None:
    drained: list[int] = []

    async def answer(ordinal: int) -> web.Response:
        await asyncio.sleep(0.05)
        if ordinal == 30:
            drained.append(lanes[0].traffic.in_flight)
            lanes[0].drain(RunStopped("interrupted", "drained", 130))
            lanes[0].drain(RunStopped("other", "too late", 4))
            assert lanes[0].state == "draining"
            await asyncio.sleep(0.1)
        return good()

    summary, service = await judge(tmp_path, lambda ordinal, _: answer(ordinal), 500)
    assert (summary.exit_code, summary.stop_reason) == (130, "interrupted")
    assert 1 <= drained[0] <= 8
    assert service.asked.total() < 50
    assert status(tmp_path) == dict.fromkeys(service.asked, "ok")


async def test_grace_is_the_longest_that_a_drain_takes(tmp_path: Path, lanes: list[OnlineLane]) -> None:
    async def answer(ordinal: int) -> web.Response:
        if ordinal >= 8:
            if ordinal == 15:
                lanes[0].drain(RunStopped("interrupted", "drained", 130), grace=0.1)
            await asyncio.sleep(20)
        return good()

    summary, service = await judge(tmp_path, lambda ordinal, _: answer(ordinal), 100)
    assert summary.exit_code == 130
    assert summary.elapsed_s < 5
    assert service.asked.total() == 16
    assert status(tmp_path) == dict.fromkeys(range(8), "ok")


async def test_an_unreadable_verdict_is_asked_again_and_a_failure_then_does_not_cost_the_answer(tmp_path: Path) -> None:
    def answer(ordinal: int, times: int) -> web.Response:
        if times == 1 and ordinal in (2, 5):
            return good("Hmm.")
        return good() if ordinal != 5 else bad(400)

    summary, service = await judge(tmp_path, answer, 9, judge={"reask": 1})
    rows = table(tmp_path)
    assert summary.exit_code == 1
    assert (rows[2]["status"], rows[2]["attempts"], rows[2]["prompt_tokens"]) == ("ok", 2, 14)
    assert (rows[5]["status"], rows[5]["attempts"], rows[5]["response"]) == ("unparsed", 2, "Hmm.")
    assert {service.asked[2], service.asked[5]} == {2}


async def test_odd_replies_become_rows_that_can_be_written(tmp_path: Path) -> None:
    odd = {
        0: (200, b'{"choices": [{"message": {"content": "\\ud800 [[3]]"}}], "id": "\\udc00"}'),
        1: (400, b'{"code": "x\\ud800", "message": "m\\udfff"}'),
        2: (200, b'{"choices": [], "x": ' + b"[" * 9000),
        3: (422, b'{"detail": ' + b"[" * 700 + b"]" * 700 + b"}"),
    }

    def answer(ordinal: int, _: int) -> web.Response:
        code, raw = odd.get(ordinal, (0, b""))
        return web.Response(status=code, body=raw) if code else good()

    await judge(tmp_path, answer, 8, judge={"reask": 0})
    rows = table(tmp_path)
    assert len(rows) == 8
    assert "\ufffd" in rows[0]["response"]
    assert [rows[number]["error_type"] for number in (1, 2, 3)] == ["bad_request", "bad_reply", "bad_request"]
    assert rows[2]["attempts"] == 3
