"""Tools that others wrote: installed once into a cache folder, their servers run on free ports."""

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
NODE = 20
INSTALL_S = 600
START_S = 60

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def python_home(name: str, python: str = sys.executable) -> Path:
    """The programs of a virtual environment with what `requirements-NAME.txt` pins; skips where pip cannot get it."""
    wanted = HERE / f"requirements-{name}.txt"
    folder, pip = CACHE / name, ("-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", str(wanted))
    make = ([python, "-m", "venv", "."], ["bin/python", *pip])
    return _installed(folder, f"{python}\n{wanted.read_text(encoding='utf-8')}", make) / "bin"


def newer_python(version: tuple[int, int]) -> str:
    """A Python of at least this version: ours, one on the PATH or one of pyenv's; skips where there is none."""
    named = [shutil.which(f"python3.{minor}") for minor in range(version[1], version[1] + 8)]
    kept = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    for python in (sys.executable, *filter(None, named), *map(str, kept)):
        asked = [python, "-c", f"import sys, venv; sys.exit(sys.version_info < {version})"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(f"no Python {version[0]}.{version[1]} or newer here")


def node_modules() -> Path:
    """The packages that `package.json` pins; skips where there is no node, no npm, or npm cannot get them."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < NODE:
        pytest.skip(f"node is {version}; its packages need {NODE} or newer")
    wanted = HERE / "package.json"
    make = (["cp", str(wanted), "."], ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts"])
    return _installed(CACHE / "npm", wanted.read_text(encoding="utf-8"), make) / "node_modules"


def _installed(folder: Path, wanted: str, commands: Sequence[Sequence[str]]) -> Path:
    """Make a folder with these commands unless it holds already what is wanted."""
    note = folder / "installed.txt"
    if note.exists() and note.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{folder.name} could not be installed: {command[0]} took longer than {INSTALL_S} s")
        if done.returncode:
            pytest.skip(f"{folder.name} could not be installed: {_gist(done.stderr)}")
    note.write_text(wanted, encoding="utf-8")
    return folder


def _gist(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no word why")


class Server:
    """A server that others wrote, as a process on a free port of 127.0.0.1; ended by its id.

    Args:
        command: what starts it; `{port}` stands for the port.
        folder: where it runs, and where its output goes (`server.log`).
        extra: what it finds in its environment besides ours.
        ready: a path that is answered once it serves.
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
        self._await(ready)

    def get(self, path: str) -> Any:
        """What it answers to a GET, as JSON."""
        with _direct.open(self.url + path, timeout=10) as reply:
            return json.load(reply)

    def post(self, path: str, value: object) -> Any:
        """What it answers to a POST of JSON, as JSON."""
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with _direct.open(request, timeout=10) as reply:
            return json.load(reply)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await(self, path: str) -> None:
        end = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self.get(path)
                return
            except OSError:
                time.sleep(0.1)
        self.close()
        said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{self._process.args!r} did not start: {said}")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
