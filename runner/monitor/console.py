"""Progress on stderr: a live line on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from runner.core import duration, escape_controls
from runner.monitor.progress import Progress, format_states, one_line

PLAIN_INTERVAL_SECONDS = 10.0


class ProgressDisplay(Protocol):
    """Shows the progress of a run; the run updates it about once a second."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress) -> None:
        """Show the progress if it is due."""

    def notify(self, text: str) -> None:
        """Show a message about a single event."""


class NoDisplay:
    """Shows nothing (`--quiet`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, progress: Progress) -> None:
        """Show nothing."""

    def notify(self, text: str) -> None:
        """Show nothing."""


class PlainLines(NoDisplay):
    """Prints a line every ten seconds, for logs."""

    def __init__(self) -> None:
        self._next_line = time.monotonic() + PLAIN_INTERVAL_SECONDS

    def notify(self, text: str) -> None:
        """Print the message."""
        write_line(text)

    def show(self, progress: Progress) -> None:
        """Print the progress as one line, if ten seconds have passed."""
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + PLAIN_INTERVAL_SECONDS
            self.notify(one_line(progress))


def write_line(text: str) -> None:
    """Write a line to stderr, if that is possible; control characters are shown as text."""
    with suppress(OSError, ValueError, AttributeError):  # full or broken, closed, absent (None)
        sys.stderr.write(f"{escape_controls(text)}\n")
        sys.stderr.flush()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Stop writing. Rich would end the process."""
        self.quiet = True


class _Bar(Bar):
    """A bar with additional lines below it: on one line of 80 columns there would be no room for the bar."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.below, overflow="ellipsis", no_wrap=True)


class LiveBar:
    """Draws a bar and lines of figures on a terminal, about once a second."""

    def __init__(self) -> None:
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=_Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, pace="")

    def __enter__(self) -> Self:
        with suppress(OSError, ValueError):
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, ValueError):
            self._bar.stop()

    def notify(self, text: str) -> None:
        """Print the message above the bar."""
        with suppress(OSError, ValueError):
            self._bar.console.print(Text(escape_controls(text)))

    def show(self, progress: Progress) -> None:
        """Draw the bar."""
        rate = "-" if progress.rate is None else f"{progress.rate:.1f}"
        below = (
            f"in flight {progress.in_flight}  retries {progress.retries}  429s {progress.throttled}  "
            f"failed {progress.failed}  unparsed {progress.unparsed}  tokens {progress.tokens:,}"
        )
        if progress.cost is not None:
            below += f"  cost {progress.cost:.4f}"
        if progress.batches:
            below += f"\nbatches: {format_states(progress.batches)}"
        if progress.paused_because:
            below += f"\nwaiting for the service: {progress.paused_because}"
        self._bar.below = escape_controls(below)
        self._bar.update(
            self._task,
            description=progress.state,
            completed=progress.shown,
            total=progress.total,
            pace=f"{rate} rows/s  eta {duration(progress.eta_s)}",
        )
        with suppress(OSError, ValueError):
            self._bar.refresh()


def progress_display(progress: bool | str, quiet: bool) -> ProgressDisplay:
    """Return the display for `monitor.progress` and `--quiet`: a bar if stderr is a terminal, else plain lines."""
    if quiet or progress is False or sys.stderr is None or sys.stderr.closed:
        return NoDisplay()
    return LiveBar() if sys.stderr.isatty() else PlainLines()
