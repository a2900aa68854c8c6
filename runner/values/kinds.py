"""Questions about Arrow types, answered once for each type."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pyarrow as pa

is_type = pa.types

_CACHED_TYPES = 1024


@lru_cache(_CACHED_TYPES)
def kept_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that results give a column of this type.

    It is the same type, except for encodings: a dictionary, run ends and views become the plain type of their values.
    pyarrow cannot select rows of views.
    """
    if isinstance(kind, pa.BaseExtensionType):
        storage = kept_type(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if is_type.is_dictionary(kind) or is_type.is_run_end_encoded(kind):
        return kept_type(kind.value_type)
    if is_type.is_string_view(kind):
        return pa.string()
    if is_type.is_binary_view(kind):
        return pa.binary()
    if is_type.is_struct(kind):
        return pa.struct([_kept_field(field) for field in kind])
    if is_type.is_map(kind):
        return pa.map_(_kept_field(kind.key_field), _kept_field(kind.item_field), keys_sorted=kind.keys_sorted)
    if is_type.is_fixed_size_list(kind):
        return pa.list_(_kept_field(kind.value_field), kind.list_size)
    if is_type.is_list(kind) or is_type.is_list_view(kind):
        return pa.list_(_kept_field(kind.value_field))
    if is_type.is_large_list(kind) or is_type.is_large_list_view(kind):
        return pa.large_list(_kept_field(kind.value_field))
    return kind


def _kept_field(field: pa.Field) -> pa.Field:
    return field.with_type(kept_type(field.type))


def inner_types(kind: pa.DataType) -> list[pa.DataType]:
    """Return the types directly inside a type: of a struct's fields, a list's elements, a dictionary's values."""
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if is_type.is_dictionary(kind) or is_type.is_run_end_encoded(kind):
        return [kind.value_type]
    return [kind.field(index).type for index in range(kind.num_fields)]


@lru_cache(_CACHED_TYPES)
def is_as_shown(kind: pa.DataType) -> bool:
    """Return True if the exact form of a value is the one that people read: texts, whole numbers, doubles, booleans."""
    if isinstance(kind, pa.BaseExtensionType):
        return False
    inner = inner_types(kind)
    if inner:
        return not is_type.is_union(kind) and all(map(is_as_shown, inner))
    return bool(
        is_type.is_string(kind)
        or is_type.is_large_string(kind)
        or is_type.is_string_view(kind)
        or is_type.is_integer(kind)
        or is_type.is_float64(kind)
        or is_type.is_boolean(kind)
        or is_type.is_null(kind)
    )


@lru_cache(_CACHED_TYPES)
def holds_bytes(kind: pa.DataType) -> bool:
    """Return True if the values of a type are bytes; those of a container are not."""
    return bool(
        is_type.is_binary(kind)
        or is_type.is_large_binary(kind)
        or is_type.is_binary_view(kind)
        or is_type.is_fixed_size_binary(kind)
    )


def repeated_name(kind: pa.DataType) -> str | None:
    """Return a name that several fields of one struct inside a type have, or None."""
    if is_type.is_struct(kind):
        name, count = max(Counter(field.name for field in kind).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            return name
    return next((name for inner in inner_types(kind) if (name := repeated_name(inner)) is not None), None)
