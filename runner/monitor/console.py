"""Progress on stderr: a live line on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from runner.monitor.progress import Progress, duration, one_line

PLAIN_EVERY_S = 10.0


class Watcher(Protocol):
    """Something that looks at the progress about once a second."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress) -> None:
        """Look at the run's progress."""


class Silent:
    """Shows nothing (`--quiet`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, progress: Progress) -> None:
        """Show nothing."""


class PlainLines(Silent):
    """A line every ten seconds, for logs."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PLAIN_EVERY_S

    def show(self, progress: Progress) -> None:
        """Print the line when it is due."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PLAIN_EVERY_S
            sys.stderr.write(one_line(progress) + "\n")
            sys.stderr.flush()


class LiveBar:
    """A bar that is drawn anew once a second, for a terminal."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw the bar."""
        rate = "-" if progress.rate is None else f"{progress.rate:.1f}"
        figures = (
            f"{rate} rows/s  eta {duration(progress.eta_s)}  in flight {progress.in_flight}  "
            f"retries {progress.retries}  429s {progress.throttled}  failed {progress.failed}  "
            f"unparsed {progress.unparsed}  tokens {progress.tokens:,}"
        )
        if progress.paused_because:
            figures += f"\n  waiting for the service: {progress.paused_because}"
        self._bar.update(
            self._task,
            description=progress.state,
            completed=progress.done,
            total=progress.total,
            figures=figures,
        )
        self._bar.refresh()


def watcher(progress: bool | str, quiet: bool) -> Watcher:
    """The watcher for `monitor.progress` (true, false, or `auto`: a bar on a terminal, else lines) and `--quiet`."""
    if quiet or progress is False:
        return Silent()
    return LiveBar() if progress is True or sys.stderr.isatty() else PlainLines()
