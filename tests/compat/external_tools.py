"""Third-party tools, installed once into a cache folder; their servers run on free ports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".compat"
MIN_NODE_VERSION = 20
INSTALL_TIMEOUT_SECONDS = 600
START_TIMEOUT_SECONDS = 60

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def python_home(name: str, python: str = sys.executable) -> Path:
    """Return the bin folder of a virtual environment with the packages that `requirements-NAME.txt` pins.

    Skips the test if pip cannot install them.
    """
    wanted = HERE / f"requirements-{name}.txt"
    folder, pip = CACHE / name, ("-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", str(wanted))
    make = ([python, "-m", "venv", "."], ["bin/python", *pip])
    return _installed(folder, f"{python}\n{wanted.read_text(encoding='utf-8')}", make) / "bin"


def newer_python(version: tuple[int, int]) -> str:
    """Return a Python of at least this version, ours or one on the PATH or of pyenv; skip the test if there is none."""
    on_path = [shutil.which(f"python3.{minor}") for minor in range(version[1], version[1] + 8)]
    of_pyenv = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    for python in (sys.executable, *filter(None, on_path), *map(str, of_pyenv)):
        check = [python, "-c", f"import sys, venv; sys.exit(sys.version_info < {version})"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(f"no Python {version[0]}.{version[1]} or newer here")


def node_modules() -> Path:
    """Return the folder of the packages that `package.json` pins.

    Skips the test if node or npm is missing, node is too old, or npm cannot install the packages.
    """
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < MIN_NODE_VERSION:
        pytest.skip(f"node is {version}; the packages need {MIN_NODE_VERSION} or newer")
    wanted = HERE / "package.json"
    make = (["cp", str(wanted), "."], ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts"])
    return _installed(CACHE / "npm", wanted.read_text(encoding="utf-8"), make) / "node_modules"


def _installed(folder: Path, wanted: str, commands: Sequence[Sequence[str]]) -> Path:
    """Run the commands in an empty folder, unless the folder already has what is wanted."""
    marker = folder / "installed.txt"
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(
                f"{folder.name} could not be installed: {command[0]} took longer than {INSTALL_TIMEOUT_SECONDS} s"
            )
        if done.returncode:
            pytest.skip(f"{folder.name} could not be installed: {_error_line(done.stderr)}")
    marker.write_text(wanted, encoding="utf-8")
    return folder


def _error_line(stderr: str) -> str:
    """Return the first line that mentions an error, or else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no error message")


class Server:
    """A third-party server, as a process on a free port of 127.0.0.1.

    Args:
        command: the command that starts it; `{port}` is replaced by the port.
        folder: its working directory, which also gets its output (`server.log`).
        extra: variables to add to its environment.
        ready: a path that returns JSON once the server is ready.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None, ready: str = "/v1/batches"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [part.replace("{port}", str(port)) for part in command],
                cwd=folder,
                env={**os.environ, "NO_PROXY": "127.0.0.1,localhost", **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready(ready)

    def get(self, path: str) -> Any:
        """Send a GET and return the decoded JSON response."""
        with _direct.open(self.url + path, timeout=10) as reply:
            return json.load(reply)

    def post(self, path: str, value: object) -> Any:
        """Send a POST with a JSON body and return the decoded JSON response."""
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with _direct.open(request, timeout=10) as reply:
            return json.load(reply)

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self, path: str) -> None:
        end = time.monotonic() + START_TIMEOUT_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self.get(path)
                return
            except OSError:
                time.sleep(0.1)
        self.close()
        output = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{self._process.args!r} did not start: {output}")


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
