"""Run the reference server and clients as processes, and measure the clients. Ends only processes that it started."""

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
CHECK_INTERVAL_SECONDS = 0.1
MEMORY_INTERVAL_SECONDS = 0.5
SERVER_TIMEOUT_SECONDS = 10
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Cost(NamedTuple):
    """The cost of one client.

    Args:
        started: the start time on the clock of the server's counts.
        wall, cpu: seconds; the CPU time includes all child processes.
        peak_mb: the larger of two figures: the peak of the largest process, and the sampled sum of all processes.
        exit_code: negative for a signal.
        ended: `exit`, `killed` (on request) or `timeout`.
        busy: CPU seconds that the whole machine used meanwhile; None if the system does not report them.
    """

    started: float
    wall: float
    cpu: float
    peak_mb: float
    exit_code: int
    ended: str
    busy: float | None


class Server:
    """The reference server while it runs.

    Args:
        url: its address, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, Any]:
        """Return its counts."""
        with _direct.open(f"{self.url}/stats", timeout=SERVER_TIMEOUT_SECONDS) as reply:
            counts: dict[str, Any] = json.load(reply)
        return counts


def exit_on_signals() -> None:
    """Turn SIGINT and SIGTERM into an exception, which ends all started processes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


@contextmanager
def serving(options: str) -> Iterator[Server]:
    """Run the reference server on a free port; it ends with this block, or with this process."""
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
            process.wait(SERVER_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def execute(
    command: Sequence[str],
    log: IO[bytes],
    limit: float,
    watch: Callable[[int], bool] | None = None,
    every: float = CHECK_INTERVAL_SECONDS,
) -> Cost:
    """Run a client to its end, or until the limit.

    Args:
        command: the command line.
        log: the file for its output.
        limit: seconds after which it is killed.
        watch: called with the memory of all its processes, in bytes; the client is killed when it returns True.
        every: seconds between two checks.
    """
    started, busy = time.monotonic(), machine_busy()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    waited: list[tuple[float, int, Any]] = []
    waiter = threading.Thread(target=_wait, args=(process.pid, waited), daemon=True)
    waiter.start()
    try:
        ended, peak = _watch_client(process.pid, waiter, started + limit, watch, every)
    finally:
        end_session(process.pid)
        waiter.join()
    ended_at, status, usage = waited[0]
    process.returncode = os.waitstatus_to_exitcode(status)
    largest = usage.ru_maxrss * MAXRSS_UNIT_BYTES
    cpu = usage.ru_utime + usage.ru_stime
    meanwhile = None if busy is None else (machine_busy() or busy) - busy
    return Cost(started, ended_at - started, cpu, max(peak, largest) / 1e6, process.returncode, ended, meanwhile)


def _watch_client(
    leader: int, waiter: threading.Thread, until: float, watch: Callable[[int], bool] | None, every: float
) -> tuple[str, int]:
    """Check a client at intervals until it ends or must be killed; returns the reason, and its peak memory in bytes."""
    memory = peak = 0
    sampled = time.monotonic()
    while True:
        waiter.join(every)
        if not waiter.is_alive():
            return "exit", peak
        now = time.monotonic()
        if now - sampled >= MEMORY_INTERVAL_SECONDS:
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
    """Return the CPU seconds of all processes since the machine started; None if the system does not report them."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, interrupts, soft, steal = map(
        int, stat.read_text(encoding="utf-8").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")


def end_session(leader: int) -> None:
    """Kill all processes of a client: they share its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def session_memory(leader: int) -> int:
    """Return the memory of a client and its child processes, in bytes."""
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
    return int(fields[21]) * PAGE_BYTES if int(fields[2]) == leader else 0
