"""Several services: each request goes to one that may ask it and answers; what fails at one goes on at another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_service import Answer, Service, bad, configure, good, status, table

from runner import RunOptions, RunSummary, arun, load_config
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


def slowly(answer: Answer, seconds: float = 0.002) -> Answer:
    async def later(ordinal: int, times: int) -> web.Response:
        await asyncio.sleep(seconds)
        reply = answer(ordinal, times)
        return reply if isinstance(reply, web.Response) else await reply

    return later


class Pair:
    """Services `a` and `b`, and a run that may ask both."""

    def __init__(self, folder: Path, a: Service, b: Service) -> None:
        self.folder, self.a, self.b = folder, a, b

    async def run(
        self, rows: int, concurrency: int = 4, limits: dict[str, Any] | None = None, **sections: Any
    ) -> RunSummary:
        services = [
            {"name": name, "base_url": f"http://127.0.0.1:{service.port}/v1", "token_env": None, "batch": False}
            | {"limits": {"concurrency": concurrency, **(limits or {})}, "timeout": {"total": 10}}
            for name, service in (("a", self.a), ("b", self.b))
        ]
        sections = {"judge": {"service": ["a", "b"]}, **sections, "services": services}
        path = configure(self.folder, "http://127.0.0.1:1/v1", rows, **sections)
        return await arun(load_config(path), RunOptions(quiet=True))

    def answered_by(self) -> Counter[str]:
        return Counter(row["service"] for row in table(self.folder).values() if row["status"] == "ok")


@asynccontextmanager
async def pair(folder: Path, a: Answer, b: Answer) -> AsyncIterator[Pair]:
    async with Service(a) as first, Service(b) as second:
        yield Pair(folder, first, second)


def fine(_: int, __: int) -> web.Response:
    return good()


async def test_alike_services_take_turns(tmp_path: Path) -> None:
    async with pair(tmp_path, slowly(fine), slowly(fine)) as both:
        summary = await both.run(200)
    assert summary.exit_code == 0
    assert both.answered_by() == {"a": both.a.asked.total(), "b": both.b.asked.total()}
    assert both.a.asked.total() + both.b.asked.total() == 200
    assert 60 <= both.a.asked.total() <= 140


async def test_a_few_requests_are_shared_too(tmp_path: Path) -> None:
    async with pair(tmp_path, fine, fine) as both:
        await both.run(8, concurrency=20)
    assert both.answered_by() == {"a": 4, "b": 4}


async def test_a_slow_service_gets_less_and_holds_nobody_up(tmp_path: Path) -> None:
    async with pair(tmp_path, slowly(fine, 0.2), slowly(fine, 0.002)) as both:
        summary = await both.run(400)
    assert summary.exit_code == 0
    assert both.a.asked.total() < 60
    assert summary.elapsed_s < 4


async def test_each_judge_asks_its_own_service(tmp_path: Path) -> None:
    judges = [
        {"name": "one", "kind": "pai_single", "service": "a"},
        {"name": "two", "kind": "pai_single", "service": "b", "repeats": 2},
    ]
    async with pair(tmp_path, slowly(fine, 0.02), fine) as both:
        summary = await both.run(50, judges=judges)
    assert summary.exit_code == 0
    assert (both.a.asked.total(), both.b.asked.total()) == (50, 100)


@pytest.mark.parametrize("code", [503, 429])
async def test_what_one_does_not_answer_the_other_does(tmp_path: Path, code: int) -> None:
    async with pair(tmp_path, lambda *_: bad(code), slowly(fine)) as both:
        summary = await both.run(100, retry={"attempts": 2})
    assert summary.exit_code == 0
    assert status(tmp_path) == dict.fromkeys(range(100), "ok")
    assert both.answered_by() == {"b": 100}
    assert both.a.asked.total() < 40  # those under way when it was noticed, and who looked since
    assert max(both.b.asked.values()) == 1


async def test_a_service_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    back = asyncio.Event()

    def away(ordinal: int, _: int) -> web.Response:
        return good() if back.is_set() else bad(503)

    async def other(ordinal: int) -> web.Response:
        if ordinal > 100:
            back.set()
        await asyncio.sleep(0.003)
        return good()

    async with pair(tmp_path, away, lambda ordinal, _: other(ordinal)) as both:
        summary = await both.run(600)
    assert summary.exit_code == 0
    assert both.answered_by()["a"] > 100


async def test_both_away_is_an_outage_and_one_back_is_enough(tmp_path: Path) -> None:
    seen = 0

    def until_later(_: int, __: int) -> web.Response:
        nonlocal seen
        seen += 1
        return bad(503) if seen < 40 else good()

    async with pair(tmp_path, lambda *_: bad(502), until_later) as both:
        summary = await both.run(60, retry={"attempts": 3})
    assert summary.exit_code == 0
    assert both.answered_by() == {"b": 60}


async def test_patience_ends_only_when_nobody_is_left(tmp_path: Path) -> None:
    async with pair(tmp_path, lambda *_: bad(503), slowly(fine, 0.03)) as both:
        summary = await both.run(100, concurrency=2, retry={"patience": 0.2})
        assert summary.exit_code == 0
    async with pair(tmp_path / "two", lambda *_: bad(503), lambda *_: bad(500)) as both:
        both.folder.mkdir()
        summary = await both.run(100, retry={"patience": 0.2})
    assert (summary.exit_code, summary.stop_reason) == (4, "outage")


@pytest.mark.parametrize("code", [401, 402, 404])
async def test_one_that_refuses_everything_is_asked_no_more(tmp_path: Path, code: int) -> None:
    def soon_over(ordinal: int, _: int) -> web.Response:
        return good() if ordinal < 20 else bad(code)

    async with pair(tmp_path, soon_over, slowly(fine)) as both:
        summary = await both.run(200)
    assert summary.exit_code == 0
    assert status(tmp_path) == dict.fromkeys(range(200), "ok")
    assert both.a.asked.total() <= 20 + 4


async def test_a_judge_without_another_service_ends_the_run(tmp_path: Path) -> None:
    judges = [
        {"name": "one", "kind": "pai_single", "service": "a"},
        {"name": "two", "kind": "pai_single", "service": ["a", "b"]},
    ]
    async with pair(tmp_path, lambda *_: bad(401), fine) as both:
        summary = await both.run(50, judges=judges)
    assert (summary.exit_code, summary.stop_reason) == (3, "authentication")


async def test_attempts_and_answers_are_carried_along(tmp_path: Path) -> None:
    """An unreadable answer of a service that then goes away: the other one is asked, and all is counted."""

    def once(_: int, times: int) -> web.Response:
        return good("Hmm.") if times == 1 else bad(503)

    async with pair(tmp_path, once, slowly(fine, 0.01)) as both:
        summary = await both.run(40, judge={"service": ["a", "b"], "reask": 1}, retry={"attempts": 50})
    rows = table(tmp_path)
    assert summary.exit_code == 0
    moved = [row for number, row in rows.items() if both.a.asked[number] and row["service"] == "b"]
    assert moved
    assert {row["prompt_tokens"] for row in moved} == {14}
    assert all(row["attempts"] == both.a.asked[n] + both.b.asked[n] for n, row in rows.items())


async def test_a_drain_in_the_middle_of_an_outage_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes: list[OnlineLane] = []
    run = OnlineLane.run

    async def noted(lane: OnlineLane) -> None:
        lanes.append(lane)
        asyncio.get_running_loop().call_later(0.2, lane.drain, RunStopped("interrupted", "drained", 130), 1.0)
        await run(lane)

    monkeypatch.setattr(OnlineLane, "run", noted)
    async with pair(tmp_path, lambda *_: bad(503), slowly(fine, 0.02)) as both:
        summary = await both.run(5000)
        assert lanes[0].services["a"]["state"] == "paused"
    assert summary.stop_reason == "interrupted"
    assert summary.elapsed_s < 5
    assert set(status(tmp_path)) == set(both.b.asked)
