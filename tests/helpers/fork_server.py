"""Commands of judge-runner as processes that start in about 10 ms instead of 500 ms.

A server process imports the program once, and each command is a fork of it: a process of its own with its own
environment, folder, standard streams and signals. A command that has to start from nothing does not belong here.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import NoReturn

import anyio

ROOT = Path(__file__).parents[2]
COMMANDS = "runner.cli"
EMULATOR = "runner.emulator.__main__"
FDS_PER_ORDER = 4  # the order, stdout, stderr, and the pipe for the process id and the exit code


class ForkedCommand:
    """A command in a fork; the part of `subprocess.Popen` that the tests use.

    Attributes:
        args: its arguments.
        pid: its process id.
        returncode: its exit code, or minus the signal that ended it; None while it runs.
        stdout: what it prints, as text.
        stderr: likewise.
    """

    def __init__(self, args: tuple[str, ...], stdout: int, stderr: int, control: int) -> None:
        self.args = args
        self.returncode: int | None = None
        self.stdout = open(stdout, encoding="utf-8")  # noqa: SIM115 - close() closes it
        self.stderr = open(stderr, encoding="utf-8")  # noqa: SIM115
        self._control = open(control, "rb", buffering=0)  # noqa: SIM115
        self.pid = self._number()

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends and return its exit code; raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            if not wait([self._control], timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._number()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it ends and return stdout and stderr; it is killed if that takes more than `timeout` seconds."""
        with ThreadPoolExecutor(2) as readers:
            texts = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return texts[0].result(), texts[1].result()

    def send_signal(self, number: int) -> None:
        """Send it a signal if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended, and its exit code is on the way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End it and release its streams."""
        self.kill()
        self.wait()
        for stream in (self.stdout, self.stderr, self._control):
            stream.close()

    def _number(self) -> int:
        line = self._control.readline()
        if not line:
            raise RuntimeError("the fork server is gone")
        return int(line)


class ForkServer:
    """The client's end of a server process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def start(
        self,
        args: Iterable[object],
        *,
        cwd: Path,
        env: Mapping[str, str],
        module: str = COMMANDS,
        constants: Mapping[str, float] | None = None,
    ) -> ForkedCommand:
        """Call a module's `main` in a fork.

        Args:
            args: what `sys.argv` has after the program's name.
            cwd: the folder in which the fork works.
            env: its whole environment.
            module: the module with that `main`.
            constants: new values of module constants in the fork: `{"runner.pipeline.execute.NAME": 0.1}`.
        """
        words = tuple(map(str, args))
        fields = {"module": module, "args": words, "cwd": str(cwd), "env": dict(env), "constants": constants or {}}
        order = json.dumps(fields)
        pipes = [os.pipe() for _ in range(FDS_PER_ORDER - 1)]
        with tempfile.TemporaryFile() as file:
            file.write(order.encode())
            file.flush()
            socket.send_fds(self._socket, [b"\n"], [file.fileno(), *(write for _, write in pipes)])
        for _, write in pipes:
            os.close(write)
        return ForkedCommand(words, *(read for read, _ in pipes))

    def close(self) -> None:
        """End the server and every command that still runs."""
        self._socket.close()
        self._process.wait()


def serve(orders: socket.socket) -> Callable[[], object] | None:
    """Fork for each order until the client is gone; a fork returns what it has to run, the server None."""
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    running: dict[int, int] = {}
    while True:
        ready = wait([orders, woken])
        if woken in ready:
            woken.recv(4096)
            report_ends(running)
        if orders not in ready:
            continue
        mark, fds, *_ = socket.recv_fds(orders, 1, FDS_PER_ORDER)
        if not mark:
            for process in running:
                os.kill(process, signal.SIGKILL)
            return None
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (orders, woken, waker):
                end.close()
            for control in running.values():
                os.close(control)
            return prepare(*fds)
        for fd in fds[:-1]:
            os.close(fd)
        running[process] = fds[-1]
        os.write(fds[-1], f"{process}\n".encode())


def report_ends(running: dict[int, int]) -> None:
    """Write the exit codes of the forks that have ended."""
    for process in list(running):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            control = running.pop(process)
            with suppress(BrokenPipeError):
                os.write(control, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(control)


def prepare(order: int, stdout: int, stderr: int, control: int) -> Callable[[], object]:
    """Make this fork look like a process that was just started, and return what it has to run."""
    with open(order, "rb") as file:
        file.seek(0)
        given = json.load(file)
    os.close(control)
    for source, target in ((stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        os.close(source)
    os.chdir(given["cwd"])
    os.environ.clear()
    os.environ.update(given["env"])
    sys.argv[1:] = given["args"]
    for path, value in given["constants"].items():
        place, _, name = path.rpartition(".")
        module = importlib.import_module(place)
        getattr(module, name)  # fails if the constant has another name by now
        setattr(module, name, value)
    main: Callable[[], object] = importlib.import_module(given["module"]).main
    return main


def run(program: Callable[[], object]) -> NoReturn:
    """Run a program and leave as the interpreter does, except that it tears no modules down: that takes 50 ms here."""
    try:
        sys.exit(program())  # type: ignore[arg-type]
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - what the interpreter does with an exception that nothing catches
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    connection = socket.socket(fileno=int(sys.argv[1]))
    sys.path.insert(0, str(ROOT))
    sys.argv[:] = [str(ROOT / "runner" / "__main__.py")]  # the program imports for a command what it finds here
    for name in (COMMANDS, EMULATOR):
        importlib.import_module(name)
    anyio.run(anyio.sleep, 0)  # imports what an event loop needs
    gc.freeze()
    program = serve(connection)
    if program is not None:
        run(program)
