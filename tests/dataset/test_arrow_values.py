"""Values of Arrow types: the texts that people read, and the exact form that gives the same values back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_tables import LEAVES, NOT_IN_PARQUET, Column, columns
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.results import encode_row, extra_float_columns, results_schema
from runner.results.storable import find_unstorable
from runner.types import Unreadable
from runner.values import FIELD, Style, exact_values, is_as_shown, kept_type, repeated_name, shown_values, to_array
from runner.values.moments import date_text, duration_text, timestamp_text

INFINITY = 2**63 - 1
UUID_BYTES = bytes(range(16))
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
PAIR = pa.struct([("at", pa.timestamp("ns")), ("raw", pa.binary())])


def array(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind)


def extended(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


SHOWN: dict[str, tuple[pa.Array, Any]] = {
    "decimal": (array([Decimal("1.50")], pa.decimal128(5, 2)), Decimal("1.50")),
    "single": (array([0.1], pa.float32()), 0.1),
    "single_large": (array([3.4e38], pa.float32()), 3.4e38),
    "half": (array([0.1], pa.float16()), 0.1),
    "half_largest": (array([65504.0], pa.float16()), 65500.0),
    "day": (array([19723], pa.date32()), "2024-01-01"),
    "day64": (array([19723 * 86_400_000], pa.date64()), "2024-01-01"),
    "day_far": (array([2**31 - 1], pa.date32()), "+5881580-07-11"),
    "clock": (array([45_296_000], pa.time32("ms")), "12:34:56"),
    "clock_ns": (array([1], pa.time64("ns")), "00:00:00.000000001"),
    "clock_24": (array([86_400_000_000], pa.time64("us")), "24:00:00"),
    "clock_negative": (array([-1], pa.time64("us")), "-00:00:00.000001"),
    "moment": (array([1_704_067_200_500], pa.timestamp("ms")), "2024-01-01T00:00:00.500000"),
    "moment_ns": (array([1_700_000_000_123_456_789], pa.timestamp("ns")), "2023-11-14T22:13:20.123456789"),
    "moment_utc": (array([0], pa.timestamp("s", "UTC")), "1970-01-01T00:00:00Z"),
    "moment_zone": (array([0], pa.timestamp("us", "Asia/Shanghai")), "1970-01-01T08:00:00+08:00"),
    "moment_local_mean_time": (
        array([-2_300_000_000], pa.timestamp("s", "Asia/Shanghai")),
        "1897-02-11T23:12:23+08:05:43",
    ),
    "moment_unknown_zone": (array([0], pa.timestamp("us", "Mars/Olympus")), "1970-01-01T00:00:00Z"),
    "infinity": (array([INFINITY], pa.timestamp("us")), "+294247-01-10T04:00:54.775807"),
    "before_christ": (array([-62_198_755_200], pa.timestamp("s", "UTC")), "-0001-01-01T00:00:00Z"),
    "duration": (array([93_600_000_000], pa.duration("us")), "P1DT7200S"),
    "duration_ns": (array([-1], pa.duration("ns")), "-PT0.000000001S"),
    "text_in_bytes": (array(["水".encode()], pa.binary()), "水"),
    "text_in_large_bytes": (array([b"x"], pa.large_binary()), "x"),
    "text_in_byte_views": (array([b"x"], pa.binary_view()), "x"),
    "text_view": (array(["x"], pa.string_view()), "x"),
    "uuid": (extended([UUID_BYTES], pa.uuid()), UUID_TEXT),
    "bool8": (extended([2], pa.bool8()), True),
    "json": (extended(['{"a": 1}'], pa.json_()), '{"a": 1}'),
    "dictionary": (array(["x"], pa.dictionary(pa.int8(), pa.string())), "x"),
    "run_ends": (pa.RunEndEncodedArray.from_arrays([1], array([19723], pa.date32())), "2024-01-01"),
    "struct": (array([{"at": 1, "raw": b"x"}], PAIR), {"at": "1970-01-01T00:00:00.000000001", "raw": "x"}),
    "list_view": (array([[1, 2]], pa.list_view(pa.date32())), ["1970-01-02", "1970-01-03"]),
    "fixed_list": (array([[0.1, 0.2]], pa.list_(pa.float32(), 2)), [0.1, 0.2]),
    "map": (array([[("k", 1)]], pa.map_(pa.string(), pa.date32())), [("k", "1970-01-02")]),
    "nothing": (pa.nulls(1), None),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_value_is_shown_as_people_write_it(name: str) -> None:
    given, expected = SHOWN[name]
    found = shown_values(given, FIELD)
    assert (found, type(found[0])) == ([expected], type(expected))


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (b"\xff", pa.binary(), "bytes that are no UTF-8 text"),
        (b"\x0c\0\0\0", pa.binary(4), "bytes that are no text"),  # an INTERVAL, as DuckDB writes it
    ],
)
def test_bytes_that_are_no_text_are_unreadable_and_base64_only_in_exports(
    value: bytes, kind: pa.DataType, found: str
) -> None:
    (shown,) = shown_values(pa.array([value], kind), FIELD)
    assert isinstance(shown, Unreadable)
    assert shown.found == found
    assert shown_values(pa.array([b"\xff"], pa.binary()), Style()) == ["/w=="]


def test_a_zero_byte_is_part_of_a_text_of_any_length() -> None:
    assert shown_values(pa.array([b"a\0b"], pa.binary()), FIELD) == ["a\0b"]


@given(
    moment=st.datetimes(),
    zone=st.sampled_from([None, UTC, ZoneInfo("America/New_York"), timezone(timedelta(hours=5, minutes=30))]),
    nanoseconds=st.integers(0, 999),
)
def test_a_timestamp_is_written_as_python_writes_it(moment: datetime, zone: Any, nanoseconds: int) -> None:
    microseconds = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    try:
        expected = (moment if zone is None else moment.replace(tzinfo=UTC).astimezone(zone)).isoformat()
    except OverflowError:  # on the first and the last day of Python's calendar
        expected = f"{moment.isoformat()}+00:00"
    assert timestamp_text(microseconds, "us", zone, "+00:00") == expected
    text = timestamp_text(microseconds * 1000 + nanoseconds, "ns", None, "Z")
    assert datetime.fromisoformat(text[:26]) == moment
    assert text[26:] == (f"{nanoseconds:03d}" if nanoseconds else "")


@given(days=st.integers(-(2**31), 2**31 - 1))
def test_dates_beyond_the_calendar_repeat_every_400_years(days: int) -> None:
    era, inside = divmod(days, 146_097)
    year, rest = date_text(inside)[:4], date_text(inside)[4:]
    number = int(year) + 400 * era
    assert date_text(days) == (f"{number:04d}{rest}" if 0 <= number <= 9999 else f"{number:+05d}{rest}")


@given(span=st.timedeltas())
def test_a_duration_is_written_as_in_json(span: timedelta) -> None:
    assert duration_text(span // timedelta(microseconds=1), "us") == msgspec.to_builtins(span)


@given(number=st.floats(width=32, allow_nan=False))
def test_the_shortest_digits_of_a_single_give_the_same_single(number: float) -> None:
    one = pa.array([number], pa.float32())
    assert pa.array(shown_values(one, FIELD), pa.float32()).equals(one)


@given(number=st.floats(width=16, allow_nan=False))
def test_the_shortest_digits_of_a_half_give_the_same_half(number: float) -> None:
    one = pa.array([number], pa.float16())
    assert pa.array(shown_values(one, FIELD), pa.float16()).equals(one)


@settings(max_examples=100, deadline=None)
@given(column=columns(3))
def test_every_value_survives_the_journal(column: Column) -> None:
    kind = kept_type(column.given.type)
    schema = results_schema([pa.field("kept", kind)])
    lines = [encode_row({"kept": value}, extra_float_columns(schema)) for value in exact_values(column.given)]
    back = to_array([json.loads(line)["kept"] for line in lines], kind)
    back.validate()
    expected = column.given if column.given.type == kind else column.kept
    assert expected is not None
    assert back.equals(expected)


@settings(max_examples=100, deadline=None)
@given(column=columns(3))
def test_every_value_can_be_exported(column: Column) -> None:
    shown = shown_values(column.given, Style())
    assert len(json.loads(msgspec.json.encode(shown))) == len(column.given)


def test_nan_survives_the_journal() -> None:
    schema = results_schema([pa.field("kept", pa.list_(pa.float16()))])
    (value,) = exact_values(pa.array([[float("nan"), float("-inf")]], pa.list_(pa.float16())))
    line = encode_row({"kept": value}, extra_float_columns(schema))
    assert str(to_array([json.loads(line)["kept"]], pa.list_(pa.float16())).to_pylist()) == "[[nan, -inf]]"


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.run_end_encoded(pa.int32(), pa.timestamp("ns")), pa.timestamp("ns")),
        (pa.list_view(pa.string_view()), pa.list_(pa.string())),
        (pa.large_list_view(pa.binary_view()), pa.large_list(pa.binary())),
        (pa.struct([("a", pa.dictionary(pa.int8(), pa.string()))]), pa.struct([("a", pa.string())])),
        (pa.map_(pa.string(), pa.string_view()), pa.map_(pa.string(), pa.string())),
        (pa.list_(pa.string_view(), 2), pa.list_(pa.string(), 2)),
        (pa.json_(pa.string_view()), pa.string()),
        (pa.uuid(), pa.uuid()),
        (pa.timestamp("ns", "UTC"), pa.timestamp("ns", "UTC")),
    ],
)
def test_encoded_types_are_kept_as_their_values(kind: pa.DataType, kept: pa.DataType) -> None:
    assert kept_type(kind) == kept


def test_all_types_of_pyarrow_are_tried() -> None:
    made = {type(kind).__name__ for kind in (*LEAVES, *NOT_IN_PARQUET)}
    nested = {"ListType", "LargeListType", "FixedSizeListType", "ListViewType", "LargeListViewType", "MapType"}
    ours = {"BaseExtensionType", "ExtensionType", "UnknownExtensionType", "UnionType", "DeviceAllocationType"}
    offered = {name for name in dir(pa) if name.endswith("Type")}
    assert offered <= made | nested | ours


@pytest.mark.parametrize("kind", NOT_IN_PARQUET, ids=str)
def test_the_other_types_of_pyarrow_are_in_no_parquet_file(kind: pa.DataType) -> None:
    with pytest.raises((pa.ArrowException, OSError)):
        pq.write_table(pa.table({"x": pa.nulls(1, kind)}), pa.BufferOutputStream())


@pytest.mark.parametrize("kind", LEAVES, ids=str)
def test_results_can_hold_every_type_of_a_parquet_file(kind: pa.DataType) -> None:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": pa.nulls(1, kind)}), out)
    stored = pq.read_schema(pa.BufferReader(out.getvalue())).field("x")
    assert find_unstorable([stored.with_type(kept_type(stored.type))]) is None


def test_a_type_that_results_cannot_hold_is_named() -> None:
    found = find_unstorable([pa.field("a", pa.string()), pa.field("b", pa.month_day_nano_interval())])
    assert found is not None
    assert (found[0].name, "month_day_nano_interval" in found[1]) == ("b", True)
    found = find_unstorable([pa.field("seconds", pa.time32("s"))])
    assert found is not None
    assert found[1] == "Parquet would make it time32[ms]"


def test_texts_and_doubles_are_exact_as_they_are_shown() -> None:
    assert is_as_shown(pa.list_(pa.struct([("role", pa.string()), ("n", pa.int64())])))
    assert not any(map(is_as_shown, (pa.float32(), pa.binary(), pa.struct([("at", pa.date32())]), pa.uuid())))


def test_a_name_that_several_fields_have_is_found() -> None:
    twice = pa.struct([pa.field("a", pa.int8()), pa.field("a", pa.int8())])
    assert repeated_name(pa.list_(pa.struct([("b", twice)]))) == "a"
    assert repeated_name(pa.list_(pa.struct([("b", pa.int8())]))) is None
