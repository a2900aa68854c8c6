"""Processes: the reference server, and clients with what they took. Ends only what it started."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

HERE = Path(__file__).parent
LOOK_EVERY_S = 0.1
SAMPLE_EVERY_S = 0.5
PATIENCE_S = 10
PAGE = os.sysconf("SC_PAGE_SIZE")
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Took(NamedTuple):
    """What a client took.

    Args:
        began: when it was started, on the clock of the server's counts.
        wall, cpu: seconds; CPU is that of the process and of all it started.
        peak_mb: the most memory: of the largest process, or of all together as sampled.
        exit_code: negative for a signal.
        ended: `exit`, `killed` (as wanted) or `timeout`.
        busy: seconds of CPU that the whole machine used meanwhile; None where that cannot be told.
    """

    began: float
    wall: float
    cpu: float
    peak_mb: float
    exit_code: int
    ended: str
    busy: float | None


class Server:
    """The reference server while it runs.

    Args:
        url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, Any]:
        """Its counts."""
        with _direct.open(f"{self.url}/stats", timeout=PATIENCE_S) as reply:
            counts: dict[str, Any] = json.load(reply)
        return counts


def wind_down_on_signals() -> None:
    """Leave by way of an exception, so that what was started is ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


@contextmanager
def serving(options: str) -> Iterator[Server]:
    """Run the reference server on a free port; it also ends when this process does."""
    command = [sys.executable, str(HERE / "server.py"), "--child", *shlex.split(options)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"the server did not start: {shlex.join(command)}")
        yield Server(url)
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def execute(
    command: Sequence[str],
    log: IO[bytes],
    limit: float,
    watch: Callable[[int], bool] | None = None,
    every: float = LOOK_EVERY_S,
) -> Took:
    """Run a client to its end, or until the limit.

    Args:
        log: what it prints.
        limit: seconds after which it is ended.
        watch: called with the memory of all its processes, in bytes; SIGKILL when it says True.
        every: seconds between two looks.
    """
    began, busy = time.monotonic(), machine_busy()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    waited: list[tuple[float, int, Any]] = []
    waiter = threading.Thread(target=_wait, args=(process.pid, waited), daemon=True)
    waiter.start()
    try:
        ended, peak = _look_on(process.pid, waiter, began + limit, watch, every)
    finally:
        end_session(process.pid)
        waiter.join()
    over, status, usage = waited[0]
    process.returncode = os.waitstatus_to_exitcode(status)
    largest = usage.ru_maxrss * MAXRSS_UNIT
    cpu = usage.ru_utime + usage.ru_stime
    meanwhile = None if busy is None else (machine_busy() or busy) - busy
    return Took(began, over - began, cpu, max(peak, largest) / 1e6, process.returncode, ended, meanwhile)


def _look_on(
    leader: int, waiter: threading.Thread, until: float, watch: Callable[[int], bool] | None, every: float
) -> tuple[str, int]:
    """Look at a client now and then until it is over or is to be ended; returns why, and its most memory."""
    memory = peak = 0
    sampled = time.monotonic()
    while True:
        waiter.join(every)
        if not waiter.is_alive():
            return "exit", peak
        now = time.monotonic()
        if now - sampled >= SAMPLE_EVERY_S:
            memory, sampled = session_memory(leader), now
            peak = max(peak, memory)
        if watch and watch(memory):
            return "killed", peak
        if now > until:
            return "timeout", peak


def _wait(pid: int, waited: list[tuple[float, int, Any]]) -> None:
    _, status, usage = os.wait4(pid, 0)
    waited.append((time.monotonic(), status, usage))


def machine_busy() -> float | None:
    """Seconds of CPU that all processes have used since the machine started; None where it does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, interrupts, soft, steal = map(
        int, stat.read_text(encoding="utf-8").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")


def end_session(leader: int) -> None:
    """End what is left of a client: all it started has its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def session_memory(leader: int) -> int:
    """Bytes of memory of a client and of all it started."""
    proc = Path("/proc")
    if (proc / "self/stat").exists():
        return sum(_resident(entry / "stat", leader) for entry in proc.iterdir() if entry.name.isdecimal())
    listed = subprocess.run(["ps", "-axo", "pgid=,rss="], capture_output=True, text=True, check=False).stdout
    pairs = (line.split() for line in listed.splitlines())
    return sum(int(size) * 1024 for group, size in pairs if int(group) == leader)


def _resident(stat: Path, leader: int) -> int:
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[21]) * PAGE if int(fields[2]) == leader else 0
