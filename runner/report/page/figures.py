"""Tables of figures; each line has a dot and whiskers on an axis that the table's lines share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.stats.simultaneous import MIN_QUESTIONS

Data = Mapping[str, Any]

_HALF = 0.5
_MAX_AXIS_STEPS = 6


class FigureText(msgspec.Struct, frozen=True):
    """A figure as text.

    Attributes:
        text: its value, or a dash.
        span: its interval; empty if there is none.
        small: why there is no value or no interval; empty if there are both.
        title: interval and counts, for a tooltip.
        n: the number of cases it is computed from.
        left_out: the number of cases that are missing.
    """

    text: str
    span: str
    small: str
    title: str
    n: str
    left_out: str


class Whiskers(msgspec.Struct, frozen=True):
    """The position of a figure on its axis in per cent; an open end of the interval reaches the end of the axis."""

    at: float
    low: float | None
    high: float | None


class Line(msgspec.Struct, frozen=True):
    """One line of a table: a name, a figure with whiskers, and further figures without.

    If `shown` is None, the line is a heading for the lines below it.
    """

    name: str
    hint: str = ""
    shown: FigureText | None = None
    whiskers: Whiskers | None = None
    more: Sequence[FigureText] = ()


class Axis(msgspec.Struct, frozen=True):
    """The axis of a table: `ticks` are positions in per cent with texts, `mark` is the position of the reference."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    mark: float | None


class FigureTable(msgspec.Struct, frozen=True):
    """A table of figures; `head` names the first column, `more` the further ones."""

    title: str
    head: str
    lines: Sequence[Line]
    axis: Axis | None
    more: Sequence[str] = ()
    note: str = ""


class Kind(msgspec.Struct, frozen=True):
    """A kind of figure: how to write its value, the fixed ends of its axis (if any), and its reference value."""

    write: Callable[[float], str]
    low: float | None = None
    high: float | None = None
    mark: float | None = None


SHARE = Kind(formatting.share, 0.0, 1.0)
EVEN_SHARE = Kind(formatting.share, 0.0, 1.0, 0.5)
SIGNED_SHARE = Kind(formatting.share, -1.0, 1.0, 0.0)
COEFFICIENT = Kind(formatting.number, None, 1.0, 0.0)
NUMBER = Kind(formatting.number)
DIFFERENCE = Kind(formatting.number, None, None, 0.0)
RATING = Kind(formatting.rating, None, None, 1000.0)

# A line of a table: name, hint, figure (None: a heading) and further figures.
Entry = tuple[str, str, Data | None, Sequence[FigureText]]


def format_figure(figure: Data, kind: Kind) -> FigureText:
    """Returns a figure as text."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    span = "" if low is None and high is None else f"{_end(low, kind)} to {_end(high, kind)}"
    facts = [f"n = {figure['n']:,}", f"left out: {figure['left_out']:,}"]
    if figure["count"] is not None:
        facts.insert(0, f"{figure['count']:,} of {figure['n']:,}")
    if span:
        facts.insert(0, f"95 % interval {span}")
    return FigureText(
        text=formatting.NONE if value is None else kind.write(value),
        span=span,
        small=figure["reason"] or "",
        title="; ".join(facts),
        n=formatting.whole(figure["n"]),
        left_out=formatting.whole(figure["left_out"]),
    )


def with_enough_questions(figure: Data, questions: int) -> Data:
    """Returns the figure of a group, without its interval if too few questions are behind it."""
    if questions >= MIN_QUESTIONS or (figure["low"] is None and figure["high"] is None):
        return figure
    reason = f"no interval: fewer than {MIN_QUESTIONS} questions"
    return {**figure, "low": None, "high": None, "reason": figure["reason"] or reason}


def figure_table(title: str, head: str, entries: Sequence[Entry], kind: Kind, **more: Any) -> FigureTable:
    """Make a table of figures of one kind.

    Args:
        title: the heading of the table.
        head: the name of the first column.
        entries: the lines.
        kind: of the figures.
        more: `more` and `note` of the table.
    """
    axis = make_axis([figure for _, _, figure, _ in entries if figure is not None], kind)
    lines = [
        Line(name, hint)
        if figure is None
        else Line(name, hint, format_figure(figure, kind), whiskers(figure, axis), further)
        for name, hint, figure, further in entries
    ]
    return FigureTable(title, head, lines, axis, **more)


def make_axis(figures: Sequence[Data], kind: Kind) -> Axis | None:
    """Make an axis that contains all values and intervals; None if there is no value."""
    ends = [
        end
        for figure in figures
        if figure["value"] is not None
        for end in (figure["value"], figure["low"], figure["high"])
        if end is not None
    ]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    if kind.mark is not None and (kind.low, kind.high) == (None, None):
        low, high = min(low, kind.mark), max(high, kind.mark)
    step = _step((high - low) or abs(high) or 1.0)
    low = math.floor(low / step) * step if kind.low is None else kind.low
    high = math.ceil(high / step) * step if kind.high is None else kind.high
    if kind is COEFFICIENT:
        low = -1.0 if min(ends) < -_HALF else -_HALF if min(ends) < 0 else 0.0
    if high <= low:
        high = low + step
    mark = None if kind.mark is None or not low <= kind.mark <= high else percent_position(kind.mark, low, high)
    ticks = (-_HALF, 0.0, _HALF, 1.0) if low == -_HALF and kind is COEFFICIENT else (low, (low + high) / 2, high)
    return Axis(low, high, [(percent_position(at, low, high), _tick(at, kind)) for at in ticks], mark)


def percent_position(value: float, low: float, high: float) -> float:
    """Returns the position of a value between two ends in per cent, clamped to the ends."""
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 3)


def whiskers(figure: Data, axis: Axis | None) -> Whiskers | None:
    """Returns the positions of a figure and its interval on an axis; None without a value."""
    if axis is None or figure["value"] is None:
        return None
    low, high = figure["low"], figure["high"]
    open_ended = (low is None) != (high is None)
    return Whiskers(
        at=percent_position(figure["value"], axis.low, axis.high),
        low=(0.0 if open_ended else None) if low is None else percent_position(low, axis.low, axis.high),
        high=(100.0 if open_ended else None) if high is None else percent_position(high, axis.low, axis.high),
    )


def _end(end: float | None, kind: Kind) -> str:
    return "no bound" if end is None else kind.write(end)


def _tick(at: float, kind: Kind) -> str:
    return f"{100 * at:.0f} %".replace("-", "−") if kind.write is formatting.share else formatting.plain(at)


def _step(width: float) -> float:
    """Returns a round step that divides the width into at most `_MAX_AXIS_STEPS` steps."""
    size = float(10 ** math.floor(math.log10(width)))
    return next(step for step in (size / 5, size / 2, size, 2 * size) if width / step <= _MAX_AXIS_STEPS)
