"""A share of failures in a window stops a run: the window slides, 429s and outages are no part of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import bad, good, judge, status
from hypothesis import given
from hypothesis import strategies as st

from runner.config import BreakerConfig
from runner.errors import ServerFault
from runner.lanes.online import outage
from runner.lanes.online.breaker import Breaker


@given(
    st.integers(1, 12), st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]), st.lists(st.booleans(), min_size=1, max_size=80)
)
def test_it_opens_when_more_than_the_share_of_the_last_calls_failed(
    window: int, share: float, calls: list[bool]
) -> None:
    breaker, last = Breaker(BreakerConfig(window=window, share=share), "default"), deque[bool](maxlen=window)
    for fails in calls:
        last.append(fails)
        if not fails:
            breaker.on_success()
            continue
        stop = breaker.on_failure(ServerFault("HTTP 500"))
        assert (stop is not None) == (len(last) == window and sum(last) > share * window)


def test_it_says_what_was_seen() -> None:
    breaker = Breaker(BreakerConfig(window=4, share=0.5), "prod")
    breaker.on_success()
    for _ in range(2):
        assert breaker.on_failure(ServerFault("HTTP 500: oops")) is None
    stop = breaker.on_failure(ServerFault("HTTP 500: the last"))
    assert stop is not None
    assert (stop.reason, stop.exit_code) == ("breaker", 4)
    for words in ("3 of the last 4", "'prod'", "server_error 3", "HTTP 500: the last"):
        assert words in str(stop)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PROBE_DELAY_MIN_SECONDS", 0.01)
    monkeypatch.setattr(outage, "PROBE_DELAY_MAX_SECONDS", 0.02)


def often_broken(ordinal: int, times: int) -> Awaitable[web.Response] | web.Response:
    return good() if (ordinal + times) % 4 == 0 else bad(500)


@pytest.mark.anyio
@pytest.mark.usefixtures("brisk")
async def test_a_run_stops_with_4_keeps_its_rows_and_goes_on_later(tmp_path: Path) -> None:
    sections = {"breaker": {"window": 20, "share": 0.5}, "retry": {"attempts": 6, "base": 0.001}}
    summary, service = await judge(tmp_path, often_broken, 400, **sections)
    assert (summary.exit_code, summary.stop_reason) == (4, "breaker")
    assert "of the last 20 calls" in (summary.message or "")
    assert service.asked.total() < 200
    kept = status(tmp_path)
    assert set(kept.values()) <= {"ok"}
    summary, service = await judge(tmp_path, lambda *_: good(), 400, **sections)
    assert summary.exit_code == 0
    assert not kept.keys() & service.asked.keys()
    assert len(status(tmp_path)) == 400


@pytest.mark.anyio
@pytest.mark.usefixtures("brisk")
async def test_429s_refusals_and_an_outage_do_not_open_it(tmp_path: Path) -> None:
    seen = 0

    def answer(ordinal: int, times: int) -> web.Response:
        nonlocal seen
        seen += 1
        if 60 < seen < 110:
            return bad(503)
        if ordinal % 3 == 0:
            return bad(400)
        return bad(429) if times < 3 else good()

    summary, _ = await judge(tmp_path, answer, 90, breaker={"window": 20, "share": 0.3}, retry={"base": 0.001})
    assert (summary.exit_code, summary.stop_reason) == (1, None)
    assert list(status(tmp_path).values()).count("ok") == 60
