"""The clients that can be measured, and the command that starts each one in its own process."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from common import PROMPT

HERE = Path(__file__).parent


class Task(NamedTuple):
    """The settings that a client gets.

    Args:
        base_url: the server's URL with `/v1`.
        data: the file with the samples.
        out: an empty folder for the client's output.
        concurrency: requests in flight; None is the client's own default.
        rpm, tpm: the service's limits per minute; None if the client does not know them.
    """

    base_url: str
    data: Path
    out: Path
    concurrency: int | None
    rpm: int | None
    tpm: int | None


class Client(NamedTuple):
    """One client.

    Args:
        name: its name on the command line and in the table.
        needs: packages that must be installed.
        command: returns the command line for a task.
        peer: True for a third-party client, which gets fewer samples because it is slow.
    """

    name: str
    needs: tuple[str, ...]
    command: Callable[[Task], list[str]]
    peer: bool = False

    @property
    def missing(self) -> list[str]:
        """Return the needed packages that are not installed."""
        return [package for package in self.needs if find_spec(package) is None]


def judge_runner(task: Task) -> list[str]:
    """Write a configuration with all features that are on by default, and return the console command."""
    limits: dict[str, object] = {"rpm": task.rpm, "tpm": task.tpm}
    if task.concurrency:
        limits["concurrency"] = task.concurrency
    config = {
        "dataset": {"path": str(task.data)},
        "judge": {
            "kind": "template",
            "model": "judge",
            "reask": 0,
            "user": PROMPT,
            "verdict": {"format": "mt_bench_pair"},
        },
        "service": {
            "base_url": task.base_url,
            "token_env": None,
            "timeout": {"connect": 10, "total": 120},
            "limits": limits,
        },
        "router": {"mode": "online"},
        "online": {"retry": {"attempts": 12, "base": 0.1, "ceiling": 8, "patience": "3m"}},
        "output": {"directory": str(task.out / "run")},
    }
    path = task.out / "judge.yaml"
    path.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")  # JSON is YAML
    installed = shutil.which("judge-runner", path=str(Path(sys.executable).parent))
    return [*([installed] if installed else [sys.executable, "-m", "runner"]), "run", str(path), "--quiet"]


def judge_runner_at(concurrency: int) -> Callable[[Task], list[str]]:
    """Return the same with a fixed concurrency in place of the workload's."""
    return lambda task: judge_runner(task._replace(concurrency=concurrency))


def script(name: str) -> Callable[[Task], list[str]]:
    """Return the command of one of the programs in this folder."""

    def command(task: Task) -> list[str]:
        given = {"base-url": task.base_url, "data": task.data, "out": task.out, "concurrency": task.concurrency or 64}
        return [sys.executable, str(HERE / name), *(f"--{key}={value}" for key, value in given.items())]

    return command


def templated(template: str) -> Callable[[Task], list[str]]:
    """Return a user's command line with {base_url} {data} {out} {concurrency} {rpm} {tpm} filled in, 0 for None."""

    def command(task: Task) -> list[str]:
        given = {key: value or 0 for key, value in task._asdict().items()}
        return [part.format_map(given) for part in shlex.split(template)]

    return command


KNOWN = (
    Client("baseline", ("orjson", "aiohttp", "uvloop", "pyarrow"), script("baseline.py")),
    Client("judge-runner", (), judge_runner),
    Client("openai", ("openai",), script("peer_openai.py"), peer=True),
)


def find(name: str, commands: Mapping[str, str]) -> Client | None:
    """Return the client of this name: a known one, `judge-runner@N` with concurrency N, or one from `commands`."""
    if name in commands:
        return Client(name, (), templated(commands[name]), peer=True)
    base, at, count = name.partition("@")
    if base == "judge-runner" and at and count.isdecimal() and int(count):
        return Client(name, (), judge_runner_at(int(count)))
    return next((client for client in KNOWN if client.name == name), None)
