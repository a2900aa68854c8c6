"""What the end-to-end tests share: the commands and the emulator as processes of their own, and shared data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[1]
collect_ignore = [] if os.environ.get("JUDGE_RUNNER_COMPAT") else ["compat"]  # opt-in: make test-compat
COMMAND = (sys.executable, "-m", "runner")
SECRET = "sk-e2e-9f8e7d6c5b4a39281706"

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The environment of a command; None takes a variable away."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "JUDGE_MODEL_TOKEN": SECRET, "NO_PROXY": "127.0.0.1"}
    changed: dict[str, str | None] = {**merged, **(extra or {})}
    return {name: value for name, value in changed.items() if value is not None}


class EmulatorProcess:
    """`judge-runner emulate` as a process; it can be killed and started again on its port."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._flags = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
        self.url = ""
        self._start(0)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.split(":")[2].split("/")[0])

    def stats(self) -> dict[str, Any]:
        """Its counters."""
        with _direct.open(self.url.removesuffix("/v1") + "/emulator/stats", timeout=10) as reply:
            counters: dict[str, Any] = json.load(reply)
        return counters

    def kill(self) -> None:
        """End it at once, as a crash would; its counters are gone."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same port."""
        self._start(self.port)

    def close(self) -> None:
        """End it and whatever is read from it."""
        self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _start(self, port: int) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "emulate", "--port", str(port), *self._flags],
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        stdout: IO[str] | None = self._process.stdout
        self.url = stdout.readline().strip() if stdout is not None else ""
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
    """An emulator that a fixture of a wider scope starts and closes itself."""
    return EmulatorProcess


@pytest.fixture(scope="session")
def plain_emulator() -> Iterator[EmulatorProcess]:
    """One emulator without any option, for all tests that need just a service."""
    process = EmulatorProcess({})
    yield process
    process.close()


def finish(
    *args: object, cwd: Path, env: Mapping[str, str | None] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env=environment(env),
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end in the test's folder: `cli("run", "judge.yaml")`."""
    return partial(finish, cwd=tmp_path)


@pytest.fixture(scope="session")
def cli_in() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end in any folder: `cli_in("run", "judge.yaml", cwd=folder)`."""
    return finish


@pytest.fixture(scope="session")
def cli_environment() -> Callable[..., dict[str, str]]:
    """The environment of a command that a test starts itself."""
    return environment


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait for what another process does: `until(lambda: path.exists())`."""

    def wait(happened: Callable[[], object], timeout: float = 30) -> None:
        end = time.monotonic() + timeout
        while not happened():
            if time.monotonic() > end:
                raise TimeoutError("what another process should do did not happen")
            time.sleep(0.01)

    return wait


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in the test's folder and let it run; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, args)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def secret() -> str:
    """The token that every command finds in its environment, and that nothing may print."""
    return SECRET


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the repository; skips where there is none."""
    place = ROOT.parent / "shared"
    if not place.is_dir():
        pytest.skip("no shared data beside the repository")
    return place
