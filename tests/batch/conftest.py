"""What the tests of the batch lane share: the loop they run on, and no proxy of the machine's own."""

from __future__ import annotations

import pytest

from runner.batch import lifecycle


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a list twice in a row; and no proxy of the machine's own."""
    monkeypatch.setattr(lifecycle, "LISTS_APART_S", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
