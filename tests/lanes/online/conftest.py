"""Fixtures for runs of the online lane on real sockets."""

from __future__ import annotations

import pytest

from runner.lanes.online import outage


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def fast_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send probes after milliseconds, and ignore the proxy of the machine."""
    monkeypatch.setattr(outage, "PROBE_DELAY_MIN_SECONDS", 0.01)
    monkeypatch.setattr(outage, "PROBE_DELAY_MAX_SECONDS", 0.04)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
