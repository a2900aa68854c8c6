"""Commands of judge-runner that are killed at a chosen point; the product has no code for this.

Each command is a fork (see fork_server), and this module patches the product there before the command begins. Wherever
two steps must not be separated, there is a point between them. A command logs every point that it passes, and it is
killed at the point that the test chose.
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
from subprocess import TimeoutExpired
from typing import Any

import aiohttp
import pyarrow.parquet as pq
from fork_server import ForkedCommand

from runner.cli import main as judge_runner
from runner.core import files
from runner.lanes.batch import Ledger, Reconciler, listing, reconcile, result_files, submission
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Shard
from runner.lanes.batch.packing import OpenShard
from runner.results import ResultRecorder
from runner.service import partial_file
from runner.types import RequestResult

CHUNK_BYTES = 8192  # small enough for a result file of forty lines to arrive in several chunks
TIMEOUT_SECONDS = 120


class Points:
    """The points that a command passes.

    Args:
        log: gets one line for each point: the time (seconds, monotonic) and the name.
        kill_at: the point at which the command is killed and how often it is passed by then; None: it is not killed.
    """

    def __init__(self, log: Path, kill_at: tuple[str, int] | None) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._kill_at = kill_at
        self._passed: Counter[str] = Counter()

    def passed(self, name: str) -> None:
        """Log a point, and kill this process if it is the chosen one."""
        os.write(self._log, f"{time.monotonic()} {name}\n".encode())
        self._passed[name] += 1
        if self._kill_at == (name, self._passed[name]):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(points: Points) -> None:
    """Put points around every step that changes the state on disk or at the service."""
    watch_states(points)
    watch_calls(points)
    watch_rows(points)
    watch_files(points)


def watch_states(points: Points) -> None:
    """Put points before and after a shard's state file replaces the previous one."""
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
    """Return a short name for the state that is saved."""
    if shard.stuck is not None:
        return "state stuck"
    if shard.step == "poll" and shard.cancelled_at is not None:
        return "state cancelling"
    if shard.step == "create" and shard.former:
        return "state create again"
    return f"state {shard.step}"


def watch_calls(points: Points) -> None:
    """Put a point after each reply of the Batch API, and one before the two calls that cannot be undone."""
    for name in ("upload", "create", "cancel", "download", "delete", "listing"):
        setattr(BatchApi, name, watched_call(getattr(BatchApi, name), name, points))


def watched_call(call: Callable[..., Awaitable[Any]], name: str, points: Points) -> Callable[..., Awaitable[Any]]:
    """Return a call with its points."""

    async def watched(self: BatchApi, *args: Any) -> Any:
        if name in ("create", "cancel"):
            points.passed(f"{name} sent")
        reply = await call(self, *args)
        points.passed(f"{name} answered")
        return reply

    return watched


def watch_rows(points: Points) -> None:
    """Put points after each packed request, each reconciled slice, and each row of an online request."""
    record = ResultRecorder.record

    def watched_record(*args: Any) -> Any:
        row = record(*args)
        if any(isinstance(arg, RequestResult) and arg.route == "online" for arg in args):
            points.passed("asked online")
        return row

    ResultRecorder.record = watched_record  # type: ignore[assignment,method-assign]
    OpenShard.add = watched_end(OpenShard.add, "packed", points)  # type: ignore[method-assign]
    reconcile.REQUESTS_PER_SLICE = 8
    Reconciler._write_slice = watched_end(Reconciler._write_slice, "settled", points)  # type: ignore[method-assign]


def watched_end(call: Callable[..., Any], name: str, points: Points) -> Callable[..., Any]:
    """Return a function with a point after it."""

    def watched(*args: Any) -> Any:
        result = call(*args)
        points.passed(name)
        return result

    return watched


def watch_files(points: Points) -> None:
    """Put points between the chunks of a download, and around the list of requests without an answer."""
    read, write_leftovers = aiohttp.StreamReader.iter_chunked, Ledger.write_leftovers

    async def watched_read(self: aiohttp.StreamReader, size: int) -> AsyncIterator[bytes]:
        async for chunk in read(self, size):
            yield chunk
            points.passed("chunk")

    def watched_leftovers(self: Ledger, number: int, custom_ids: list[str]) -> None:
        if custom_ids:
            points.passed("left found")
        write_leftovers(self, number, custom_ids)
        if custom_ids:
            points.passed("left kept")

    aiohttp.StreamReader.iter_chunked = watched_read  # type: ignore[assignment,method-assign]
    Ledger.write_leftovers = watched_leftovers  # type: ignore[method-assign]
    partial_file.DOWNLOAD_CHUNK_BYTES = CHUNK_BYTES


def main() -> None:
    """Patch the product as the first argument says (JSON), and run judge-runner with the other arguments."""
    order = json.loads(sys.argv.pop(1))
    watch(Points(Path(order["points"]), None if order["kill_at"] is None else tuple(order["kill_at"])))
    submission.LOOK_FIRST_SECONDS, submission.LOOK_CEILING_SECONDS = 0.05, 0.1
    listing.ABSENT_SECONDS = listing.ABSENT_ALONE_SECONDS = order["absent"]
    result_files.LOOK_AGAIN_SECONDS = 1.0
    judge_runner()


class Scene:
    """A folder with a run, the service of that run, and the commands that are run there.

    Attributes:
        service: the emulator of that run, in the test's process.
        said: what the last command wrote to the terminal.
    """

    def __init__(self, folder: Path, start: Callable[..., ForkedCommand], service: Any, samples: int) -> None:
        self.folder = folder
        self.samples = samples
        self.out = folder / "out"
        self.said = ""
        self._start = start
        self.service = service

    def run(
        self,
        *arguments: str,
        kill_at: tuple[str, int] | None = None,
        absent: float = 0.3,
        within: float = TIMEOUT_SECONDS,
    ) -> int:
        """Run one command until it ends, or until it is killed at a point or after `within` seconds.

        `absent` is the time in seconds after which a batch that is not in the list was never created.
        """
        points = self.folder / "points"
        points.unlink(missing_ok=True)
        order = json.dumps({"points": str(points), "kill_at": kill_at, "absent": absent})
        command = self._start([order, *arguments], cwd=self.folder, module="kill_points")
        try:
            self.said = "".join(command.communicate(within))
        except TimeoutExpired:
            self.said = ""
        command.close()
        return command.wait()

    @property
    def passed(self) -> list[tuple[float, str]]:
        """The points that the last command passed, each with its time."""
        lines = (self.folder / "points").read_text(encoding="utf-8").splitlines()
        return [(float(at), name) for at, name in (line.split(" ", 1) for line in lines)]

    def times(self, point: str) -> list[float]:
        """Return the times at which the last command passed a point."""
        return [at for at, name in self.passed if name == point]

    @property
    def stats(self) -> dict[str, Any]:
        """The emulator's counters."""
        counters: dict[str, Any] = self.service.stats()
        return counters

    @property
    def ledger(self) -> Ledger:
        """The shards as their files on disk say."""
        return Ledger(self.out / "batches")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all parts."""
        return [row for path in sorted(self.out.glob("results/*.parquet")) for row in pq.read_table(path).to_pylist()]
