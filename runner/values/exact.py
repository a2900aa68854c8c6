"""Arrow values in a form that JSON holds and that gives back the same values, given their type.

Texts, numbers, booleans, lists and structs are as Python has them. A date, a time or a duration is the number behind
it, a decimal is a text, bytes are base64, a map is a list of pairs, and an extension type is what it is stored as.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from runner.values.kinds import holds_bytes, inner_types, is_type
from runner.values.walk import as_rows, walk

_Convert = Callable[[Any], Any]


def exact_values(array: pa.Array) -> list[Any]:
    """Return the values of an array in their exact form.

    Raises:
        ValueError: a text is not UTF-8.
    """
    return walk(array, _leaves)


def exact_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch by column name, with values in their exact form."""
    return as_rows(batch.schema.names, [exact_values(column) for column in batch.columns], batch.num_rows)


def to_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return an array of values in their exact form.

    It also takes Python's own dates, times, decimals and bytes, and the texts that JSON makes of them and of
    infinities.

    Raises:
        pa.ArrowException: a value does not fit the type.
    """
    way = _way(kind)
    if way.convert is None:
        array = pa.array(values, way.storage)
    elif way.is_needed:
        array = pa.array([way.convert(value) for value in values], way.storage)
    else:
        try:
            array = pa.array(values, way.storage)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            array = pa.array([way.convert(value) for value in values], way.storage)
    return _extended(array, kind) if way.is_extended else array


class _Way(NamedTuple):
    """How exact values of a type become an array.

    Attributes:
        storage: the type that pyarrow makes.
        convert: turns an exact value into one that pyarrow takes; None if it is one.
        is_needed: True if pyarrow would take some exact values for something else; else it refuses them.
        is_extended: True if the type has extensions.
    """

    storage: pa.DataType
    convert: _Convert | None
    is_needed: bool
    is_extended: bool


@lru_cache(1024)  # one look-up for each column of a batch: a type takes a microsecond to be hashed
def _way(kind: pa.DataType) -> _Way:
    storage = _storage(kind)
    return _Way(storage, _converter(storage), _always_converts(storage), _has_extensions(kind))


def _leaves(array: pa.Array) -> list[Any]:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return exact_values(array.storage)
    if holds_bytes(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in array.to_pylist()]
    if is_type.is_decimal(kind):
        return [None if value is None else str(value) for value in array.to_pylist()]
    if is_type.is_temporal(kind) and not is_type.is_interval(kind):
        return list(array.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist())
    return list(array.to_pylist())


@lru_cache(1024)
def _has_extensions(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) or any(map(_has_extensions, inner_types(kind)))


def _storage(kind: pa.DataType) -> pa.DataType:
    """Return the type without extensions, also inside: pyarrow makes no arrays of those."""
    if isinstance(kind, pa.BaseExtensionType):
        return _storage(kind.storage_type)
    if not _has_extensions(kind):
        return kind
    if is_type.is_struct(kind):
        return pa.struct([_storage_field(field) for field in kind])
    if is_type.is_map(kind):
        return pa.map_(_storage_field(kind.key_field), _storage_field(kind.item_field), keys_sorted=kind.keys_sorted)
    value = _storage_field(kind.value_field)
    if is_type.is_fixed_size_list(kind):
        return pa.list_(value, kind.list_size)
    return pa.large_list(value) if is_type.is_large_list(kind) else pa.list_(value)


def _storage_field(field: pa.Field) -> pa.Field:
    return field.with_type(_storage(field.type))


def _extended(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the same values as a type that differs in extensions; pyarrow's own casts damage lists of nulls."""
    if not _has_extensions(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _extended(array, kind.storage_type))
    fields = [kind.field(index) for index in range(kind.num_fields)]
    parts = [array.field(index) for index in range(len(fields))] if is_type.is_struct(kind) else [array.values]
    inner = [_extended(part, field.type) for part, field in zip(parts, fields, strict=True)]
    return pa.Array.from_buffers(kind, len(array), array.buffers()[: kind.num_buffers], children=inner)


def _always_converts(kind: pa.DataType) -> bool:
    """Return True if pyarrow would take an exact value for something else, or would refuse it."""
    own = holds_bytes(kind) or is_type.is_decimal(kind) or is_type.is_map(kind)
    return own or any(map(_always_converts, inner_types(kind)))


def _converter(kind: pa.DataType) -> _Convert | None:
    """Return the function that turns an exact value into one that pyarrow takes; None if it is one."""
    if is_type.is_struct(kind):
        return _struct_converter([(field.name, _converter(field.type)) for field in kind])
    if is_type.is_map(kind):
        key, item = (_converter(inner) or _same for inner in (kind.key_type, kind.item_type))
        return lambda value: None if value is None else [(key(k), item(v)) for k, v in value]
    inner = inner_types(kind)
    if inner:
        each = _converter(inner[0])
        return None if each is None else lambda value: None if value is None else [each(item) for item in value]
    read = _text_reader(kind)
    return None if read is None else lambda value: read(value) if type(value) is str else value


def _struct_converter(fields: Sequence[tuple[str, _Convert | None]]) -> _Convert | None:
    if all(convert is None for _, convert in fields):
        return None
    converters = [(name, convert or _same) for name, convert in fields]
    return lambda value: None if value is None else {name: convert(value.get(name)) for name, convert in converters}


def _same(value: Any) -> Any:
    return value


def _text_reader(kind: pa.DataType) -> _Convert | None:
    """Return the function that reads a text that stands for a value of this type; None if texts are texts there."""
    if holds_bytes(kind):
        return base64.b64decode
    if is_type.is_decimal(kind):
        return Decimal
    if is_type.is_floating(kind):
        return float
    if is_type.is_timestamp(kind):
        return datetime.fromisoformat
    if is_type.is_date(kind):
        return date.fromisoformat
    if is_type.is_time(kind):
        return time.fromisoformat
    return (lambda value: msgspec.convert(value, timedelta)) if is_type.is_duration(kind) else None
