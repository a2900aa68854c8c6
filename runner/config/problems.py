"""What is wrong with a configuration, and the words to say so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from runner.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

_MOST = 10
_PRIVATE = re.compile(r"token|secret|passw|api.?key|\bkey\b|authorization|cookie|headers|proxy|base_url", re.IGNORECASE)
_TOKEN_LIKE = re.compile(r"bearer\b|\bsk-|://[^/\s]*@|(?=\S*\d)(?=\S*[A-Za-z])[^\s./]{16,}", re.IGNORECASE)


class SourceLocation(msgspec.Struct, frozen=True):
    """Where a value was written.

    Attributes:
        label: `judge.yaml:12`, or `--set judge.model=x`.
        order: line, or a number above all lines for an override.
        key: for an override, the dotted key it sets, which its label already names.
        raw: the text as written, where the environment has a part in it.
    """

    label: str
    order: int
    key: str | None = None
    raw: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """One thing to mend: where it stands and what is wrong with it."""

    path: KeyPath
    message: str
    place: SourceLocation | None = None


def dotted(path: KeyPath) -> str:
    """Return a path as it is written in messages and in `--set`."""
    return ".".join(str(part) for part in path)


def looks_private(text: str) -> bool:
    """Whether a key names something secret."""
    return _PRIVATE.search(text) is not None


def looks_like_token(text: str) -> bool:
    """Whether a text could itself be a secret: long, without blanks, letters and digits mixed."""
    return _TOKEN_LIKE.search(text) is not None


def shown(value: Any, path: KeyPath = ()) -> str:
    """Return what was found, in a form that is short, names no Python type and gives no secret away."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        numbers = 0 < len(value) <= 4 and all(isinstance(item, (int, float)) for item in value)
        return f"[{', '.join(shown(item, path) for item in value)}]" if numbers else "a list"
    text = str(value).lower() if isinstance(value, bool) else str(getattr(value, "text", value))
    if looks_private(dotted(path)) or looks_like_token(text):
        return "a value that is not shown here"
    if not isinstance(value, str):
        return text
    text = " ".join(text.split())
    return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"


def nearest(word: object, words: Iterable[str]) -> str | None:
    """Return the word that was probably meant, or None."""
    found = difflib.get_close_matches(str(word).lower(), list(words), n=1)
    return found[0] if found else None


def as_written(path: KeyPath, data: Mapping[str, Any]) -> KeyPath:
    """Return a path with `judge` and `service` in it where the YAML has these in place of the lists."""
    for one, many in (("judge", "judges"), ("service", "services")):
        if path[:1] == (many,) and one in data and many not in data:
            return (one, *path[2:])
    return path


def place_of(path: KeyPath, places: Mapping[KeyPath, SourceLocation]) -> SourceLocation:
    """Return where a path was written; for one that was not, where the nearest thing around it was."""
    while path and path not in places:
        path = path[:-1]
    return places[path]


def config_error(problems: Iterable[Problem], places: Mapping[KeyPath, SourceLocation]) -> ConfigError:
    """Return one error that says everything that is wrong, in the order of the file, a line each."""
    placed = [(problem.place or place_of(problem.path, places), problem) for problem in problems]
    placed.sort(key=lambda item: item[0].order)
    lines = list(dict.fromkeys(_line(place, problem) for place, problem in placed))
    if len(lines) > _MOST:
        lines[_MOST:] = [f"... and {len(lines) - _MOST} more"]
    return ConfigError("\n".join(lines))


def _line(place: SourceLocation, problem: Problem) -> str:
    key = dotted(problem.path)
    named = "" if not key or key == place.key else f"{key}: "
    return f"{place.label}: {named}{problem.message}"
