"""Texts with `{names}` in them.

Only braces around a name count, so nothing is ever doubled: `{"score": 5}` stands as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from runner.judge.rendering import as_text

_NAME = re.compile(r"\{([^\W\d]\w*(?:\.[^\W\d]\w*)*)\}")


class UnknownName(NamedTuple):
    """A name that is neither a field nor a column, and the nearest that is."""

    name: str
    nearest: str | None


class Template:
    """A text cut at its names once, and filled in a single pass as often as needed.

    What is filled in is never looked at again, so a dataset's `{answer}` stays what it is.
    """

    __slots__ = ("_pieces", "names")

    def __init__(self, text: str) -> None:
        self._pieces = tuple(_NAME.split(text))  # literals at even places, names at odd ones
        self.names: tuple[str, ...] = tuple(dict.fromkeys(self._pieces[1::2]))

    def render(self, lookup: Callable[[str], Any]) -> str:
        """Return the text with the value that `lookup` gives for each name."""
        if not self.names:
            return self._pieces[0]
        pieces = list(self._pieces)
        for place in range(1, len(pieces), 2):
            pieces[place] = as_text(lookup(pieces[place]))
        return "".join(pieces)

    def exchanged(self, first: str, second: str) -> Template:
        """Return the same text with two names (and what lies below them) exchanged."""
        other = Template("")
        pieces = list(self._pieces)
        pieces[1::2] = [exchange(name, first, second) for name in pieces[1::2]]
        other._pieces = tuple(pieces)
        other.names = tuple(dict.fromkeys(pieces[1::2]))
        return other


def exchange(name: str, first: str, second: str) -> str:
    """Return the name that takes this one's place when two names are exchanged."""
    root, dot, rest = name.partition(".")
    if root == first:
        return second + dot + rest
    if root == second:
        return first + dot + rest
    return name


def unknown_names(names: Iterable[str], fields: Collection[str], columns: Collection[str]) -> list[UnknownName]:
    """Return the names that no field or column answers, each with the nearest right spelling."""
    known = dict.fromkeys([*fields, *columns])
    unknown = []
    for name in names:
        root = name.partition(".")[0]
        if name not in known and root not in known:
            nearest = get_close_matches(root, known, n=1)
            unknown.append(UnknownName(name, nearest[0] if nearest else None))
    return unknown
