"""Run the emulator as a child process of a run, or in place of this process.

The child listens on a free port, ignores the terminal's signals, and exits when its parent does. It is always a
separate program because it imports a web server, which takes a tenth of the start-up time of a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import anyio
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from runner.core import python_command
from runner.emulator import EmulatorOptions
from runner.errors import ConfigError, UsageError

START_TIMEOUT_SECONDS = 30.0


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError if the emulator rejects these options."""
    try:
        EmulatorOptions.from_mapping(options)
    except ValueError as error:
        raise ConfigError(str(error)) from None


class EmbeddedEmulator:
    """A running emulator.

    Attributes:
        url: its base URL.
    """

    def __init__(self, url: str, process: anyio.abc.Process) -> None:
        self.url = url
        self._process = process

    async def wait_for_end(self) -> str:
        """Wait until its process ends; return how it did, in words."""
        code = await self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


@asynccontextmanager
async def embedded_emulator(options: Mapping[str, Any]) -> AsyncIterator[EmbeddedEmulator]:
    """Run the emulator in this block; raises ConfigError if it does not start."""
    process = await anyio.open_process(
        _command("--embedded", options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if sys.stderr is not None else subprocess.DEVNULL,  # a closed one: its number is another file's
        start_new_session=True,
    )
    try:
        yield EmbeddedEmulator(f"http://127.0.0.1:{await _port(process)}/v1", process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.stdin is not None:
                await process.stdin.aclose()
            with anyio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.aclose()


def become_emulator(options: Mapping[str, Any]) -> NoReturn:
    """Replace this process by the emulator with these options; raises UsageError if they are invalid."""
    try:
        EmulatorOptions.from_mapping(options)
    except ValueError as error:
        raise UsageError(f"emulate: {error}") from error
    os.execv(sys.executable, _command("--options-json", options))


def _command(flag: str, options: Mapping[str, Any]) -> list[str]:
    return python_command("runner.emulator", flag, json.dumps(dict(options)))


async def _port(process: anyio.abc.Process) -> int:
    if process.stdout is None:
        raise RuntimeError("the emulator's output is not read")
    with anyio.move_on_after(START_TIMEOUT_SECONDS):
        try:
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 4096)
            return int(msgspec.json.decode(line)["port"])
        except (anyio.IncompleteRead, anyio.EndOfStream):
            pass
    raise ConfigError("service.emulator: the embedded emulator did not start; its output is above")
