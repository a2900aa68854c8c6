"""Counts of the run: rows by status and cause, tokens and cost, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from runner.report.data.query import RunTables, distinct, quantiles

MAX_EXAMPLES = 3  # per cause
MAX_MESSAGE_CHARS, MAX_RESPONSE_CHARS = 300, 600
TIMELINE_INTERVALS = 60
MAX_SERVED = 1000  # pairs of a judge and a model

_QUANTILES = (0.5, 0.9, 0.99)


class Statuses(msgspec.Struct, frozen=True):
    """Rows by status; `judge` None means all judges."""

    judge: str | None
    rows: int
    ok: int
    unparsed: int
    failed: int


class Example(msgspec.Struct, frozen=True):
    """One row that is not ok, with its texts truncated."""

    custom_id: str
    judge: str
    message: str | None
    response: str | None


class Cause(msgspec.Struct, frozen=True):
    """Rows that are not ok for the same reason."""

    status: str
    error_type: str | None
    n: int
    examples: Sequence[Example]


class Rule(msgspec.Struct, frozen=True):
    """How often a parsing rule matched, and how often the result was a readable verdict."""

    judge: str
    rule: str
    n: int
    ok: int


class Counts(msgspec.Struct, frozen=True):
    """Rows by status, by judge, by cause and by rule."""

    samples: int
    all: Statuses
    judges: Sequence[Statuses]
    routes: Mapping[str, int]
    causes: Sequence[Cause]
    rules: Sequence[Rule]


class Usage(msgspec.Struct, frozen=True):
    """Usage over all attempts; `judge` None means all judges.

    `uncounted` rows were sent, but the service did not report their tokens; `unpriced` rows have no cost.
    """

    judge: str | None
    attempts: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    uncounted: int
    cost: float | None
    unpriced: int
    cached_tokens: int
    cost_per_sample: float | None


class Served(msgspec.Struct, frozen=True):
    """How many rows of a judge the service answered as which model; `model` is the `served_model` column."""

    judge: str
    model: str
    rows: int


class Latency(msgspec.Struct, frozen=True):
    """Latency in seconds of attempts that got a response; `judge` None means all judges. Batch rows have none."""

    judge: str | None
    n: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


class Throughput(msgspec.Struct, frozen=True):
    """When rows were finished.

    Attributes:
        first_at: start of the run (of the first row, if unknown) in Unix seconds; None without rows.
        last_at: when the last row was finished.
        seconds: the time between the two, including interruptions.
        rows_per_s: average rate over that time; None if the time is 0.
        step_s: length of each interval of `timeline` in seconds.
        timeline: rows finished in each of the equal intervals.
        latency: of all rows, then of each judge.
    """

    first_at: float | None
    last_at: float | None
    seconds: float | None
    rows_per_s: float | None
    step_s: float | None
    timeline: Sequence[int]
    latency: Sequence[Latency]


def counts(tables: RunTables) -> Counts:
    """Count rows by status, judge, route, cause and parsing rule."""
    lines = [
        Statuses(*row)
        for row in tables.rows(
            "SELECT judge, count(*), count(*) FILTER (status = 'ok'), count(*) FILTER (status = 'unparsed'), "
            "count(*) FILTER (status = 'failed') FROM results GROUP BY GROUPING SETS ((), (judge)) ORDER BY judge"
        )
    ]
    (samples,) = tables.row(f"SELECT count(*) FROM {distinct('ordinal', 'rows')}")
    routes = tables.rows("SELECT coalesce(route, 'not sent'), count(*) FROM results GROUP BY 1 ORDER BY 1")
    rules = tables.rows(
        "SELECT judge, rule, count(*) AS n, count(*) FILTER (status = 'ok') FROM results WHERE rule IS NOT NULL "
        "GROUP BY judge, rule ORDER BY judge, n DESC, rule"
    )
    every = next(line for line in lines if line.judge is None)
    judges = [line for line in lines if line.judge is not None]
    return Counts(samples, every, judges, dict(routes), _causes(tables), [Rule(*row) for row in rules])


def _causes(tables: RunTables) -> list[Cause]:
    found = tables.rows(
        "SELECT status, error_type, count(*) AS n, "
        f"arg_min(custom_id, row(ordinal, custom_id), {MAX_EXAMPLES}), min(ordinal, {MAX_EXAMPLES}) "
        "FROM results WHERE status <> 'ok' GROUP BY status, error_type ORDER BY n DESC, error_type, status"
    )
    wanted = [name for row in found for name in row[3]]
    ordinals = {ordinal for row in found for ordinal in row[4]}
    examples = {}
    if wanted:
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in wanted)
        for row in tables.rows(
            f"SELECT custom_id, judge, left(error_message, {MAX_MESSAGE_CHARS}), left(response, {MAX_RESPONSE_CHARS}) "
            f"FROM results WHERE ordinal IN ({', '.join(map(str, ordinals))}) AND custom_id IN ({names})"
        ):
            examples[row[0]] = Example(*row)
    return [
        Cause(status, error_type, n, [examples[name] for name in names if name in examples])
        for status, error_type, n, names, _ in found
    ]


def usage(tables: RunTables) -> list[Usage]:
    """Sum up tokens and cost of all rows and of each judge."""
    found = tables.records(
        "SELECT judge, coalesce(sum(attempts), 0) AS attempts, "
        "coalesce(sum(greatest(attempts - 1, 0)), 0) AS retries, coalesce(sum(prompt_tokens), 0) AS prompt_tokens, "
        "coalesce(sum(completion_tokens), 0) AS completion_tokens, coalesce(sum(total_tokens), 0) AS total_tokens, "
        "count(*) FILTER (attempts > 0 AND total_tokens IS NULL) AS uncounted, sum(cost) AS cost, "
        "count(*) - count(cost) AS unpriced, coalesce(sum(cached_tokens), 0) AS cached_tokens FROM results "
        "GROUP BY GROUPING SETS ((), (judge)) ORDER BY judge NULLS FIRST"
    )
    samples = dict(tables.rows(f"SELECT judge, count(*) FROM {distinct('judge, ordinal', 'results')} GROUP BY judge"))
    (samples[None],) = tables.row(f"SELECT count(*) FROM {distinct('ordinal', 'results')}")
    each = (None if line["cost"] is None else line["cost"] / samples[line["judge"]] for line in found)
    return [Usage(**line, cost_per_sample=cost) for line, cost in zip(found, each, strict=True)]


def served_models(tables: RunTables) -> list[Served]:
    """Count the rows of each judge by the model that the service named, the most frequent first."""
    found = tables.rows(
        "SELECT judge, served_model, count(*) AS n FROM results WHERE served_model IS NOT NULL "
        f"GROUP BY judge, served_model ORDER BY judge, n DESC, served_model LIMIT {MAX_SERVED}"
    )
    return [Served(*row) for row in found]


def throughput(tables: RunTables, began: str | None) -> Throughput:
    """Compute when rows were finished, and latencies.

    Args:
        tables: the run.
        began: start of the run (ISO 8601), if known.
    """
    first, last, n = tables.row(
        "SELECT epoch_us(min(finished_at)), epoch_us(max(finished_at)), count(finished_at) FROM results"
    )
    latency = tables.rows(
        f"SELECT judge, count(latency_s), {quantiles('latency_s', _QUANTILES, n)}, max(latency_s) FROM results "
        "GROUP BY GROUPING SETS ((), (judge)) ORDER BY judge NULLS FIRST"
    )
    lines = [_latency(*row) for row in latency]
    if n == 0:
        return Throughput(None, None, None, None, None, (), lines)
    first = min(first, _microseconds(began) or first)  # all rows of a batch are finished when it is collected
    seconds = (last - first) / 1e6
    if seconds == 0:
        return Throughput(first / 1e6, last / 1e6, 0.0, None, None, (n,), lines)
    intervals = TIMELINE_INTERVALS
    interval = f"least((epoch_us(finished_at) - {first}) * {intervals} // {last - first}, {intervals - 1})"
    rows = dict(tables.rows(f"SELECT {interval}, count(*) FROM results WHERE finished_at IS NOT NULL GROUP BY 1"))
    timeline = [rows.get(index, 0) for index in range(intervals)]
    return Throughput(first / 1e6, last / 1e6, seconds, n / seconds, seconds / intervals, timeline, lines)


def _microseconds(moment: str | None) -> int | None:
    """Returns an ISO 8601 time as microseconds since 1970; None if it cannot be parsed."""
    try:
        return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1e6)
    except ValueError:
        return None


def _latency(judge: str | None, n: int, shares: Sequence[float] | None, longest: float | None) -> Latency:
    p50, p90, p99 = shares or (None, None, None)
    return Latency(judge, n, p50, p90, p99, longest)
