"""Shared by the tests of the batch lane: the event loop, short waits, and no proxy from the environment."""

from __future__ import annotations

import os

import pytest

from runner.lanes.batch import listing, packing, result_files, submission


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing: absence and silence count at once, fsync is skipped, and the environment's proxy is ignored."""
    monkeypatch.setattr(submission, "LOOK_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(listing, "ABSENT_SECONDS", 0.0)
    monkeypatch.setattr(listing, "ABSENT_ALONE_SECONDS", 0.0)
    monkeypatch.setattr(result_files, "LOOK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(packing, "fsync", lambda _: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
