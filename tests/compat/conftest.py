"""Tests with third-party tools. `make test-compat` runs them; they install what they need into `.compat/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from external_tools import Server, node_modules, python_home
from page_examples import Page, read_page

from runner.lanes.batch import listing, submission


@pytest.fixture(scope="session", params=("1", "2", "3"))
def sdk(request: pytest.FixtureRequest) -> Path:
    """Return a Python that has the official openai client of this major version."""
    return python_home(f"openai-{request.param}") / "python"


@pytest.fixture(scope="session")
def packages() -> Path:
    """Return the folder of the npm packages."""
    return node_modules()


@pytest.fixture(scope="session", params=("service", "ours"))
def page(request: pytest.FixtureRequest) -> Page:
    """Return the examples of the service's own page, if it is beside the repository, and ours in the same form."""
    if request.param == "ours":
        return read_page(Path(__file__).with_name("examples.txt").read_text(encoding="utf-8"))
    shared: Path = request.getfixturevalue("shared")
    texts = sorted(shared.glob("seed/*.txt"))
    if not texts:
        pytest.skip("the service's page is not beside the repository")
    return read_page(texts[0].read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch that is not in a list count as absent after seconds: these servers' lists do not lag."""
    monkeypatch.setattr(submission, "LOOK_FIRST_SECONDS", 0.2)
    monkeypatch.setattr(listing, "ABSENT_SECONDS", 1.0)
    monkeypatch.setattr(listing, "ABSENT_ALONE_SECONDS", 2.0)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers, and stop them at the end of the test."""
    started: list[Server] = []

    def start(*args: object, **more: object) -> Server:
        started.append(Server(*args, **more))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.close()
