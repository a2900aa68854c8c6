"""Problems of a configuration: their location, and the text of the error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from runner.errors import ConfigError

KeyPath = tuple[str | int, ...]  # the keys and list positions that lead to a value

_MAX_LINES = 10
_SECRET_KEY = re.compile(
    r"token|secret|passw|api.?key|\bkey\b|authorization|cookie|headers|service.*\bquery|proxy|base_url", re.IGNORECASE
)
_TOKEN_LIKE = re.compile(r"bearer\b|\bsk-|://[^/\s]*@|(?=\S*\d)(?=\S*[A-Za-z])[^\s./]{16,}", re.IGNORECASE)


class SourceLocation(msgspec.Struct, frozen=True):
    """The location of a value in the YAML or on the command line.

    Attributes:
        label: `judge.yaml:12`, or `--set judge.model=x`.
        order: the line, or a number above all lines for an override.
        key: for an override, the dotted key that it sets; the label contains it already.
        raw: the text before variables were expanded; None if it has no variable.
    """

    label: str
    order: int
    key: str | None = None
    raw: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """One mistake in the configuration: its key, its message and, if it differs from the key's, its location."""

    path: KeyPath
    message: str
    location: SourceLocation | None = None


def dotted(path: KeyPath) -> str:
    """Format a path as in messages and `--set`: `judges.0.model`."""
    return ".".join(str(part) for part in path)


def looks_private(text: str) -> bool:
    """Returns True if a key may name a secret."""
    return _SECRET_KEY.search(text) is not None


def looks_like_token(text: str) -> bool:
    """Returns True if a text may be a secret: long, without blanks, with letters and digits mixed."""
    return _TOKEN_LIKE.search(text) is not None


def shown(value: Any, path: KeyPath = ()) -> str:
    """Describe a value for a message: short, without names of Python types, without secrets."""
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


def as_written(path: KeyPath, data: Mapping[str, Any]) -> KeyPath:
    """Return a path with `judge` or `service` if the YAML has these keys instead of the lists."""
    for one, many in (("judge", "judges"), ("service", "services")):
        if path[:1] == (many,) and one in data and many not in data:
            return (one, *path[2:])
    return path


def location_of(path: KeyPath, locations: Mapping[KeyPath, SourceLocation]) -> SourceLocation:
    """Return the location of a path; if the YAML does not contain it, that of the nearest key around it."""
    while path and path not in locations:
        path = path[:-1]
    return locations[path]


def config_error(problems: Iterable[Problem], locations: Mapping[KeyPath, SourceLocation]) -> ConfigError:
    """Return one error with a line for each problem, in the order of the file."""
    placed = [(problem.location or location_of(problem.path, locations), problem) for problem in problems]
    placed.sort(key=lambda item: item[0].order)
    lines = list(dict.fromkeys(_line(location, problem) for location, problem in placed))
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = [f"... and {len(lines) - _MAX_LINES} more"]
    return ConfigError("\n".join(lines))


def _line(location: SourceLocation, problem: Problem) -> str:
    key = dotted(problem.path)
    named = "" if not key or key == location.key else f"{key}: "
    return f"{location.label}: {named}{problem.message}"
