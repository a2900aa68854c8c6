"""Small charts as positions and lengths in per cent of their width; the templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from runner.report.page import formatting

_MAX_AXIS_LABELS = 8
_MIN_LABELLED_WIDTH_PERCENT = 9.0  # a narrower part of a stacked bar has no room for its text

CLASSES = {"1": "answer 1", "2": "answer 2", "tie": "tie", "unread": "not readable"}


class Part(msgspec.Struct, frozen=True):
    """A part of a stacked bar; `style` is its CSS class."""

    style: str
    x: float
    width: float
    text: str
    title: str


class Stack(msgspec.Struct, frozen=True):
    """A stacked bar; `n` is its total with a unit, `description` its content as text."""

    name: str
    parts: Sequence[Part]
    n: str
    description: str


class Bar(msgspec.Struct, frozen=True):
    """A bar of a histogram: x and width in per cent, height as a share of the highest bar."""

    x: float
    width: float
    height: float
    title: str


class Bars(msgspec.Struct, frozen=True):
    """A histogram; `labels` are positions in per cent with their texts."""

    bars: Sequence[Bar]
    labels: Sequence[tuple[float, str]]
    description: str


class Area(msgspec.Struct, frozen=True):
    """A line chart in a viewbox of 100 by 100; `outline` is the filled area below the line, `peak` the highest rate."""

    line: str
    outline: str
    peak: float
    description: str


def stack(name: str, counts: Mapping[str, int], of_rows: bool) -> Stack:
    """Make a stacked bar of winners; `of_rows` says whether they are counts of rows or of samples."""
    n = sum(counts.values())
    parts, x = [], 0.0
    for key, label in CLASSES.items():
        width = 100 * counts.get(key, 0) / n if n else 0.0
        if width:
            share = formatting.share(width / 100)
            title = f"{name}, {label}: {counts[key]:,} of {n:,} ({share})"
            text = share if width >= _MIN_LABELLED_WIDTH_PERCENT else ""
            parts.append(Part(f"w-{key}", round(x, 3), round(width, 3), text, title))
        x += width
    shares = [f"{CLASSES[key]} {formatting.share(counts.get(key, 0) / n)}" for key in CLASSES] if n else ["no rows"]
    return Stack(name, parts, formatting.plural(n, "row" if of_rows else "sample"), ", ".join(shares))


def bars(
    values: Sequence[float] | None,
    edges: Sequence[float] | None,
    counts: Sequence[int],
    write: Callable[[float], str] = formatting.plain,
) -> Bars:
    """Make a histogram with one bar per value or, if `values` is None, one bar between each two edges."""
    if not counts:
        return Bars((), (), "no data")
    highest, width = max(counts) or 1, 100 / len(counts)
    if values is not None:
        names = [write(value) for value in values]
        step = -(-len(names) // _MAX_AXIS_LABELS)
        labels = [((n + 0.5) * width, name) for n, name in enumerate(names) if n % step == 0]
    else:
        ends = [write(edge) for edge in edges or ()]
        names = [f"{low} to {high}" for low, high in pairwise(ends)]
        step = max(1, len(counts) // 4)
        labels = [(n * width, end) for n, end in enumerate(ends) if n % step == 0]
    drawn = [
        Bar(round(n * width + 0.08 * width, 3), round(0.84 * width, 3), round(count / highest, 4), f"{name}: {count:,}")
        for n, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    top = max(range(len(counts)), key=counts.__getitem__)
    return Bars(drawn, labels, f"{sum(counts):,} in total; most frequent: {names[top]} ({counts[top]:,})")


def area(timeline: Sequence[int], step_s: float | None) -> Area | None:
    """Make a chart of rows per second over time; None if the run took no measurable time."""
    if len(timeline) < 2 or not step_s:
        return None
    rates = [count / step_s for count in timeline]
    peak = max(rates) or 1.0
    last = len(rates) - 1
    points = " ".join(f"{100 * n / last:.2f},{100 - 96 * rate / peak:.2f}" for n, rate in enumerate(rates))
    mean = sum(rates) / len(rates)
    description = f"at most {formatting.number(peak)} rows per second, {formatting.number(mean)} on average"
    return Area(points, f"0,100 {points} 100,100", peak, description)
