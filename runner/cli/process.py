"""The process of a command: its signals, limits and streams, and the exit codes of errors."""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from functools import partial
from typing import NoReturn

from runner.cli.commands import app
from runner.cli.streams import guard_streams, print_error, print_message
from runner.core import raise_open_file_limit
from runner.errors import UsageError

# Allocations between two garbage collections. Rows have no reference cycles, and with Python's default of 700 the
# collections take an eighth of a run's CPU.
GC_THRESHOLD = 50_000


def main() -> None:
    """Run the console command and exit with its exit code."""
    guard_streams()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores it
            signal.signal(number, partial(_exit, code))
    raise_open_file_limit()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 1000)
    try:
        app(prog_name="judge-runner")
    except UsageError as error:
        print_error(str(error))
        sys.exit(2)
    except UnicodeEncodeError as error:
        if error.encoding != sys.getfilesystemencoding() or error.encoding == "utf-8":
            _exit_with_bug()
        name = error.object[error.start : error.end]
        print_error(f"this locale's encoding ({error.encoding}) has no {name!r} for file names; set PYTHONUTF8=1")
        sys.exit(2)
    except Exception:  # noqa: BLE001 - a bug: any other error has a message and an exit code of its own
        _exit_with_bug()


def _exit(code: int, *_: object) -> None:
    """Exit at a signal that arrives while there is nothing to drain."""
    sys.exit(code)


def _exit_with_bug() -> NoReturn:
    """Print the exception that is being handled and exit."""
    print_message(traceback.format_exc().rstrip())
    print_error("this is a bug in judge-runner; all answers so far are kept, and the same command resumes the run")
    sys.exit(70)
