"""Strategies for Arrow types and arrays: all types that pyarrow has, nested, with nulls and extreme values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa
from hypothesis import reject
from hypothesis import strategies as st

from runner.values import kept_type

MOST = 2**63 - 1
ZONES = (None, "UTC", "Asia/Shanghai", "America/New_York", "+05:30", "Mars/Olympus")
UNITS = ("s", "ms", "us", "ns")
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3), pa.binary(16)]
DECIMALS = [
    *(pa.decimal32(5, 2), pa.decimal64(15, 3), pa.decimal128(38, 2), pa.decimal128(3, 3), pa.decimal128(10, 0)),
    *(pa.decimal256(76, 10), pa.decimal256(40, 40)),
]
TIMES = [
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit, tz=zone) for unit in UNITS for zone in ZONES),
    *map(pa.duration, UNITS),
]
EXTENSIONS = [pa.uuid(), pa.json_(), pa.json_(pa.large_string()), pa.bool8(), pa.opaque(pa.string(), "t", "v")]
EXTENSIONS += [pa.opaque(pa.timestamp("ns"), "t", "v"), pa.fixed_shape_tensor(pa.int32(), [2])]
DICTIONARIES = [
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string(), ordered=True),
    pa.dictionary(pa.int16(), pa.int64()),
    pa.dictionary(pa.int32(), pa.binary()),
    pa.dictionary(pa.int32(), pa.binary(3)),
    pa.dictionary(pa.int32(), pa.float32()),
]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
LEAVES = [pa.null(), pa.bool_(), *INTEGERS, *FLOATS, *TEXTS, *BYTES, *DECIMALS, *TIMES, *EXTENSIONS, *DICTIONARIES]

# Types that pyarrow has and Parquet does not: a dataset cannot have them.
NOT_IN_PARQUET = [
    *(pa.month_day_nano_interval(), pa.binary(0), pa.struct([]), pa.decimal128(5, -2), pa.decimal128(5, 10)),
    *(pa.dense_union([pa.field("a", pa.int8())]), pa.sparse_union([pa.field("a", pa.int8())])),
    *(pa.run_end_encoded(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.struct([("a", pa.int8())]))),
]

names = st.sampled_from(["a", "b", "item", "key", "", " ", "a.b", "0", "é", '"', "list", "x\n"])


def _item(kind: pa.DataType, nullable: bool) -> pa.Field:
    return pa.field("item", kind, nullable or pa.types.is_null(kind))


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    fields = st.builds(_item, inner, st.booleans())
    return st.one_of(
        fields.map(pa.list_),
        fields.map(pa.large_list),
        st.builds(pa.list_, fields, st.integers(1, 2)),
        fields.map(pa.list_view),
        fields.map(pa.large_list_view),
        st.lists(names, min_size=1, max_size=3, unique=True).flatmap(
            lambda keys: st.tuples(*[inner for _ in keys]).map(
                lambda kinds: pa.struct([pa.field(key, kind) for key, kind in zip(keys, kinds, strict=True)])
            )
        ),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int32(), pa.date32(), pa.timestamp("ns")]), inner),
    )


leaf_types = st.sampled_from(LEAVES)
types = leaf_types | _nested(leaf_types) | _nested(_nested(leaf_types))


def _integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.sampled_from([low, high, 0, 1]) | st.integers(low, high)


def _times(kind: pa.DataType) -> st.SearchStrategy[int]:
    usual = st.integers(0, 1_700_000_000).map(lambda seconds: seconds * 10 ** (3 * UNITS.index(kind.unit)))
    return usual | _integers(64)


def _numbers(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_integer(kind):
        return _integers(kind.bit_width, signed=pa.types.is_signed_integer(kind))
    if pa.types.is_floating(kind):
        return st.floats(width=kind.bit_width, allow_nan=False)  # NaN equals nothing, also in Arrow
    edge = 10**kind.precision - 1
    unscaled = st.sampled_from([edge, -edge, 0]) | st.integers(-edge, edge)
    return unscaled.map(lambda number: Decimal((number < 0, tuple(map(int, str(abs(number)))), -kind.scale)))


def _inner_values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    if pa.types.is_map(kind):
        return st.lists(st.tuples(values(kind.key_type, nullable=False), values(kind.item_type)), max_size=2)
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
    inner = values(kind.value_type, nullable=kind.value_field.nullable)
    return st.lists(inner, min_size=size or 0, max_size=2 if size is None else size)


def values(kind: pa.DataType, *, nullable: bool = True) -> st.SearchStrategy[Any]:
    """Values that pyarrow takes for a type: numbers for dates and times, `Decimal`, bytes, pairs for maps."""
    found = _values(kind)
    return st.none() | found if nullable else found


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    is_ = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _values(kind.storage_type)
    if is_.is_dictionary(kind):
        return _values(kind.value_type)
    if is_.is_null(kind):
        return st.none()
    if is_.is_boolean(kind):
        return st.booleans()
    if is_.is_date64(kind):
        return _integers(31).map(lambda days: days * 86_400_000)
    if is_.is_date32(kind) or is_.is_time32(kind):
        return _integers(32)
    if is_.is_timestamp(kind) or is_.is_duration(kind) or is_.is_time64(kind):
        return _times(kind)
    if is_.is_nested(kind):
        return _inner_values(kind)
    if is_.is_decimal(kind) or is_.is_integer(kind) or is_.is_floating(kind):
        return _numbers(kind)
    if is_.is_fixed_size_binary(kind):
        return st.binary(min_size=kind.byte_width, max_size=kind.byte_width)
    if is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_binary_view(kind):
        return st.binary(max_size=5) | st.text(max_size=3).map(str.encode)
    return st.text(max_size=3) | st.sampled_from(["", "\0", "\u2028", "=1+1", "\U0001f600"])


def storage_of(kind: pa.DataType) -> pa.DataType:
    """A type without extensions, as `pa.array` needs it."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(storage_of(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_field, kind.item_field.with_type(storage_of(kind.item_type)))
    if not pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return kind
    inner = kind.value_field.with_type(storage_of(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner, kind.list_size)
    make = {"list": pa.list_, "large_list": pa.large_list, "list_view": pa.list_view}
    return make.get(str(kind).partition("<")[0], pa.large_list_view)(inner)


class Column(NamedTuple):
    """An array, and the same values in the type that results keep; None if pyarrow cannot build that."""

    given: pa.Array
    kept: pa.Array | None


@st.composite
def columns(draw: st.DrawFn, rows: int, kinds: st.SearchStrategy[pa.DataType] = types) -> Column:
    """A column of any type; its array is a slice of a larger one, as readers may give it."""
    kind = draw(kinds)
    raw = draw(st.lists(values(kind), min_size=rows + 1, max_size=rows + 1))
    try:
        return Column(_built(raw, kind).slice(1), _expected(raw[1:], kind))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        reject()


def _built(raw: list[Any], kind: pa.DataType) -> pa.Array:
    storage = storage_of(kind)
    array = pa.array(raw, storage)
    return array if storage == kind else array.cast(kind)


def _expected(raw: list[Any], kind: pa.DataType) -> pa.Array | None:
    try:
        return _built(raw, kept_type(kind))
    except (pa.ArrowException, IndexError):
        return None
