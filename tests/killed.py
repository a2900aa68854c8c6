"""Commands of judge-runner that are killed where a test says; nothing in the product knows of it.

A nursery: it imports everything once and runs each command in a fork of its own, so that a hundred kills cost no
hundred starts. Orders come in as JSON lines, and how each command ended goes out the same way. What happens between
two things that must not come apart is a point: a command notes every point it passes, and dies at the one it is told.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from runner import client
from runner.batch import ledger, lifecycle
from runner.batch.api import BatchApi
from runner.batch.ledger import Ledger, Shard
from runner.batch.reconcile import Reconciler
from runner.batch.shards import Draft
from runner.cli import main
from runner.results import disk
from runner.results.recorder import Recorder
from runner.results.schema import Asked
from runner.types import JudgeRequest

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
    save, place = Ledger.save, disk.put_in_place
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
    disk.put_in_place = watched_place


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
    """After each request of a batch is settled, and after each row that was asked online."""
    settle, record = Reconciler._settle_one, Recorder.record

    def watched_settle(self: Reconciler, *args: Any) -> None:
        settle(self, *args)
        points.passed("settled")

    def watched_record(self: Recorder, request: JudgeRequest, asked: Asked) -> None:
        record(self, request, asked)
        if asked.route == "online":
            points.passed("asked online")

    Reconciler._settle_one = watched_settle  # type: ignore[method-assign]
    Recorder.record = watched_record  # type: ignore[method-assign]


def watch_files(points: Points) -> None:
    """In the middle of an upload file and of a download, and around the list of who got no answer."""
    add, read, write_left = Draft.add, aiohttp.StreamReader.iter_chunked, Ledger.write_left

    def watched_add(self: Draft, line: bytes, member: bytes) -> None:
        add(self, line, member)
        points.passed("packed")

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

    Draft.add = watched_add  # type: ignore[method-assign]
    aiohttp.StreamReader.iter_chunked = watched_read  # type: ignore[method-assign,assignment]
    Ledger.write_left = watched_left  # type: ignore[method-assign]
    client.CHUNK = CHUNK


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
        lifecycle.LISTS_APART_S = order["lists_apart"]
    sys.argv = ["judge-runner", *order["arguments"]]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def serve() -> None:
    """Carry out orders until there are none; a signal that ended a command is a negative code."""
    for line in sys.stdin:
        _, status = os.waitpid(bear(json.loads(line)), 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
