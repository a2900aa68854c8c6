"""The columns of the results: one schema for every part of a run, and how one row is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Verdict

DIMENSION = pa.struct([("name", pa.string()), ("answer", pa.int8()), ("score", pa.float64())])

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
)
"""The columns every run has (contract, section 4)."""

TRANSIENT_ERROR_TYPES = frozenset({"timeout", "connection", "server_error", "bad_reply", "batch_lost", "batch_expired"})
"""Causes that may be gone next time: such rows are asked again by any later run."""


def results_schema(extra: Iterable[pa.Field]) -> pa.Schema:
    """The schema of all parts of a run: the fixed columns, then the dataset's own."""
    return pa.schema([*FIELDS, *extra])


def make_row(
    request: JudgeRequest,
    shared: Mapping[str, Any],
    asked: RequestResult,
    cost: float | None,
    earlier: Row | None = None,
) -> Row:
    """Put request, outcome and verdict into one row.

    Args:
        request: what was asked.
        shared: the columns that are the same for every request of a variant (judge, judge_model, kind, ...).
        asked: what it came to.
        cost: of all attempts, where prices are set.
        earlier: attempts, tokens and cost of a row that this one replaces; they are added.
    """
    sample = request.sample
    usage = asked.usage
    row: Row = {
        "sample_id": sample.id,
        "ordinal": sample.ordinal,
        **shared,
        "custom_id": request.custom_id,
        "request_hash": request.request_hash or None,
        "route": asked.route,
        "attempts": asked.attempts,
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "cost": cost,
        "latency_s": asked.latency_s,
        "batch_id": asked.batch_id,
        "finished_at": datetime.now(UTC),
        **sample.columns,
    }
    if asked.service is not None:
        row["service"] = asked.service
    if isinstance(asked.outcome, Failure):
        row["status"] = "failed"
        row["error_type"] = asked.outcome.error_type
        row["error_message"] = asked.outcome.message
    else:
        row.update(answer_columns(asked.outcome))
        row.update(verdict_columns(asked.verdict or Verdict(problem="no_verdict")))
    if earlier:
        for name, value in earlier.items():
            row[name] = value if row[name] is None else row[name] + (value or 0)
    return row


def answer_columns(response: JudgeResponse) -> Row:
    """The columns that hold the judge's answer as it came."""
    return {
        "response": response.text,
        "finish_reason": response.finish_reason,
        "response_id": response.response_id,
    }


def verdict_columns(verdict: Verdict) -> Row:
    """The columns that a verdict fills; all of them, so that reading again replaces every old value."""
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
    """A verdict's dimensions as a row holds them."""
    return [{"name": d.name, "answer": d.answer, "score": d.score} for d in verdict.dimensions]


def to_batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as one Arrow batch; a column a row does not name is null."""
    return columns_to_batch({name: [row.get(name) for row in rows] for name in schema.names}, len(rows), schema)


def columns_to_batch(columns: Mapping[str, Sequence[Any]], rows: int, schema: pa.Schema) -> pa.RecordBatch:
    """Columns of so many values as one Arrow batch; one that is not named is null."""
    kinds = zip(schema.names, schema.types, strict=True)  # asking a field for its name costs as much as a cell
    arrays = [_array(columns[name], kind) if name in columns else pa.nulls(rows, kind) for name, kind in kinds]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values as Arrow has them; a text or moment that is the same in all rows is turned only once."""
    first = values[0] if values else None
    if isinstance(first, str | datetime) and first is values[-1] and values.count(first) == len(values):
        return pa.repeat(pa.array([first], kind)[0], len(values))
    return pa.array(values, kind)


def revive(row: Row, schema: pa.Schema) -> Row:
    """Give a row that was read from JSON the Python types its columns had before."""
    for field in schema:
        value = row.get(field.name)
        if value is not None and not isinstance(value, bool | int | float) and _needs_reviving(field.type):
            row[field.name] = _revived(value, field.type)
    return row


def needing_revival(fields: Iterable[pa.Field]) -> pa.Schema:
    """Those of some columns that JSON gives back as another type than they had."""
    return pa.schema([field for field in fields if _needs_reviving(field.type)])


def own_floats(schema: pa.Schema) -> tuple[str, ...]:
    """The dataset's own columns that may hold a number which JSON cannot: infinite, or not a number."""
    return tuple(field.name for field in schema if field not in FIELDS and _holds_floats(field.type))


def _holds_floats(kind: pa.DataType) -> bool:
    inner = [kind.field(index) for index in range(kind.num_fields)]
    return pa.types.is_floating(kind) or any(_holds_floats(field.type) for field in inner)


def _needs_reviving(kind: pa.DataType) -> bool:
    return not (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _revived(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return _from_text(value, kind)
    if pa.types.is_struct(kind):
        return {field.name: _revived(value.get(field.name), field.type) for field in kind}
    if pa.types.is_map(kind):
        return [(_revived(k, kind.key_type), _revived(v, kind.item_type)) for k, v in value]
    if isinstance(value, list):
        return [_revived(item, kind.value_type) for item in value]
    return value


def _from_text(value: str, kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_time(kind):
        return time.fromisoformat(value)
    if pa.types.is_decimal(kind):
        return Decimal(value)
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return msgspec.convert(value, bytes)
    if pa.types.is_duration(kind):
        return msgspec.convert(value, timedelta)
    return value
