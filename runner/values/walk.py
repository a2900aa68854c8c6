"""Take nested Arrow arrays apart into Python lists and dicts, with a function of the caller for their leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.values.kinds import is_as_shown, is_type

Leaves = Callable[[pa.Array], list[Any]]
"""Converts an array that has no inner arrays, or one of an extension type."""

_Span = tuple[int, int]


def walk(array: pa.Array, leaves: Leaves) -> list[Any]:
    """Return the values of an array: structs as dicts, lists as lists, maps as lists of pairs.

    Raises:
        ValueError: Python cannot hold a value.
    """
    kind = array.type
    if is_as_shown(kind):
        return list(array.to_pylist())
    if is_type.is_dictionary(kind):
        return walk(array.dictionary_decode(), leaves)
    if is_type.is_run_end_encoded(kind):
        return walk(pc.run_end_decode(array), leaves)
    if is_type.is_struct(kind):
        return _structs(array, leaves)
    if is_type.is_map(kind):
        return _maps(array, leaves)
    if is_type.is_nested(kind) and not is_type.is_union(kind):
        return _lists(array, leaves)
    return leaves(array)


def as_rows(names: Sequence[str], columns: Sequence[list[Any]], rows: int) -> list[dict[str, Any]]:
    """Return the rows of some columns by column name."""
    if not columns:
        return [{} for _ in range(rows)]
    return list(map(dict, map(zip, repeat(names), zip(*columns, strict=True))))


def _structs(array: pa.Array, leaves: Leaves) -> list[Any]:
    names = [field.name for field in array.type]
    columns = [walk(column, leaves) for column in array.flatten()]
    rows: Iterator[Any] = zip(*columns, strict=True) if columns else iter([()] * len(array))
    valid = array.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if here else None for row, here in zip(rows, valid, strict=True)]


def _maps(array: pa.Array, leaves: Leaves) -> list[Any]:
    spans = _spans(array)
    begin, end = _bounds(spans)
    keys, items = (walk(part.slice(begin, end - begin), leaves) for part in array.values.flatten())
    return _cut(list(zip(keys, items, strict=True)), begin, spans)


def _lists(array: pa.Array, leaves: Leaves) -> list[Any]:
    spans = _spans(array)
    begin, end = _bounds(spans)
    return _cut(walk(array.values.slice(begin, end - begin), leaves), begin, spans)


def _spans(array: pa.Array) -> list[_Span | None]:
    """Return where the elements of each list begin and end in `values`; None for a null."""
    kind = array.type
    if is_type.is_fixed_size_list(kind):
        starts = [(array.offset + index) * kind.list_size for index in range(len(array))]
        ends = [start + kind.list_size for start in starts]
    elif is_type.is_list_view(kind) or is_type.is_large_list_view(kind):
        starts = array.offsets.to_pylist()
        ends = [start + size for start, size in zip(starts, array.sizes.to_pylist(), strict=True)]
    else:
        offsets = array.offsets.to_pylist()
        starts, ends = offsets[:-1], offsets[1:]
    valid = array.is_valid().to_pylist()
    return [(start, end) if here else None for start, end, here in zip(starts, ends, valid, strict=True)]


def _bounds(spans: Sequence[_Span | None]) -> _Span:
    used = [span for span in spans if span is not None]
    return (min(start for start, _ in used), max(end for _, end in used)) if used else (0, 0)


def _cut(values: list[Any], begin: int, spans: Sequence[_Span | None]) -> list[Any]:
    return [None if span is None else values[span[0] - begin : span[1] - begin] for span in spans]
