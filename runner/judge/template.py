"""Prompt templates with `{name}` placeholders: a name, and keys of objects or positions in lists after dots.

Only braces around a name are a placeholder, so braces never need escaping: `{"score": 5}` is left unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

from runner.core import splits
from runner.judge.rendering import as_text

_NAME = re.compile(r"\{([^\W\d]\w*(?:\.(?:[^\W\d]\w*|-?[0-9]{1,9}))*)\}")


class UnknownName(NamedTuple):
    """A name that is neither a field nor a column, and the most similar known name."""

    name: str
    nearest: str | None


class Template:
    """A text that is split at its placeholders once and rendered in a single pass.

    Inserted values are not expanded again, so `{answer}` in a dataset's text is left unchanged.
    """

    __slots__ = ("_pieces", "names")

    def __init__(self, text: str) -> None:
        self._pieces = tuple(_NAME.split(text))  # literals at even indexes, names at odd ones
        self.names: tuple[str, ...] = tuple(dict.fromkeys(self._pieces[1::2]))

    def render(self, lookup: Callable[[str], Any]) -> str:
        """Return the text with each name replaced by the value that `lookup` returns."""
        if not self.names:
            return self._pieces[0]
        pieces = list(self._pieces)
        for place in range(1, len(pieces), 2):
            pieces[place] = as_text(lookup(pieces[place]))
        return "".join(pieces)

    def swapped(self, first: str, second: str) -> Template:
        """Return the same template with two names swapped, including dotted paths below them."""
        other = Template("")
        pieces = list(self._pieces)
        pieces[1::2] = [swap_name(name, first, second) for name in pieces[1::2]]
        other._pieces = tuple(pieces)
        other.names = tuple(dict.fromkeys(pieces[1::2]))
        return other


def swap_name(name: str, first: str, second: str) -> str:
    """Return the name that replaces this one if `first` and `second` are swapped."""
    root, dot, rest = name.partition(".")
    if root == first:
        return second + dot + rest
    if root == second:
        return first + dot + rest
    return name


def unknown_names(names: Iterable[str], fields: Collection[str], columns: Collection[str]) -> list[UnknownName]:
    """Return the names that match no field or column, each with the most similar known name."""
    known = dict.fromkeys([*fields, *columns])
    unknown = []
    for name in names:
        if not any(root in known for root, _ in splits(name)):
            nearest = get_close_matches(name.partition(".")[0], known, n=1)
            unknown.append(UnknownName(name, nearest[0] if nearest else None))
    return unknown
