"""Fixtures for all tests: commands and emulators as separate processes, and the shared data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import shared_results
from fork_server import EMULATOR, ForkedCommand, ForkServer
from hypothesis import settings

ROOT = Path(__file__).parents[1]
collect_ignore = [] if os.environ.get("JUDGE_RUNNER_COMPAT") else ["compat"]  # opt-in: make test-compat
COMMAND = (sys.executable, "-m", "runner")
OFTEN = {"runner.pipeline.execute.STATUS_INTERVAL_SECONDS": 0.1}  # for tests that wait for a line of status.json
SECRET = "sk-e2e-9f8e7d6c5b4a39281706"

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the environment of a command; a variable whose value is None is removed."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "JUDGE_MODEL_TOKEN": SECRET, "NO_PROXY": "127.0.0.1"}
    changed: dict[str, str | None] = {**merged, **(extra or {})}
    return {name: value for name, value in changed.items() if value is not None}


@cache
def fork_server() -> ForkServer:
    """Return the process of which this test process's commands are forks."""
    return ForkServer(environment())


settings.register_profile("no deadline", deadline=None)  # a busy machine must not fail a property
settings.load_profile("no deadline")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`: up to two per core, because many tests wait."""
    cores = os.cpu_count() or 1
    return min(2 * cores, cores + 4)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests first, and then the end-to-end tests, which wait: the last tests of a run are short ones."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.path.parent.name != "e2e"))


@pytest.fixture(scope="session", autouse=True)
def results_of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the worker processes of this run share what takes long to compute."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared_results.folder = tmp_path_factory.getbasetemp().parent / "shared"


def pytest_unconfigure() -> None:
    """End the fork server, if a test has started one."""
    if fork_server.cache_info().currsize:
        fork_server().close()


class EmulatorProcess:
    """The emulator as a separate process; it can be killed and started again on its port."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self.url = ""
        self._start(0)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.url.split(":")[2].split("/")[0])

    def stats(self) -> dict[str, Any]:
        """Its counters."""
        with _direct.open(self.url.removesuffix("/v1") + "/emulator/stats", timeout=10) as reply:
            counters: dict[str, Any] = json.load(reply)
        return counters

    def kill(self) -> None:
        """Kill it, as a crash would; its counters are lost."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same port."""
        self.close()
        self._start(self.port)

    def close(self) -> None:
        """Kill it and close its streams."""
        self._process.close()

    def _start(self, port: int) -> None:
        given = json.dumps({**self._options, "port": port})
        self._process = fork_server().start(["--options-json", given], cwd=ROOT, env=environment(), module=EMULATOR)
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the emulator did not start: exit code {self._process.wait()}")


@pytest.fixture
def emulator() -> Iterator[Callable[..., EmulatorProcess]]:
    """Start emulators: `emulator(seed=3, faults={"500": 0.1})`; they end with the test."""
    started: list[EmulatorProcess] = []

    def start(**options: Any) -> EmulatorProcess:
        started.append(EmulatorProcess(options))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture(scope="session")
def emulator_process() -> type[EmulatorProcess]:
    """The class, for fixtures of a wider scope, which close what they start."""
    return EmulatorProcess


@pytest.fixture(scope="session")
def plain_emulator() -> Iterator[EmulatorProcess]:
    """One emulator without options, for all tests that only need a service."""
    process = EmulatorProcess({})
    yield process
    process.close()


def finish(
    *args: object,
    cwd: Path,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 60,
    constants: Mapping[str, float] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends: in a fork, or with `env` as a process that is started from nothing.

    `constants` are module constants that have another value in the fork.
    """
    words = [*COMMAND, *map(str, args)]
    if env:
        return subprocess.run(
            words, cwd=cwd, env=environment(env), timeout=timeout, capture_output=True, text=True, check=False
        )
    process = fork_server().start(args, cwd=cwd, env=environment(), constants=constants)
    try:
        stdout, stderr = process.communicate(timeout)
    finally:
        process.close()
    return subprocess.CompletedProcess(words, process.wait(), stdout, stderr)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in the test's folder until it ends: `cli("run", "judge.yaml")`."""
    return partial(finish, cwd=tmp_path)


@pytest.fixture(scope="session")
def cli_in() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in any folder until it ends: `cli_in("run", "judge.yaml", cwd=folder)`."""
    return finish


@pytest.fixture(scope="session")
def cli_environment() -> Callable[..., dict[str, str]]:
    """The environment of a command that a test starts itself."""
    return environment


@pytest.fixture(scope="session")
def start_fork() -> Callable[..., ForkedCommand]:
    """Start a module's `main` as a fork: `start_fork(["run"], cwd=folder, module="kill_points")`."""
    return partial(fork_server().start, env=environment())


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until a condition is true that another process brings about: `until(lambda: path.exists())`."""

    def wait(condition: Callable[[], object], timeout: float = 30) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"the condition was not true within {timeout:g} s")
            time.sleep(0.01)

    return wait


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., ForkedCommand]]:
    """Start a command in the test's folder, with module constants changed if need be; the test's end kills it."""
    started: list[ForkedCommand] = []

    def start(*args: object, constants: Mapping[str, float] = {}) -> ForkedCommand:
        given = {**OFTEN, **constants}
        started.append(fork_server().start(args, cwd=tmp_path, env=environment(), constants=given))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def secret() -> str:
    """The token in the environment of every command; nothing may print it."""
    return SECRET


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the repository; the test is skipped if there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no shared data beside the repository")
    return folder
