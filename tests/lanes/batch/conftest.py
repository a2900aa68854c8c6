"""What the tests of the batch lane share: the loop they run on, and no proxy of the machine's own."""

from __future__ import annotations

import os

import pytest

from runner.lanes.batch import lifecycle, packing


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a list twice in a row, do not wait for the disk; and no proxy of the machine's own."""
    monkeypatch.setattr(lifecycle, "LIST_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(packing, "fsync", lambda _: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
