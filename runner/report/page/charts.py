"""Small charts as places and lengths in per cent of their width; the templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from runner.report.page import formatting

_LABELS = 8
_ROOM = 9.0
"""A part of a stacked bar that is narrower (in per cent) has no room for its text."""

CLASSES = {"1": "answer 1", "2": "answer 2", "tie": "tie", "unread": "not readable"}


class Part(msgspec.Struct, frozen=True):
    """A part of a stacked bar; `style` names its colour."""

    style: str
    x: float
    width: float
    text: str
    title: str


class Stack(msgspec.Struct, frozen=True):
    """A stacked bar with the whole that it shows in words."""

    name: str
    parts: Sequence[Part]
    n: str
    told: str


class Bar(msgspec.Struct, frozen=True):
    """A bar of a histogram: x and width in per cent, height as a share of the highest."""

    x: float
    width: float
    height: float
    title: str


class Bars(msgspec.Struct, frozen=True):
    """A histogram; `labels` are places in per cent and texts."""

    bars: Sequence[Bar]
    labels: Sequence[tuple[float, str]]
    told: str


class Area(msgspec.Struct, frozen=True):
    """Points of a line for an SVG of 100 by 100, and the outline below it."""

    line: str
    outline: str
    most: float
    told: str


def stack(name: str, counts: Mapping[str, int], of_rows: bool) -> Stack:
    """Put the winners of one judge (of rows), of the verdict or of people (of samples) into a bar."""
    n = sum(counts.values())
    parts, x = [], 0.0
    for key, label in CLASSES.items():
        width = 100 * counts.get(key, 0) / n if n else 0.0
        if width:
            share = formatting.share(width / 100)
            title = f"{name}, {label}: {counts[key]:,} of {n:,} ({share})"
            parts.append(Part(f"w-{key}", round(x, 3), round(width, 3), share if width >= _ROOM else "", title))
        x += width
    told = (
        ", ".join(f"{CLASSES[key]} {formatting.share(counts.get(key, 0) / n)}" for key in CLASSES) if n else "no rows"
    )
    return Stack(name, parts, formatting.plural(n, "row" if of_rows else "sample"), told)


def bars(
    values: Sequence[float] | None,
    edges: Sequence[float] | None,
    counts: Sequence[int],
    write: Callable[[float], str] = formatting.plain,
) -> Bars:
    """Make a histogram of values, each with a bar of its own, or of the stretches between edges."""
    if not counts:
        return Bars((), (), "nothing")
    most, width = max(counts) or 1, 100 / len(counts)
    if values is not None:
        names = [write(value) for value in values]
        every = -(-len(names) // _LABELS)
        labels = [((n + 0.5) * width, name) for n, name in enumerate(names) if n % every == 0]
    else:
        ends = [write(edge) for edge in edges or ()]
        names = [f"{low} to {high}" for low, high in pairwise(ends)]
        every = max(1, len(counts) // 4)
        labels = [(n * width, end) for n, end in enumerate(ends) if n % every == 0]
    made = [
        Bar(round(n * width + 0.08 * width, 3), round(0.84 * width, 3), round(count / most, 4), f"{name}: {count:,}")
        for n, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    top = max(range(len(counts)), key=counts.__getitem__)
    return Bars(made, labels, f"{sum(counts):,} in all, most of them ({counts[top]:,}) {names[top]}")


def area(timeline: Sequence[int], step_s: float | None) -> Area | None:
    """Rows per second over the time; None where there is no time to speak of."""
    if len(timeline) < 2 or not step_s:
        return None
    rates = [count / step_s for count in timeline]
    most = max(rates) or 1.0
    last = len(rates) - 1
    points = " ".join(f"{100 * n / last:.2f},{100 - 96 * rate / most:.2f}" for n, rate in enumerate(rates))
    told = f"at most {formatting.number(most)} rows per second, {formatting.number(sum(rates) / len(rates))} on average"
    return Area(points, f"0,100 {points} 100,100", most, told)
