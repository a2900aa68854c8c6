"""A block of rows holds the same rows as are built one by one."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.results import encode_row, extra_float_columns, results_schema
from runner.results.journal import decode_row, encode_block
from runner.results.row_block import RowBlock, make_block
from runner.results.schema import columns_to_batch, make_row, to_batch
from runner.types import Dimension, Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Sample, Usage, Verdict

SHARED = [
    {"judge": "j", "judge_model": "m", "kind": "template", "service": "s", "swapped": swapped, "repeat": 0}
    for swapped in (False, True)
]
EXTRA = (pa.field("human_winner", pa.string()), pa.field("number", pa.float64()))
SCHEMA = results_schema(EXTRA)

texts = st.text(max_size=4) | st.sampled_from(("", "a\nb", "回复", "\ud800 alone"))
counts = st.none() | st.integers(0, 2**31 - 1)
scores = st.none() | st.floats(-10, 10)
verdicts = st.builds(
    Verdict,
    rule=st.none() | texts,
    score=scores,
    winner=st.sampled_from((None, "1", "2", "tie")),
    score1=scores,
    score2=scores,
    label=st.none() | texts,
    dimensions=st.lists(st.builds(Dimension, texts, st.sampled_from((None, 1, 2)), st.floats(0, 5)), max_size=2).map(
        tuple
    ),
    contradiction=st.none() | st.booleans(),
    explanation=st.none() | texts,
    problem=st.sampled_from((None, "no_verdict", "conflict")),
    detail=st.none() | texts,
)
answers = st.builds(
    JudgeResponse,
    st.none() | texts,
    st.none() | texts,
    st.none() | texts,
    model=st.none() | st.sampled_from(("m", "n")),
)
failures = st.builds(Failure, st.sampled_from(("bad_request", "batch_lost")), texts)
request_results = st.builds(
    RequestResult,
    answers | failures,
    st.none() | verdicts,
    st.integers(0, 3),
    st.builds(Usage, counts, counts, counts, counts),
    st.none() | st.floats(0, 9),
    st.sampled_from(("batch", None)),
    st.none() | texts,
    st.sampled_from((None, "other")),
)
extra_columns = st.fixed_dictionaries(
    {}, optional={"human_winner": st.none() | texts, "number": st.none() | st.floats()}
)
requests = st.builds(
    lambda ordinal, columns, variant, name: JudgeRequest(
        Sample(ordinal, f"s{ordinal}", {}, {}, columns, ""), variant, f"{ordinal}-j", b"", name
    ),
    st.integers(0, 99),
    extra_columns,
    st.integers(0, 1),
    st.sampled_from(("", "aa")),
)


def one_by_one(
    results: list[tuple[JudgeRequest, RequestResult]], costs: list[float | None], block: RowBlock
) -> list[Row]:
    pairs = zip(results, costs, strict=True)
    rows = [make_row(request, SHARED[request.variant], each, cost) for (request, each), cost in pairs]
    return [{**row, "finished_at": moment} for row, moment in zip(rows, block["finished_at"], strict=True)]


def with_all_columns(row: Row) -> Row:
    """Returns the row with every column of the schema, as it is read back from a part."""
    return {name: row.get(name) for name in SCHEMA.names}


@settings(deadline=None)
@given(st.lists(st.tuples(requests, request_results, st.none() | st.floats(0, 1)), min_size=1, max_size=6))
def test_a_block_holds_the_rows_that_make_row_builds(made: list[tuple[JudgeRequest, RequestResult, Any]]) -> None:
    results, costs = [(request, each) for request, each, _ in made], [cost for _, _, cost in made]
    block = make_block(results, SHARED, [each.attempts for _, each in results], costs)
    rows = one_by_one(results, costs, block)
    assert len(block) == len(rows)
    assert repr([with_all_columns(block.row(index)) for index in range(len(rows))]) == repr(
        [with_all_columns(row) for row in rows]
    )

    floats = extra_float_columns(SCHEMA)
    lines = encode_block(block, floats).splitlines(keepends=True)
    decoded = [decode_row(line) for line in lines]
    expected = [decode_row(encode_row(row, floats) + b"\n") for row in rows]
    assert [with_all_columns(row or {}) for row in decoded] == [with_all_columns(row or {}) for row in expected]

    columnwise = columns_to_batch(block.columns, len(block), SCHEMA)
    assert repr(columnwise.to_pylist()) == repr(to_batch(rows, SCHEMA).to_pylist())


def test_lone_surrogates_and_non_finite_numbers_are_encoded_as_for_rows() -> None:
    results = [
        (
            JudgeRequest(Sample(0, "\udfff", {}, {}, {"number": math.inf}, ""), 0, "0-j", b"", ""),
            RequestResult(Failure("x", "y")),
        )
    ]
    block = make_block(results, SHARED, [0], [None])
    row = msgspec.json.decode(encode_block(block, extra_float_columns(SCHEMA)))
    assert (row["sample_id"], row["number"]) == ("�", "inf")
    assert block["sample_id"] == ["�"]


repeated = st.lists(st.sampled_from(("a", "b", None)), max_size=4) | st.builds(
    lambda value, count: [value] * count, texts.filter(str.isprintable), st.integers(0, 5)
)


@settings(deadline=None)
@given(values=repeated, number=st.sampled_from((0.0, -0.0, 1)))
def test_a_constant_column_is_the_same_column(values: list[Any], number: float) -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        schema = pa.schema([("x", kind)])
        assert columns_to_batch({"x": values}, len(values), schema)["x"].equals(pa.array(values, kind))
    numbers = columns_to_batch({"x": [number, -0.0, number]}, 3, pa.schema([("x", pa.float64())]))["x"]
    assert repr(numbers.to_pylist()) == repr([float(number), -0.0, float(number)])
