"""Standard streams that never raise: terminals of any encoding, closed or full files, pipes whose reader is gone."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from runner.core import escape_controls
from runner.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WAIT_SECONDS = 5.0  # for a terminal or pipe in non-blocking mode that is full


class BestEffortFile(io.FileIO):
    """A standard stream whose first failure is kept instead of raised; after it, everything written is dropped.

    Attributes:
        failure: the error; None as long as every write has succeeded.
    """

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes; returns the number of bytes that are written or dropped."""
        if self.failure is None:
            try:
                return self._written(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes

    def _written(self, data: ReadableBuffer) -> int:
        written: int | None = super().write(data)
        if written is None:
            select.select([], [self], [], WAIT_SECONDS)
            written = super().write(data)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return written


def guard_streams() -> None:
    """Replace sys.stdout and sys.stderr by streams that never raise.

    A closed standard stream becomes the null device, so that no file that is opened later gets its number: a child
    process would write its messages into that file. Data in a file or a pipe is UTF-8. Terminals and messages keep
    their encoding, with an escape in place of each character that it lacks.
    """
    for number in range(3):
        _fill(number)
    if sys.stdout is sys.__stdout__:  # not if a program captures what is printed
        sys.stdout = _guarded(1, sys.stdout if os.isatty(1) else None)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(2, sys.stderr)


def print_data(text: str) -> None:
    """Print a line of data to stdout.

    Raises:
        UsageError: it cannot be written. A reader that has seen enough (`| head -1`) is no error.
    """
    print_line(text)
    failure = _failure_of_stdout()
    if failure is not None and failure.errno != errno.EPIPE:
        raise UsageError(f"standard output: cannot be written: {failure.strerror or failure}")


def print_line(text: str) -> None:
    """Print a line to stdout, if that is possible."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_message(text: str) -> None:
    """Print a message to stderr, if that is possible; control characters are shown as text."""
    sys.stderr.write(f"{escape_controls(text)}\n")
    sys.stderr.flush()


def print_error(text: str) -> None:
    """Print an error to stderr."""
    print_message(f"error: {text}")


def is_reader_gone() -> bool:
    """Returns True if nobody reads stdout any more."""
    return _failure_of_stdout() is not None


def _failure_of_stdout() -> OSError | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, BestEffortFile) else None


def _fill(number: int) -> None:
    """Open the null device under a file number that is closed; children inherit it."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def _guarded(number: int, given: TextIO | None) -> io.TextIOWrapper:
    """Return a stream on a file number, in the encoding of `given` or UTF-8."""
    raw = BestEffortFile(number, "wb", closefd=False)
    encoding = "utf-8" if given is None else given.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty())
