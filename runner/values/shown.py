"""Arrow values as people read them: texts, numbers, booleans, lists and objects."""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import pyarrow as pa

from runner.types import Unreadable
from runner.values.exact import exact_values
from runner.values.kinds import holds_bytes, is_type
from runner.values.moments import date_text, duration_text, time_text, timestamp_text, zone_of
from runner.values.walk import as_rows, walk

_HALF_DIGITS_MAX = 5  # digits that tell all half-precision numbers apart
_DAY_MILLISECONDS = 86_400_000


def _decoded(value: bytes, is_fixed: bool) -> str | Unreadable:
    """Return the text that bytes spell in UTF-8. Those of a fixed size with a zero byte are numbers and no text."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Unreadable("bytes that are no UTF-8 text")
    return Unreadable("bytes that are no text") if is_fixed and "\0" in text else text


def _base64(value: bytes, _is_fixed: bool) -> str:
    return base64.b64encode(value).decode()


class Style(NamedTuple):
    """How some values are written.

    Attributes:
        bytes: converts a value of bytes; the second argument is True if all values of the column have one size.
        utc: the offset of a time in UTC.
    """

    bytes: Callable[[bytes, bool], Any] = _base64
    utc: str = "Z"


FIELD = Style(_decoded)
"""The style of prompts and labels: bytes are the text that they spell in UTF-8, or `Unreadable`."""


def shown_values(array: pa.Array, style: Style) -> list[Any]:
    """Return the values of an array as people write them.

    A number of single or half precision has no more digits than it needs. Decimals are `Decimal`. Dates, times and
    durations are ISO 8601 texts, also with nanoseconds or beyond Python's calendar. A UUID is a text.

    Raises:
        ValueError: a text is not UTF-8.
    """
    return walk(array, partial(_leaves, style=style))


def shown_rows(batch: pa.RecordBatch, style: Style) -> list[dict[str, Any]]:
    """Return the rows of a batch by column name, with values as `shown_values` returns them."""
    return as_rows(batch.schema.names, [shown_values(column, style) for column in batch.columns], batch.num_rows)


def _leaves(array: pa.Array, style: Style) -> list[Any]:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(array, style)
    if holds_bytes(kind):
        is_fixed = is_type.is_fixed_size_binary(kind)
        return [None if value is None else style.bytes(value, is_fixed) for value in array.to_pylist()]
    if is_type.is_float32(kind):
        return [None if text is None else float(text) for text in array.cast(pa.string()).to_pylist()]
    if is_type.is_float16(kind):
        return [None if value is None else _short_half(value) for value in array.to_pylist()]
    if is_type.is_temporal(kind) and (write := _writer(kind, style.utc)) is not None:
        return [None if value is None else write(value) for value in exact_values(array)]
    return list(array.to_pylist())


def _extension(array: pa.Array, style: Style) -> list[Any]:
    name = array.type.extension_name
    if name == "arrow.uuid":
        return [None if value is None else str(uuid.UUID(bytes=value)) for value in array.storage.to_pylist()]
    if name == "arrow.bool8":
        return [None if value is None else value != 0 for value in array.storage.to_pylist()]
    return shown_values(array.storage, style)


def _writer(kind: pa.DataType, utc: str) -> Callable[[int], str] | None:
    """Return the function that writes the number behind a date, time or duration; None for intervals."""
    if is_type.is_timestamp(kind):
        return partial(timestamp_text, unit=kind.unit, zone=zone_of(kind.tz), utc=utc)
    if is_type.is_date32(kind):
        return date_text
    if is_type.is_date64(kind):
        return lambda value: date_text(value // _DAY_MILLISECONDS)
    if is_type.is_time(kind):
        return partial(time_text, unit=kind.unit)
    return partial(duration_text, unit=kind.unit) if is_type.is_duration(kind) else None


@lru_cache(1 << 16)
def _short_half(value: float) -> float:
    """Return the number with the fewest digits that is this one in half precision: 0.1 for 0.0999755859375."""
    try:
        packed = struct.pack("e", value)
    except (OverflowError, ValueError):
        return value
    texts = (f"{value:.{digits}g}" for digits in range(1, _HALF_DIGITS_MAX + 1))
    return next((float(text) for text in texts if _is_half(float(text), packed)), value)


def _is_half(value: float, packed: bytes) -> bool:
    try:
        return struct.pack("e", value) == packed
    except OverflowError:
        return False
