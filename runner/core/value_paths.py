"""Paths into nested values: `a.b` names a key of an object, `a.0` and `a.-1` an element of a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MISSING: Any = object()
"""Stands for a path that leads nowhere."""

_POSITION = re.compile(r"-?[0-9]{1,9}")


def is_position(part: str) -> bool:
    """Return True if a part of a path can name an element of a list: `0`, `12`, `-1` (the last one)."""
    return _POSITION.fullmatch(part) is not None


def has_position(path: str) -> bool:
    """Return True if any part of a path can name an element of a list."""
    return any(map(is_position, path.split(".")))


def splits(path: str) -> Iterator[tuple[str, str]]:
    """Yield each beginning of a path with the rest after its dot, the longest first: for `a.b`, `a.b` and then `a`."""
    yield path, ""
    end = path.rfind(".")
    while end > 0:
        yield path[:end], path[end + 1 :]
        end = path.rfind(".", 0, end)


def value_at(value: Any, path: str) -> Any:
    """Return the value at a path below a value, or MISSING.

    In an object, a key that is a longer part of the path wins: the key `a.b` over the key `b` of `a`. In an object, `0`
    is a key; in a list it is a position.
    """
    if isinstance(value, dict):
        if path in value:
            return value[path]
        end = path.rfind(".")  # as `splits` does, without its cost for each row
        while end > 0:
            inner = value.get(path[:end], MISSING)
            found = MISSING if inner is MISSING else value_at(inner, path[end + 1 :])
            if found is not MISSING:
                return found
            end = path.rfind(".", 0, end)
    elif isinstance(value, list):
        part, dot, rest = path.partition(".")
        if is_position(part) and -len(value) <= int(part) < len(value):
            element = value[int(part)]
            return value_at(element, rest) if dot else element
    return MISSING


def list_problem(value: Any, path: str, before: str = "") -> str | None:
    """Return why a path leads nowhere if a list is the reason; None if a key or a value is missing on the way.

    Args:
        value: where the path begins.
        path: the path.
        before: the path from the row to `value`, for the message.
    """
    if isinstance(value, dict):
        below = (
            list_problem(value[key], rest, f"{before}.{key}" if before else key)
            for key, rest in splits(path)
            if key in value and rest
        )
        return next((problem for problem in below if problem is not None), None)
    part, _, rest = path.partition(".")
    if isinstance(value, list):
        if not is_position(part):
            return f"`{before}` is a list; expected the position of an element, such as `{before}.0.{path}`"
        if not -len(value) <= int(part) < len(value):
            count = "1 element" if len(value) == 1 else f"{len(value)} elements"
            return f"there is no `{before}.{part}`: the list has {count}"
        return list_problem(value[int(part)], rest, f"{before}.{part}") if rest else None
    if value is None or not is_position(part):
        return None
    kind = "a text" if isinstance(value, str) else "no list"
    return f"there is no `{before}.{part}`: `{before}` is {kind}, and only a list has elements"
