"""Start and stop an emulator: in a test, as a command, or as the child process of a run."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec
import uvloop
from aiohttp import web

from runner.emulator.http.app import build
from runner.emulator.http.helpers import EMULATOR, JOBS
from runner.emulator.jobs.jobs import Jobs
from runner.emulator.options import EmulatorOptions
from runner.emulator.stats import Stats

_BACKLOG = 4096

# Longer than any client keeps an idle connection, so that only seeded faults break connections.
_KEEPALIVE_SECONDS = 3600

_SHUTDOWN_SECONDS = 0.5


class Running:
    """A running emulator. As an async context manager, it stops at the end of the block."""

    def __init__(self, runner: web.AppRunner, options: EmulatorOptions) -> None:
        self._runner = runner
        self._host = options.host
        self.port: int = runner.addresses[0][1]

    @property
    def url(self) -> str:
        """The address, without `/v1`."""
        host = "127.0.0.1" if self._host in ("0.0.0.0", "") else "::1" if self._host == "::" else self._host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def stats(self) -> Stats:
        """The live counters."""
        return self._runner.app[EMULATOR].stats

    @property
    def jobs(self) -> Jobs:
        """The live batch jobs."""
        return self._runner.app[JOBS]

    async def aclose(self) -> None:
        """Stop listening and abort the requests in flight."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def start(options: EmulatorOptions, clock: Callable[[], float] = time.monotonic) -> Running:
    """Start an emulator on the running event loop.

    Args:
        clock: returns seconds, monotonic; the ages of batch jobs are measured on it.

    Raises:
        OSError: it cannot listen at the address, which the message names.
    """
    runner = web.AppRunner(
        build(options, clock),
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, backlog=_BACKLOG).start()
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        reason = getattr(error, "strerror", None) or str(error)
        number = getattr(error, "errno", None) or 0
        raise OSError(number, f"cannot listen on {options.host}:{options.port}: {reason}") from None
    return Running(runner, options)


def serve(options: EmulatorOptions, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        ready: called once with the address, when the emulator listens.

    Raises:
        OSError: it cannot listen at the address.
    """
    uvloop.run(_serve(options, ready))


def serve_embedded(options: EmulatorOptions) -> None:
    """Serve as the child of another process, until standard input closes because the parent closed it or died.

    The child prints one line, `{"port": N}`. It ignores SIGINT and SIGTERM, because a terminal sends them to the whole
    process group while the parent is still draining.

    Raises:
        OSError: it cannot listen at the address.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    uvloop.run(_serve_embedded(options))


async def _serve(options: EmulatorOptions, ready: Callable[[str], None]) -> None:
    _raise_file_limit()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with await start(options) as running:
        ready(running.url)
        await stopped.wait()


async def _serve_embedded(options: EmulatorOptions) -> None:
    _raise_file_limit()
    async with await start(options) as running:
        sys.stdout.write(msgspec.json.encode({"port": running.port}).decode() + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(_wait_for_end_of_input)


def _wait_for_end_of_input() -> None:
    with suppress(OSError):
        while os.read(0, 65_536):
            pass


def _raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit; a normal run can have a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
