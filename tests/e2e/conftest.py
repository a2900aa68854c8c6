"""Helpers of the end-to-end tests: a dataset with its judge.yaml, and the rows that a run left."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.emulator.jobs.file_store import Blob
from runner.emulator.jobs.input_lines import inspect
from runner.emulator.jobs.job import CreateBatch, EmulatedJob, Outcome

Rows = list[dict[str, Any]]

BY_BATCH = {
    "router": {"mode": "batch"},
    "batch": {"shard_lines": 50, "parallel": 3, "poll": {"first": 0.05, "ceiling": 0.2}},
}


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Service:
    """An emulator in this process; a test can set the clock of its jobs and stop its replies.

    Attributes:
        clock: the time of its jobs in seconds, at which their clock is stopped; None: the clock runs.
    """

    def __init__(self, portal: BlockingPortal, clock: float | None, options: dict[str, Any]) -> None:
        self.clock = clock
        self._running_clock = time.monotonic
        self._portal = portal
        self._running = portal.call(partial(start, EmulatorOptions.from_mapping({"port": 0, **options}), self._time))
        self.url = f"{self._running.url}/v1"

    def stats(self) -> dict[str, Any]:
        """Its counters."""
        with _direct.open(f"{self._running.url}/emulator/stats", timeout=10) as reply:
            counters: dict[str, Any] = json.load(reply)
        return counters

    def start_clock(self, now: float, speed: float = 1.0) -> None:
        """Let the clock of its jobs run from this time on, `speed` times as fast as time passes."""
        began = time.monotonic()
        self._running_clock = lambda: now + speed * (time.monotonic() - began)
        self.clock = None

    def has_another_customer(self) -> None:
        """From now on its list shows a batch of somebody else, which ended long ago."""
        params = CreateBatch("file-of-somebody", "/v1/chat/completions", "24h")
        job = EmulatedJob("batch-of-somebody", params, Blob(), inspect(Blob(), "pai"), "run", 0.0)
        job.created_at = 1_600_000_000
        job.end(Outcome("done", 0.0))
        self._running.jobs.add(job)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, it sends no replies, and its connections stay open."""
        thawed = threading.Event()
        held = self._portal.start_task_soon(thawed.wait)
        try:
            yield
        finally:
            thawed.set()
            held.result()

    def close(self) -> None:
        """End it."""
        self._portal.call(self._running.aclose)

    def _time(self) -> float:
        return self._running_clock() if self.clock is None else self.clock


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Start emulators in this process: `serve(batch={"expire": 1})`; they end with the test."""
    started: list[Service] = []
    with start_blocking_portal() as portal:

        def begin(clock: float | None = None, **options: Any) -> Service:
            started.append(Service(portal, clock, options))
            return started[-1]

        yield begin
        for service in started:
            service.close()


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the long versions of the fault and kill tests are wanted: JUDGE_RUNNER_LONG=1."""
    return os.environ.get("JUDGE_RUNNER_LONG") == "1"


@pytest.fixture(scope="session")
def write_run() -> Callable[..., None]:
    """Write a dataset of N samples and a judge.yaml beside it (JSON is YAML).

    Sections replace those given here; None takes one away.
    """

    def write(folder: Path, url: str, samples: int, **sections: Any) -> None:
        lines = [
            {"id": f"s{n}", "question": f"What is {n}?", "answer": f"It is {n}.", "category": f"c{n % 3}"}
            for n in range(samples)
        ]
        (folder / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        document = {
            "dataset": {"path": "data.jsonl", "keep": ["category"]},
            "judge": {},
            "service": {"base_url": url, "token_env": None, "limits": {"concurrency": 4}},
            "output": {"directory": "out"},
            **sections,
        }
        given = {name: section for name, section in document.items() if section is not None}
        (folder / "judge.yaml").write_text(json.dumps(given), encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], Rows]:
    """Read all rows of a run directory's closed parts."""

    def read(directory: Path) -> Rows:
        return [row for path in sorted(directory.glob("results/*.parquet")) for row in pq.read_table(path).to_pylist()]

    return read


@pytest.fixture
def write_batch_run(tmp_path: Path, write_run: Callable[..., None]) -> Callable[..., None]:
    """Write a run by batch that looks often; keys of the sections given here are put over those it has."""

    def write(url: str, samples: int, **sections: Any) -> None:
        plain = {"service": {"base_url": url, "token_env": None}, **BY_BATCH}
        mixed = {name: {**section, **sections.get(name, {})} for name, section in plain.items()}
        write_run(tmp_path, url, samples, **{**sections, **mixed})

    return write


@pytest.fixture
def record(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Read run.json of the run in `out`."""

    def read() -> dict[str, Any]:
        data: dict[str, Any] = json.loads((tmp_path / "out" / "run.json").read_bytes())
        return data

    return read


@pytest.fixture
def state(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Read status.json of the run in `out`; empty before there is one."""

    def read() -> dict[str, Any]:
        path = tmp_path / "out" / "status.json"
        data: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return data

    return read
