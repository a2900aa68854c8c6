"""What is below the columns of a dataset, in objects and lists, and what is near a path that leads nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from runner.core import MISSING, is_position, list_problem, splits, value_at

Record = Mapping[str, Any]


class Near(NamedTuple):
    """What the first rows say about a path that leads nowhere in any of them.

    Attributes:
        paths: paths that lead somewhere and resemble it.
        problem: which list on the way has no such element; None if that is not the reason.
    """

    paths: tuple[str, ...]
    problem: str | None


def is_below(records: Sequence[Record], path: str) -> bool:
    """Return True if a path leads to a value in any of the records."""
    return any(value_at(record, path) is not MISSING for record in records)


def look_near(records: Sequence[Record], path: str) -> Near:
    """Say what is near a path that leads nowhere in all records."""
    paths = dict.fromkeys(near for record in records for near in _near(record, path, ""))
    problems = (list_problem(record, path) for record in records)
    return Near(tuple(paths), next((problem for problem in problems if problem is not None), None))


def type_below(types: Mapping[str, Any], path: str) -> Any:
    """Return the Arrow type of a path through lists, or None.

    Args:
        types: the types of the columns.
        path: a column, and keys and positions below it.
    """
    for column, rest in splits(path):
        if rest and types.get(column) is not None:
            found = _type_at(types[column], rest)
            if found is not None:
                return found
    return None


def _type_at(type_: Any, path: str) -> Any:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if not path:
        return type_
    if pa.types.is_struct(type_):
        fields = {field.name: field.type for field in type_.fields}
        below = (_type_at(fields[key], rest) for key, rest in splits(path) if key in fields)
        return next((found for found in below if found is not None), None)
    part, _, rest = path.partition(".")
    return _type_at(type_.value_type, rest) if _is_list(type_) and is_position(part) else None


def _is_list(type_: Any) -> bool:
    kinds = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
    return any(getattr(pa.types, f"is_{kind}")(type_) for kind in kinds)


def _near(value: Any, path: str, before: str) -> Iterator[str]:
    """Yield paths below a value that differ from a path in one part, or have one position more."""
    if isinstance(value, Mapping):
        beginnings = [(key, rest) for key, rest in splits(path) if key in value and rest]
        for key, rest in beginnings:
            yield from _near(value[key], rest, f"{before}{key}.")
        if not beginnings:
            rest = path.partition(".")[2]
            yield from (_joined(f"{before}{key}", inner, rest) for key, inner in value.items())
    elif isinstance(value, list) and value:
        part, _, rest = path.partition(".")
        if not is_position(part):
            yield _joined(f"{before}0", value[0], path)
            yield from _near(value[0], path, f"{before}0.")
        elif -len(value) <= int(part) < len(value):
            yield from _near(value[int(part)], rest, f"{before}{part}.")
        else:
            yield _joined(f"{before}0", value[0], rest)
            yield _joined(f"{before}-1", value[-1], rest)


def _joined(place: str, value: Any, rest: str) -> str:
    """Return the path of a value, or of what is below it if the rest of a path leads there."""
    return f"{place}.{rest}" if rest and value_at(value, rest) is not MISSING else place
