"""The columns of the results: one schema for every part of a run, and how one row is built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from runner.types import MAX_REPEATS, MAX_TOKENS, Failure, JudgeRequest, RequestResult, Row, Verdict
from runner.values import inner_types, to_array

DIMENSION = pa.struct([("name", pa.string()), ("answer", pa.int8()), ("score", pa.float64())])

# The columns of every run (docs/results.md).
FIELDS: tuple[pa.Field, ...] = (
    pa.field("sample_id", pa.string()),
    pa.field("ordinal", pa.int64()),
    pa.field("judge", pa.string()),
    pa.field("judge_model", pa.string()),
    pa.field("kind", pa.string()),
    pa.field("service", pa.string()),
    pa.field("swapped", pa.bool_()),
    pa.field("repeat", pa.int16()),
    pa.field("custom_id", pa.string()),
    pa.field("request_hash", pa.string()),
    pa.field("route", pa.string()),
    pa.field("status", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("winner", pa.string()),
    pa.field("score1", pa.float64()),
    pa.field("score2", pa.float64()),
    pa.field("label", pa.string()),
    pa.field("dimensions", pa.list_(DIMENSION)),
    pa.field("contradiction", pa.bool_()),
    pa.field("response", pa.string()),
    pa.field("explanation", pa.string()),
    pa.field("rule", pa.string()),
    pa.field("finish_reason", pa.string()),
    pa.field("response_id", pa.string()),
    pa.field("batch_id", pa.string()),
    pa.field("error_type", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("attempts", pa.int16()),
    pa.field("prompt_tokens", pa.int32()),
    pa.field("completion_tokens", pa.int32()),
    pa.field("total_tokens", pa.int32()),
    pa.field("cost", pa.float64()),
    pa.field("latency_s", pa.float64()),
    pa.field("finished_at", pa.timestamp("us", tz="UTC")),
    pa.field("served_model", pa.string()),
    pa.field("cached_tokens", pa.int32()),
)
FIELD_NAMES = frozenset(field.name for field in FIELDS)

# The largest value of the columns that add up over the rows that a row replaces.
_MOST = {
    "attempts": MAX_REPEATS,
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"), MAX_TOKENS),
}

# What Arrow raises for a value that does not fit its column.
UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError)

# Causes that may be gone next time: every later run sends the requests of such rows again.
TRANSIENT_ERROR_TYPES = frozenset({"timeout", "connection", "server_error", "bad_reply", "batch_lost", "batch_expired"})


def results_schema(extra: Iterable[pa.Field]) -> pa.Schema:
    """Returns the schema of all parts of a run: the fixed columns, then the dataset's columns `extra`."""
    return pa.schema([*FIELDS, *extra])


def dataset_fields(schema: pa.Schema) -> list[pa.Field]:
    """Returns the fields of a schema that the dataset adds: all but the fixed columns."""
    return [field for field in schema if field.name not in FIELD_NAMES]


def make_row(
    request: JudgeRequest,
    shared: Mapping[str, Any],
    result: RequestResult,
    cost: float | None,
    old_usage: Row | None = None,
) -> Row:
    """Build the row of one request. Many rows at once are built faster by `row_block.make_block`.

    Args:
        request: the request.
        shared: the columns that have the same value for every request of a variant (judge, judge_model, kind, ...).
        result: the response or the failure, the verdict and the usage.
        cost: the cost of all attempts; None without prices.
        old_usage: attempts, tokens and cost of the row that this one replaces; they are added.
    """
    sample, usage = request.sample, result.usage
    row: Row = {
        "sample_id": sample.id,
        "ordinal": sample.ordinal,
        **shared,
        "custom_id": request.custom_id,
        "request_hash": request.request_hash or None,
        "route": result.route,
        "attempts": result.attempts,
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "cached_tokens": usage.cached,
        "cost": cost,
        "latency_s": result.latency_s,
        "batch_id": result.batch_id,
        "finished_at": datetime.now(UTC),
        **sample.columns,
    }
    if result.service is not None:
        row["service"] = result.service
    _add_outcome(row, result)
    for name, value in () if old_usage is None else old_usage.items():
        row[name] = value if row[name] is None else min(row[name] + (value or 0), _MOST.get(name, math.inf))
    return row


def _add_outcome(row: Row, result: RequestResult) -> None:
    """Add the columns of the response and its verdict, or of the failure."""
    outcome = result.outcome
    if isinstance(outcome, Failure):
        row["status"] = "failed"
        row["error_type"] = outcome.error_type
        row["error_message"] = outcome.message
    else:
        row["response"] = outcome.text
        row["finish_reason"] = outcome.finish_reason
        row["response_id"] = outcome.response_id
        row["served_model"] = outcome.model
        row.update(verdict_columns(result.verdict or Verdict(problem="no_verdict")))


def verdict_columns(verdict: Verdict) -> Row:
    """Returns every column that a verdict fills, so that parsing a response again replaces every old value."""
    return {
        "status": "ok" if verdict.problem is None else "unparsed",
        "score": verdict.score,
        "winner": verdict.winner,
        "score1": verdict.score1,
        "score2": verdict.score2,
        "label": verdict.label,
        "dimensions": verdict_dimensions(verdict),
        "contradiction": verdict.contradiction,
        "explanation": verdict.explanation,
        "rule": verdict.rule,
        "error_type": verdict.problem,
        "error_message": verdict.detail,
    }


def verdict_dimensions(verdict: Verdict) -> list[Row]:
    """Returns the value of the `dimensions` column."""
    return [{"name": d.name, "answer": d.answer, "score": d.score} for d in verdict.dimensions]


def to_batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Convert rows to one Arrow batch; columns of the schema that a row lacks are null."""
    return columns_to_batch({name: [row.get(name) for row in rows] for name in schema.names}, len(rows), schema)


def to_batches(rows: Sequence[Row], schema: pa.Schema) -> tuple[list[pa.RecordBatch], list[tuple[Row, str]]]:
    """Convert as many rows as possible.

    Returns:
        The batches, in order; and each row that does not fit its columns, with the reason.
    """
    if not rows:
        return [], []
    try:
        return [to_batch(rows, schema)], []
    except UNFIT as error:
        if len(rows) == 1:
            return [], [(rows[0], str(error))]
    half = len(rows) // 2
    (first, refused), (second, more) = to_batches(rows[:half], schema), to_batches(rows[half:], schema)
    return first + second, refused + more


def columns_to_batch(columns: Mapping[str, Sequence[Any]], rows: int, schema: pa.Schema) -> pa.RecordBatch:
    """Convert columns of `rows` values each to one Arrow batch; columns of the schema that are absent are null."""
    kinds = zip(schema.names, schema.types, strict=True)  # reading `field.name` takes as long as converting a cell
    arrays = [_array(columns[name], kind) if name in columns else pa.nulls(rows, kind) for name, kind in kinds]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Convert a column; a text or timestamp that is the same in all rows is converted only once."""
    first = values[0] if values else None
    is_usual = pa.types.is_string(kind) or pa.types.is_timestamp(kind)
    if is_usual and isinstance(first, str | datetime) and first is values[-1] and values.count(first) == len(values):
        return pa.repeat(to_array([first], kind)[0], len(values))
    return to_array(values, kind)


def extra_float_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Returns the dataset's columns that may hold a number that JSON lacks: an infinity or NaN."""
    return tuple(field.name for field in schema if field not in FIELDS and _holds_floats(field.type))


def _holds_floats(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or any(map(_holds_floats, inner_types(kind)))
