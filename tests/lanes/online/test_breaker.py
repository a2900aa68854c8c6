"""The breaker stops a run if too large a share of the last calls failed; 429s and outages do not count."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Awaitable
from pathlib import Path

import pytest
from aiohttp import web
from fake_service import http_error, judge, ok, statuses
from hypothesis import given
from hypothesis import strategies as st

from runner.config import BreakerConfig
from runner.errors import ServerFault
from runner.lanes.online import outage
from runner.lanes.online.breaker import Breaker


@given(
    st.integers(1, 12), st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]), st.lists(st.booleans(), min_size=1, max_size=80)
)
def test_the_breaker_opens_if_the_failed_share_of_the_last_calls_is_above_the_limit(
    window: int, share: float, calls: list[bool]
) -> None:
    breaker, last = Breaker(BreakerConfig(window=window, share=share), "default"), deque[bool](maxlen=window)
    limit, above = share * window, 0
    for is_failure in calls:
        last.append(is_failure)
        above = above + 1 if len(last) == window and sum(last) > limit else 0
        if not is_failure:
            breaker.on_success()
            continue
        stop = breaker.on_failure(ServerFault("HTTP 500"))
        is_clear = sum(last) > limit + 3 * math.sqrt(limit * (1 - share))
        assert (stop is not None) == (above > 0 and (is_clear or above >= window))


def test_errors_at_random_below_the_share_do_not_open_it_and_above_it_they_do() -> None:
    draws = random.Random(5)
    for share, opens in ((0.4, False), (0.6, True)):
        breaker = Breaker(BreakerConfig(), "default")
        stops = []
        for _ in range(20_000 if not opens else 2000):
            if draws.random() < share:
                stops.append(breaker.on_failure(ServerFault("HTTP 500")))
            else:
                breaker.on_success()
        assert any(stops) is opens


def test_the_message_gives_the_share_the_service_and_the_errors() -> None:
    breaker = Breaker(BreakerConfig(window=100, share=0.5), "prod")
    for _ in range(30):
        breaker.on_success()
    for _ in range(69):
        assert breaker.on_failure(ServerFault("HTTP 500: oops")) is None
    stop = breaker.on_failure(ServerFault("HTTP 500: the last"))
    assert stop is not None
    assert (stop.reason, stop.exit_code) == ("breaker", 4)
    for part in ("70 of the last 100", "'prod'", "server_error 70", "HTTP 500: the last", "fewer at once"):
        assert part in str(stop)


@pytest.fixture
def fast_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send probes after milliseconds."""
    monkeypatch.setattr(outage, "PROBE_DELAY_MIN_SECONDS", 0.01)
    monkeypatch.setattr(outage, "PROBE_DELAY_MAX_SECONDS", 0.02)


def mostly_failing(ordinal: int, attempt: int) -> Awaitable[web.Response] | web.Response:
    return ok() if (ordinal + attempt) % 4 == 0 else http_error(500)


@pytest.mark.anyio
@pytest.mark.usefixtures("fast_probes")
async def test_a_run_exits_with_4_keeps_its_rows_and_can_be_resumed(tmp_path: Path) -> None:
    sections = {"breaker": {"window": 20, "share": 0.5}, "retry": {"attempts": 6, "base": 0.001}}
    summary, service = await judge(tmp_path, mostly_failing, 400, **sections)
    assert (summary.exit_code, summary.stop_reason) == (4, "breaker")
    assert "of the last 20 calls" in (summary.message or "")
    assert service.requests.total() < 200
    kept = statuses(tmp_path)
    assert set(kept.values()) <= {"ok"}
    summary, service = await judge(tmp_path, lambda *_: ok(), 400, **sections)
    assert summary.exit_code == 0
    assert not kept.keys() & service.requests.keys()
    assert len(statuses(tmp_path)) == 400


@pytest.mark.anyio
@pytest.mark.usefixtures("fast_probes")
async def test_429s_rejected_requests_and_an_outage_do_not_open_the_breaker(tmp_path: Path) -> None:
    requests = 0

    def answer(ordinal: int, attempt: int) -> web.Response:
        nonlocal requests
        requests += 1
        if 60 < requests < 110:
            return http_error(503)
        if ordinal % 3 == 0:
            return http_error(400)
        return http_error(429) if attempt < 3 else ok()

    summary, _ = await judge(tmp_path, answer, 90, breaker={"window": 20, "share": 0.3}, retry={"base": 0.001})
    assert (summary.exit_code, summary.stop_reason) == (1, None)
    assert list(statuses(tmp_path).values()).count("ok") == 60
