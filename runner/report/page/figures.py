"""Figures of the summary as lines of a table, each with a dot and whiskers on an axis that the table shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from runner.report.page import formatting

Data = Mapping[str, Any]

_HALF = 0.5


class Shown(msgspec.Struct, frozen=True):
    """A figure in words.

    Attributes:
        text: its value, or a dash.
        span: its interval; empty where there is none.
        small: why there is no value or no interval; empty where there are both.
        title: what it rests on.
    """

    text: str
    span: str
    small: str
    title: str
    n: str
    left_out: str


class Whiskers(msgspec.Struct, frozen=True):
    """Where a figure is on its axis, in per cent of the axis; an open end reaches the axis's end."""

    at: float
    low: float | None
    high: float | None


class Line(msgspec.Struct, frozen=True):
    """One line of a table: a name, a figure with its whiskers, and further figures without.

    With `shown` None it is a heading over the lines below it.
    """

    name: str
    hint: str = ""
    shown: Shown | None = None
    whiskers: Whiskers | None = None
    more: Sequence[Shown] = ()


class Axis(msgspec.Struct, frozen=True):
    """What whiskers are drawn on: its ticks (place in per cent, text) and the place of the mark to compare with."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    mark: float | None


class Block(msgspec.Struct, frozen=True):
    """A table of figures; `head` names the first column, `more` the further ones."""

    title: str
    head: str
    lines: Sequence[Line]
    axis: Axis | None
    more: Sequence[str] = ()
    note: str = ""


class Kind(msgspec.Struct, frozen=True):
    """What a figure is: how its value is written, the ends of its axis where they are given, and its mark."""

    write: Callable[[float], str]
    low: float | None = None
    high: float | None = None
    mark: float | None = None


SHARE = Kind(formatting.share, 0.0, 1.0)
EVEN = Kind(formatting.share, 0.0, 1.0, 0.5)
LEAN = Kind(formatting.share, -1.0, 1.0, 0.0)
COEFFICIENT = Kind(formatting.number, None, 1.0, 0.0)
NUMBER = Kind(formatting.number)
DIFFERENCE = Kind(formatting.number, None, None, 0.0)
RATING = Kind(formatting.rating, None, None, 1000.0)


def shown(figure: Data, kind: Kind) -> Shown:
    """Put a figure into words."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    span = "" if low is None and high is None else f"{_end(low, kind)} to {_end(high, kind)}"
    rests = [f"n = {figure['n']:,}", f"left out: {figure['left_out']:,}"]
    if figure["count"] is not None:
        rests.insert(0, f"{figure['count']:,} of {figure['n']:,}")
    if span:
        rests.insert(0, f"95 % interval {span}")
    return Shown(
        text=formatting.NONE if value is None else kind.write(value),
        span=span,
        small=figure["reason"] or "",
        title="; ".join(rests),
        n=formatting.whole(figure["n"]),
        left_out=formatting.whole(figure["left_out"]),
    )


def block(
    title: str, head: str, entries: Sequence[tuple[str, str, Data | None, Sequence[Shown]]], kind: Kind, **more: Any
) -> Block:
    """Make a table of figures of one kind.

    Args:
        title: over it.
        head: names the first column.
        entries: name, hint, figure and further figures of each line; without a figure it is a heading.
        kind: of the figures.
        more: `more` and `note` of the block.
    """
    axis = make_axis([figure for _, _, figure, _ in entries if figure is not None], kind)
    lines = [
        Line(name, hint) if figure is None else Line(name, hint, shown(figure, kind), whiskers(figure, axis), further)
        for name, hint, figure, further in entries
    ]
    return Block(title, head, lines, axis, **more)


def make_axis(figures: Sequence[Data], kind: Kind) -> Axis | None:
    """An axis that holds all values and intervals; None where there is no value."""
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
    mark = None if kind.mark is None or not low <= kind.mark <= high else place(kind.mark, low, high)
    ticks = (-_HALF, 0.0, _HALF, 1.0) if low == -_HALF and kind is COEFFICIENT else (low, (low + high) / 2, high)
    return Axis(low, high, [(place(at, low, high), _tick(at, kind)) for at in ticks], mark)


def place(value: float, low: float, high: float) -> float:
    """Where a value is between two ends, in per cent, never beyond."""
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 3)


def whiskers(figure: Data, axis: Axis | None) -> Whiskers | None:
    """Where a figure and its interval are on an axis; None without a value."""
    if axis is None or figure["value"] is None:
        return None
    low, high = figure["low"], figure["high"]
    open_ended = (low is None) != (high is None)
    return Whiskers(
        at=place(figure["value"], axis.low, axis.high),
        low=(0.0 if open_ended else None) if low is None else place(low, axis.low, axis.high),
        high=(100.0 if open_ended else None) if high is None else place(high, axis.low, axis.high),
    )


def _end(end: float | None, kind: Kind) -> str:
    return "no bound" if end is None else kind.write(end)


def _tick(at: float, kind: Kind) -> str:
    return f"{100 * at:.0f} %".replace("-", "−") if kind.write is formatting.share else formatting.plain(at)


def _step(width: float) -> float:
    """A round length, a few of which make the width."""
    size = float(10 ** math.floor(math.log10(width)))
    return next(step for step in (size / 5, size / 2, size, 2 * size) if width / step <= 6)
