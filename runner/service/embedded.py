"""The emulator as a child of this run (on a free port, deaf to signals, gone when its parent is), or in its place.

It is always another program: a web server, which it imports, takes a tenth of the time in which a run starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import anyio
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from runner.emulator import EmulatorOptions
from runner.errors import ConfigError, UsageError

START_TIMEOUT_SECONDS = 30.0


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError where the emulator would not take these options."""
    try:
        EmulatorOptions.from_mapping(options)
    except ValueError as error:
        raise ConfigError(str(error)) from None


@asynccontextmanager
async def embedded_emulator(options: Mapping[str, Any]) -> AsyncIterator[str]:
    """Run the emulator while inside; gives its base URL. Raises ConfigError where its options do not fit."""
    process = await anyio.open_process(
        _command("--embedded", options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{await _port(process)}/v1"
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
    """Go on as the emulator, with these options; raises UsageError where they do not fit."""
    try:
        EmulatorOptions.from_mapping(options)
    except ValueError as error:
        raise UsageError(f"emulate: {error}") from error
    os.execv(sys.executable, _command("--options-json", options))


def _command(how: str, options: Mapping[str, Any]) -> list[str]:
    return [sys.executable, "-m", "runner.emulator", how, msgspec.json.encode(dict(options)).decode()]


async def _port(process: anyio.abc.Process) -> int:
    if process.stdout is None:
        raise RuntimeError("the emulator's output is not read")
    with anyio.move_on_after(START_TIMEOUT_SECONDS):
        try:
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 4096)
            return int(msgspec.json.decode(line)["port"])
        except (anyio.IncompleteRead, anyio.EndOfStream):
            pass
    raise ConfigError("service.emulator: the embedded emulator did not start; what it said stands above")
