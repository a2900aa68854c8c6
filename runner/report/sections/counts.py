"""What was run and what it came to: rows by status and cause, tokens and cost, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from runner.report.data.query import RunTables, distinct, quantiles

EXAMPLES = 3
MESSAGE, RESPONSE = 300, 600
STRETCHES = 60

_QUANTILES = (0.5, 0.9, 0.99)


class Statuses(msgspec.Struct, frozen=True):
    """How many rows there are; `judge` None is all of them."""

    judge: str | None
    rows: int
    ok: int
    unparsed: int
    failed: int


class Example(msgspec.Struct, frozen=True):
    """One row that is not ok; its texts are cut."""

    custom_id: str
    judge: str
    message: str | None
    response: str | None


class Cause(msgspec.Struct, frozen=True):
    """Rows that are not ok for the same cause."""

    status: str
    error_type: str | None
    n: int
    examples: Sequence[Example]


class Rule(msgspec.Struct, frozen=True):
    """How often a parsing rule fired, and how often what it found could be read."""

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
    """What rows took, all attempts; `judge` None is all of them.

    `uncounted` rows were sent, but the service did not say how many tokens they took; `unpriced` rows have no cost.
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
    cost_per_sample: float | None


class Latency(msgspec.Struct, frozen=True):
    """Seconds of answering attempts; `judge` None is all rows. Rows by batch have none."""

    judge: str | None
    n: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


class Throughput(msgspec.Struct, frozen=True):
    """When rows were finished.

    Attributes:
        first_at: of the run's begin, else of the first row, Unix seconds; None without rows.
        last_at: of the last row.
        seconds: between them, breaks included.
        rows_per_s: on average in that time; None where there is none.
        step_s: seconds of each of the equal stretches that `timeline` counts rows in.
        timeline: rows finished in each.
        latency: of all rows, then of each judge's.
    """

    first_at: float | None
    last_at: float | None
    seconds: float | None
    rows_per_s: float | None
    step_s: float | None
    timeline: Sequence[int]
    latency: Sequence[Latency]


def counts(store: RunTables) -> Counts:
    """Count rows."""
    lines = [
        Statuses(*row)
        for row in store.rows(
            "SELECT judge, count(*), count(*) FILTER (status = 'ok'), count(*) FILTER (status = 'unparsed'), "
            "count(*) FILTER (status = 'failed') FROM results GROUP BY GROUPING SETS ((), (judge)) ORDER BY judge"
        )
    ]
    (samples,) = store.row(f"SELECT count(*) FROM {distinct('ordinal', 'rows')}")
    routes = store.rows("SELECT coalesce(route, 'not sent'), count(*) FROM results GROUP BY 1 ORDER BY 1")
    rules = store.rows(
        "SELECT judge, rule, count(*) AS n, count(*) FILTER (status = 'ok') FROM results WHERE rule IS NOT NULL "
        "GROUP BY judge, rule ORDER BY judge, n DESC, rule"
    )
    every = next(line for line in lines if line.judge is None)
    judges = [line for line in lines if line.judge is not None]
    return Counts(samples, every, judges, dict(routes), _causes(store), [Rule(*row) for row in rules])


def _causes(store: RunTables) -> list[Cause]:
    found = store.rows(
        "SELECT status, error_type, count(*) AS n, arg_min(custom_id, row(ordinal, custom_id), 3), min(ordinal, 3) "
        "FROM results WHERE status <> 'ok' GROUP BY status, error_type ORDER BY n DESC, error_type, status"
    )
    wanted = [name for row in found for name in row[3]]
    ordinals = {ordinal for row in found for ordinal in row[4]}
    examples = {}
    if wanted:
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in wanted)
        for row in store.rows(
            f"SELECT custom_id, judge, left(error_message, {MESSAGE}), left(response, {RESPONSE}) FROM results "
            f"WHERE ordinal IN ({', '.join(map(str, ordinals))}) AND custom_id IN ({names})"
        ):
            examples[row[0]] = Example(*row)
    return [
        Cause(status, error_type, n, [examples[name] for name in names if name in examples])
        for status, error_type, n, names, _ in found
    ]


def usage(store: RunTables) -> list[Usage]:
    """Tokens and cost, of all rows and of each judge's."""
    found = store.records(
        "SELECT judge, coalesce(sum(attempts), 0) AS attempts, "
        "coalesce(sum(greatest(attempts - 1, 0)), 0) AS retries, coalesce(sum(prompt_tokens), 0) AS prompt_tokens, "
        "coalesce(sum(completion_tokens), 0) AS completion_tokens, coalesce(sum(total_tokens), 0) AS total_tokens, "
        "count(*) FILTER (attempts > 0 AND total_tokens IS NULL) AS uncounted, sum(cost) AS cost, "
        "count(*) - count(cost) AS unpriced FROM results "
        "GROUP BY GROUPING SETS ((), (judge)) ORDER BY judge NULLS FIRST"
    )
    asked = dict(store.rows(f"SELECT judge, count(*) FROM {distinct('judge, ordinal', 'results')} GROUP BY judge"))
    (asked[None],) = store.row(f"SELECT count(*) FROM {distinct('ordinal', 'results')}")
    each = (None if line["cost"] is None else line["cost"] / asked[line["judge"]] for line in found)
    return [Usage(**line, cost_per_sample=cost) for line, cost in zip(found, each, strict=True)]


def throughput(store: RunTables, began: str | None) -> Throughput:
    """When rows were finished, and how long answers took; `began` (ISO 8601) is when the run was, if that is known."""
    first, last, n = store.row(
        "SELECT epoch_us(min(finished_at)), epoch_us(max(finished_at)), count(finished_at) FROM results"
    )
    latency = store.rows(
        f"SELECT judge, count(latency_s), {quantiles('latency_s', _QUANTILES, n)}, max(latency_s) FROM results "
        "GROUP BY GROUPING SETS ((), (judge)) ORDER BY judge NULLS FIRST"
    )
    lines = [_latency(*row) for row in latency]
    if n == 0:
        return Throughput(None, None, None, None, None, (), lines)
    first = min(first, _microseconds(began) or first)  # a batch's rows are all finished at its very end
    seconds = (last - first) / 1e6
    if seconds == 0:
        return Throughput(first / 1e6, last / 1e6, 0.0, None, None, (n,), lines)
    place = f"least((epoch_us(finished_at) - {first}) * {STRETCHES} // {last - first}, {STRETCHES - 1})"
    found = dict(store.rows(f"SELECT {place}, count(*) FROM results WHERE finished_at IS NOT NULL GROUP BY 1"))
    timeline = [found.get(stretch, 0) for stretch in range(STRETCHES)]
    return Throughput(first / 1e6, last / 1e6, seconds, n / seconds, seconds / STRETCHES, timeline, lines)


def _microseconds(moment: str | None) -> int | None:
    """Since 1970; None for what is no moment."""
    try:
        return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1e6)
    except ValueError:
        return None


def _latency(judge: str | None, n: int, shares: Sequence[float] | None, most: float | None) -> Latency:
    p50, p90, p99 = shares or (None, None, None)
    return Latency(judge, n, p50, p90, p99, most)
