"""Progress on stderr: a live line on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from runner.core import duration
from runner.monitor.progress import Progress, one_line, states

PLAIN_INTERVAL_SECONDS = 10.0


class ProgressDisplay(Protocol):
    """Something that looks at the progress about once a second."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress) -> None:
        """Look at the run's progress."""

    def say(self, text: str) -> None:
        """Take note of something that happens once."""


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

    def say(self, text: str) -> None:
        """Say nothing."""


class PlainLines(Silent):
    """A line every ten seconds, for logs."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PLAIN_INTERVAL_SECONDS

    def say(self, text: str) -> None:
        """Print it."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def show(self, progress: Progress) -> None:
        """Print the line when it is due."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PLAIN_INTERVAL_SECONDS
            self.say(one_line(progress))


class _Bar(Bar):
    """A bar with more lines under it: one line would lose the bar itself on a terminal of 80 columns."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(self.below, overflow="ellipsis", no_wrap=True)


class LiveBar:
    """A bar and a line of figures, drawn anew once a second, for a terminal."""

    def __init__(self) -> None:
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, pace="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print it above the bar."""
        self._bar.console.print(Text(text))

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
            below += f"\nbatches: {states(progress.batches)}"
        if progress.paused_because:
            below += f"\nwaiting for the service: {progress.paused_because}"
        self._bar.below = below
        self._bar.update(
            self._task,
            description=progress.state,
            completed=progress.shown,
            total=progress.total,
            pace=f"{rate} rows/s  eta {duration(progress.eta_s)}",
        )
        self._bar.refresh()


def watcher(progress: bool | str, quiet: bool) -> ProgressDisplay:
    """The watcher for `monitor.progress` and `--quiet`: a bar where there is a terminal to draw it on, else lines."""
    if quiet or progress is False:
        return Silent()
    return LiveBar() if sys.stderr.isatty() else PlainLines()
