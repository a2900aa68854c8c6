"""Commands of judge-runner that are killed where a test says; nothing in the product knows of it.

A nursery: it imports everything once and runs each command in a fork of its own, so that a hundred kills cost no
hundred starts. Orders come in as JSON lines; process ids and exit codes go out, a signal as a negative code. Wherever
two things that must not come apart follow one another there is a point: a command notes every point that it passes, and
is killed at the one it is told.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from subprocess import Popen
from typing import Any

import aiohttp
import anyio
import pyarrow.parquet as pq

from runner.cli import main
from runner.core import files
from runner.lanes.batch import Ledger, Reconciler, lifecycle, reconcile
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Shard
from runner.lanes.batch.packing import OpenShard
from runner.results import ResultRecorder
from runner.service import client
from runner.types import RequestResult

CHUNK = 8192
"""Small enough for a result file of forty lines to come in several."""


class Points:
    """What a command passes.

    Args:
        journal: gets a line for each point: when (seconds, monotonic) and which.
        deadly: the point at which the command is killed, and when for the how manieth time; None: it lives.
    """

    def __init__(self, journal: Path, deadly: tuple[str, int] | None) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._deadly = deadly
        self._passed: Counter[str] = Counter()

    def passed(self, name: str) -> None:
        """Note a point; where it is the deadly one, nothing comes after it."""
        os.write(self._journal, f"{time.monotonic()} {name}\n".encode())
        self._passed[name] += 1
        if self._deadly == (name, self._passed[name]):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(points: Points) -> None:
    """Put points around everything that changes what is known, here or at the service."""
    watch_states(points)
    watch_calls(points)
    watch_rows(points)
    watch_files(points)


def watch_states(points: Points) -> None:
    """Before a shard's state file takes the place of the old one, and after."""
    save, place = Ledger.save, files.put_in_place
    saving: list[str] = []

    def watched_save(self: Ledger, shard: Shard) -> Shard:
        saving.append(name_of(shard))
        try:
            return save(self, shard)
        finally:
            saving.clear()

    def watched_place(temporary: Path, final: Path) -> None:
        name = saving[0] if saving and final.name.startswith("shard-") else None
        if name is not None:
            points.passed(f"{name} written")
        place(temporary, final)
        if name is not None:
            points.passed(f"{name} kept")

    Ledger.save = watched_save  # type: ignore[method-assign]
    files.put_in_place = watched_place


def name_of(shard: Shard) -> str:
    """What a state file says, in short."""
    if shard.stuck is not None:
        return "state stuck"
    if shard.step == "poll" and shard.cancelled_at is not None:
        return "state cancelling"
    if shard.step == "create" and shard.former:
        return "state create again"
    return f"state {shard.step}"


def watch_calls(points: Points) -> None:
    """After the service's answer to each call that changes something there; before the two that cannot be undone."""
    for name in ("upload", "create", "cancel", "download", "delete", "jobs_of"):
        setattr(BatchApi, name, watched_call(getattr(BatchApi, name), name, points))


def watched_call(call: Callable[..., Awaitable[Any]], name: str, points: Points) -> Callable[..., Awaitable[Any]]:
    """A call with its points."""

    async def watched(self: BatchApi, *args: Any) -> Any:
        if name in ("create", "cancel"):
            points.passed(f"{name} sent")
        came = await call(self, *args)
        points.passed(f"{name} answered")
        return came

    return watched


def watch_rows(points: Points) -> None:
    """After each request that is packed, each few that are settled, and each row that was asked online."""
    record = ResultRecorder.record

    def watched_record(*given: Any) -> Any:
        came = record(*given)
        if any(isinstance(asked, RequestResult) and asked.route == "online" for asked in given):
            points.passed("asked online")
        return came

    ResultRecorder.record = watched_record  # type: ignore[assignment,method-assign]
    OpenShard.add = watched_end(OpenShard.add, "packed", points)  # type: ignore[method-assign]
    reconcile.REQUESTS_PER_SLICE = 8
    Reconciler._write_slice = watched_end(Reconciler._write_slice, "settled", points)  # type: ignore[method-assign]


def watched_end(call: Callable[..., Any], name: str, points: Points) -> Callable[..., Any]:
    """A function with a point behind it."""

    def watched(*given: Any) -> Any:
        came = call(*given)
        points.passed(name)
        return came

    return watched


def watch_files(points: Points) -> None:
    """In the middle of a download, and around the list of who got no answer."""
    read, write_left = aiohttp.StreamReader.iter_chunked, Ledger.write_leftovers

    async def watched_read(self: aiohttp.StreamReader, size: int) -> AsyncIterator[bytes]:
        async for chunk in read(self, size):
            yield chunk
            points.passed("chunk")

    def watched_left(self: Ledger, number: int, custom_ids: list[str]) -> None:
        if custom_ids:
            points.passed("left found")
        write_left(self, number, custom_ids)
        if custom_ids:
            points.passed("left kept")

    aiohttp.StreamReader.iter_chunked = watched_read  # type: ignore[assignment,method-assign]
    Ledger.write_leftovers = watched_left  # type: ignore[method-assign]
    client.DOWNLOAD_CHUNK_BYTES = CHUNK


def bear(order: dict[str, Any]) -> int:
    """Fork a command; its process id."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        code = live(order)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def live(order: dict[str, Any]) -> int:
    """Run a command in this process; its exit code."""
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    os.chdir(order["folder"])
    deadly = order["deadly"]
    watch(Points(Path(order["journal"]), None if deadly is None else (deadly[0], deadly[1])))
    if order["lists_apart"] is not None:
        lifecycle.LIST_INTERVAL_SECONDS = order["lists_apart"]
    sys.argv = ["judge-runner", *order["arguments"]]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def serve() -> None:
    """Carry out orders until there are none: tell each command's process id, and then how it ended."""
    anyio.run(anyio.sleep, 0)  # imports what an event loop needs
    gc.freeze()
    for line in sys.stdin:
        process = bear(json.loads(line))
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


class Nursery:
    """Runs commands in forks of one process, and has them killed where it is told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )

    def begin(self, **order: Any) -> int:
        """Begin one command; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return self._number()

    def end(self, within: float | None = None) -> int | None:
        """Wait for its end; its exit code, or minus the signal that ended it. None where it lives after that time."""
        assert self._process.stdout is not None
        return self._number() if select.select([self._process.stdout], [], [], within)[0] else None

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


class Scene:
    """A folder with a run in it, the service of that run, and what is done there."""

    def __init__(self, folder: Path, nursery: Nursery, service: Any, samples: int) -> None:
        self.folder = folder
        self.samples = samples
        self.out = folder / "out"
        self._nursery = nursery
        self._service = service

    def run(self, *arguments: str, deadly: tuple[str, int] | None = None, lists_apart: float = 0.2) -> int | None:
        """Run one command to its end, or to its death."""
        self._begin(arguments, deadly, lists_apart)
        return self._nursery.end()

    def kill(self, *arguments: str, after: float) -> int | None:
        """Run one command, and kill it after so many seconds."""
        process = self._begin(arguments, None, 0.2)
        code = self._nursery.end(after)
        if code is None:
            os.kill(process, signal.SIGKILL)
            code = self._nursery.end()
        return code

    def _begin(self, arguments: tuple[str, ...], deadly: tuple[str, int] | None, lists_apart: float) -> int:
        (self.folder / "journal").unlink(missing_ok=True)
        return self._nursery.begin(
            arguments=arguments,
            folder=str(self.folder),
            journal=str(self.folder / "journal"),
            said=str(self.folder / "said"),
            deadly=deadly,
            lists_apart=lists_apart,
        )

    @property
    def said(self) -> str:
        """What the last command wrote to the terminal."""
        return (self.folder / "said").read_text(encoding="utf-8")

    @property
    def passed(self) -> list[tuple[float, str]]:
        """The points the last command passed, and when."""
        lines = (self.folder / "journal").read_text(encoding="utf-8").splitlines()
        return [(float(at), name) for at, name in (line.split(" ", 1) for line in lines)]

    def times(self, point: str) -> list[float]:
        """When the last command passed a point."""
        return [at for at, name in self.passed if name == point]

    @property
    def stats(self) -> dict[str, Any]:
        """The emulator's counters."""
        counters: dict[str, Any] = self._service.stats()
        return counters

    @property
    def ledger(self) -> Ledger:
        """The shards as they stand in their files."""
        return Ledger(self.out / "batches")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all parts."""
        return [row for path in sorted(self.out.glob("results/*.parquet")) for row in pq.read_table(path).to_pylist()]


if __name__ == "__main__":
    serve()
