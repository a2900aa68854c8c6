"""Columns: a row that was read from the journal equals the row that was converted directly."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from result_rows import stored_row

from runner.results import (
    RunDirectory,
    encode_row,
    extra_float_columns,
    part_paths,
    recover_results,
    results_schema,
    rewrite_part,
)
from runner.results.journal import Segment, decode_row, segment_path
from runner.results.schema import FIELDS, make_row, to_batch
from runner.types import Dimension, Failure, JudgeRequest, JudgeResponse, RequestResult, Sample, Usage, Verdict

MOMENT = datetime(2024, 2, 29, 23, 59, 58, 987654)
NESTED = pa.struct(
    [
        ("price", pa.decimal128(9, 3)),
        ("raw", pa.list_(pa.binary())),
        ("inner", pa.struct([("day", pa.date32()), ("took", pa.duration("us")), ("n", pa.float32())])),
    ]
)
EXTRA_VALUES: dict[str, tuple[pa.DataType, Any]] = {
    "moment_zoned": (pa.timestamp("us", "Asia/Shanghai"), MOMENT.replace(tzinfo=UTC)),
    "moment_plain": (pa.timestamp("us"), MOMENT),
    "moment_ms": (pa.timestamp("ms"), MOMENT.replace(microsecond=987000)),
    "moment_ns": (pa.timestamp("ns", "UTC"), MOMENT.replace(tzinfo=UTC)),
    "day": (pa.date32(), date(1, 1, 1)),
    "day64": (pa.date64(), date(9999, 12, 31)),
    "clock": (pa.time64("us"), time(1, 2, 3, 4)),
    "decimal": (pa.decimal128(20, 5), Decimal("-12345.67890")),
    "decimal_wide": (pa.decimal256(60, 4), Decimal("12345678901234567890123456789012345.0001")),
    "binary": (pa.binary(), b"\x00\xff\xfe"),
    "binary_fixed": (pa.binary(3), b"\x00\xff\n"),
    "large_text": (pa.large_string(), "line\u2028 汉字 \U0001f600"),
    "span": (pa.duration("us"), timedelta(days=-3, microseconds=7)),
    "moments": (pa.list_(pa.timestamp("us", "UTC")), [MOMENT.replace(tzinfo=UTC), None]),
    "pair": (pa.list_(pa.int32(), 2), [1, 2]),
    "nested": (
        NESTED,
        {
            "price": Decimal("1.500"),
            "raw": [b"\xff", None, b""],
            "inner": {"day": date(2000, 2, 29), "took": timedelta(seconds=1), "n": 0.5},
        },
    ),
    "map": (pa.map_(pa.string(), pa.date32()), [("k", date(2000, 2, 29)), ("none", None)]),
    "unsigned": (pa.uint64(), 2**64 - 1),
    "half": (pa.float16(), 1.5),
    "single": (pa.float32(), 0.10000000149011612),
    "word": (pa.dictionary(pa.int32(), pa.string()), "w"),
    "infinite": (pa.float64(), -math.inf),
    "no_number": (pa.float64(), math.nan),
    "floats": (pa.list_(pa.float64()), [math.inf, math.nan, None, 1.0]),
    "empty": (pa.list_(pa.string()), []),
    "yes": (pa.bool_(), True),
}
EXTRA = tuple(pa.field(name, kind) for name, (kind, _) in EXTRA_VALUES.items())


def same(one: pa.Table, other: pa.Table) -> bool:
    """Returns True if two tables are equal; NaN equals NaN."""
    return one.schema.equals(other.schema) and repr(one.to_pylist()) == repr(other.to_pylist())


def test_kept_columns_of_every_type_survive_a_crash(
    run_directory: RunDirectory, write_rows: Any, read_rows: Any
) -> None:
    schema = results_schema(EXTRA)
    values = {name: value for name, (_, value) in EXTRA_VALUES.items()}
    rows = [stored_row(0, **values), stored_row(1, **dict.fromkeys(values)), stored_row(2, **values)]
    write_rows([dict(row) for row in rows], extra=EXTRA)
    direct = read_rows()
    segment = Segment(segment_path(run_directory.journal, 1), extra_float_columns(schema))
    for row in rows:
        segment.append({**row, "custom_id": f"copy-{row['ordinal']}"})
    segment.close()
    recover_results(run_directory.path, schema, "zstd")
    recovered = read_rows()[3:]
    for one, other in zip(direct, recovered, strict=True):
        assert repr({**other, "custom_id": one["custom_id"]}) == repr(one)


def test_only_the_datasets_float_columns_are_encoded_as_text() -> None:
    expected = {"nested", "half", "single", "infinite", "no_number", "floats"}
    assert {*extra_float_columns(results_schema(EXTRA))} == expected
    assert extra_float_columns(results_schema(())) == ()


def test_a_rewritten_part_keeps_its_values_if_a_type_changes(run_directory: RunDirectory, write_rows: Any) -> None:
    """An earlier version cut nanoseconds, so its parts have microseconds; a column without a conversion is empty."""
    before = (pa.field("at", pa.timestamp("us")), pa.field("n", pa.string()), pa.field("far", pa.timestamp("us")))
    after = [pa.field("at", pa.timestamp("ns")), pa.field("n", pa.date32()), pa.field("far", pa.timestamp("ns"))]
    write_rows([stored_row(0, at=5_000_000, n="word", far=2**62)], extra=before)
    (path,) = part_paths(run_directory.results).values()
    rewrite_part(path, results_schema(after), "zstd", lambda rows: rows)
    table = pq.read_table(path)
    assert table["at"].combine_chunks().equals(pa.array([5_000_000_000], pa.timestamp("ns")))
    assert (table["n"].to_pylist(), table["far"].null_count) == ([None], 1)


moments = st.datetimes(timezones=st.just(UTC))


@given(
    moment=moments,
    span=st.timedeltas(timedelta(days=-(10**8)), timedelta(days=10**8)),
    amount=st.decimals(-(10**9), 10**9, places=4),
    raw=st.binary(max_size=20),
    number=st.floats(),
)
def test_any_value_survives_the_journal(
    moment: datetime, span: timedelta, amount: Decimal, raw: bytes, number: float
) -> None:
    kinds = {
        "a": (pa.timestamp("us", "UTC"), moment),
        "b": (pa.decimal128(20, 4), amount),
        "c": (pa.binary(), raw),
        "d": (pa.struct([("x", pa.float64()), ("y", pa.list_(pa.binary()))]), {"x": number, "y": [raw]}),
        "e": (pa.duration("us"), span),
    }
    schema = results_schema(pa.field(name, kind) for name, (kind, _) in kinds.items())
    row = stored_row(finished_at=moment, **{name: value for name, (_, value) in kinds.items()})
    back = decode_row(encode_row(row, extra_float_columns(schema)) + b"\n")
    assert back is not None
    direct, through = (pa.Table.from_batches([to_batch([each], schema)]) for each in (row, back))
    assert same(direct, through)


dimensions = st.lists(
    st.fixed_dictionaries(
        {"name": st.text(max_size=3), "answer": st.none() | st.integers(1, 2), "score": st.none() | st.floats(0, 10)}
    ),
    max_size=3,
)


@given(lists=st.lists(st.none() | dimensions, max_size=8))
def test_dimensions_become_the_same_column_as_in_arrow(lists: list[Any]) -> None:
    kind = next(field.type for field in FIELDS if field.name == "dimensions")
    column = to_batch([stored_row(dimensions=each) for each in lists], results_schema(()))["dimensions"]
    assert column.equals(pa.array(lists, kind))


def request(**columns: Any) -> JudgeRequest:
    return JudgeRequest(Sample(3, "id", {}, {}, columns, "f:4"), 0, "3-j-o-0", b"{}", "aa")


SHARED = {"judge": "j", "judge_model": "m", "kind": "template", "service": "s", "swapped": False, "repeat": 0}


def test_a_row_has_every_column() -> None:
    verdict = Verdict(rule="r", score=2.0, dimensions=(Dimension("d", None, 1.0),))
    result = RequestResult(JudgeResponse("text", "stop", "id-1"), verdict, 2, Usage(1, 2, 3), 0.5, "online")
    row = make_row(request(category="x"), SHARED, result, 0.25)
    (read,) = to_batch([row], results_schema([pa.field("category", pa.string())])).to_pylist()
    assert read["status"] == "ok"
    assert (read["score"], read["winner"], read["dimensions"]) == (
        2.0,
        None,
        [{"name": "d", "answer": None, "score": 1}],
    )
    assert (read["response"], read["finish_reason"], read["response_id"]) == ("text", "stop", "id-1")
    assert (read["attempts"], read["prompt_tokens"], read["cost"], read["route"]) == (2, 1, 0.25, "online")
    assert (read["category"], read["error_type"], read["batch_id"]) == ("x", None, None)


def test_a_failure_has_no_verdict_and_a_verdict_with_a_problem_is_unparsed() -> None:
    failed = make_row(request(), SHARED, RequestResult(Failure("timeout", "no answer")), None)
    assert (failed["status"], failed["error_type"], failed.get("score"), failed["route"]) == (
        *("failed", "timeout"),
        *(None, None),
    )
    result = RequestResult(JudgeResponse("?"), Verdict(problem="conflict", detail="two"), 1, route="online")
    row = make_row(request(), SHARED, result, None)
    assert (row["status"], row["error_type"], row["error_message"], row["winner"]) == (
        *("unparsed", "conflict"),
        *("two", None),
    )


def test_a_replacing_row_adds_the_usage_of_the_old_row() -> None:
    result = RequestResult(JudgeResponse("1"), Verdict(score=1.0), 2, Usage(10, None, None), route="online")
    old_usage = {"attempts": 6, "prompt_tokens": 5, "completion_tokens": 7, "total_tokens": None, "cost": 0.5}
    row = make_row(request(), SHARED, result, 0.25, old_usage)
    assert {name: row[name] for name in old_usage} == {
        "attempts": 8,
        "prompt_tokens": 15,
        "completion_tokens": 7,
        "total_tokens": None,
        "cost": 0.75,
    }
