"""Rows stored column by column, for many results at once.

`make_block` builds the same rows as `schema.make_row` builds one by one; tests/results/test_row_block.py compares them.
With `make_row` instead, a run that collects 100,000 batch results uses 13 % more CPU (median of 8 alternating pairs of
`benchmarks/batch_results.py`, user + system time of the whole collecting process; 7 % with the submitting one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import msgspec

from runner.results.schema import verdict_dimensions
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Verdict

Columns = dict[str, list[Any]]

_NO_VERDICT = Verdict(problem="no_verdict")
_NO_RESPONSE = JudgeResponse(None)


class RowBlock(msgspec.Struct, frozen=True):
    """Rows as columns: for each column name the values of all rows, in row order."""

    columns: Columns

    def __len__(self) -> int:
        return len(self.columns["custom_id"])

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def row(self, index: int) -> Row:
        """Returns one of the rows."""
        return {name: values[index] for name, values in self.columns.items()}


def make_block(
    results: Sequence[tuple[JudgeRequest, RequestResult]],
    shared: Sequence[Mapping[str, Any]],
    attempts: Sequence[int],
    costs: Sequence[float | None],
) -> RowBlock:
    """Build the rows of several requests.

    Args:
        results: each request and its result; at least one.
        shared: for each variant, the columns that have the same value for all its rows.
        attempts: for each request, the number of attempts.
        costs: for each request, the cost of all attempts; None without prices.
    """
    requests = [request for request, _ in results]
    samples = [request.sample for request in requests]
    outcomes = [result for _, result in results]
    common = [shared[request.variant] for request in requests]
    extra = [sample.columns for sample in samples]
    columns: Columns = {
        "sample_id": [sample.id for sample in samples],
        "ordinal": [sample.ordinal for sample in samples],
        **{name: [each[name] for each in common] for name in common[0]},
        "custom_id": [request.custom_id for request in requests],
        "request_hash": [request.request_hash or None for request in requests],
        **_call_columns(outcomes),
        "attempts": list(attempts),
        "cost": list(costs),
        "finished_at": [datetime.now(UTC)] * len(outcomes),
        **{name: [each.get(name) for each in extra] for name in dict.fromkeys(chain.from_iterable(extra))},
        **_outcome_columns(outcomes),
    }
    services = zip(outcomes, columns["service"], strict=True)
    columns["service"] = [default if result.service is None else result.service for result, default in services]
    return RowBlock(columns)


def _call_columns(results: Sequence[RequestResult]) -> Columns:
    usages = [result.usage for result in results]
    return {
        "route": [result.route for result in results],
        "prompt_tokens": [usage.prompt for usage in usages],
        "completion_tokens": [usage.completion for usage in usages],
        "total_tokens": [usage.total for usage in usages],
        "cached_tokens": [usage.cached for usage in usages],
        "latency_s": [result.latency_s for result in results],
        "batch_id": [result.batch_id for result in results],
    }


def _outcome_columns(results: Sequence[RequestResult]) -> Columns:
    """Returns the columns of responses and verdicts; a failure counts as an empty response whose problem is its cause.

    Only `status` and `dimensions` tell it from a response without a verdict.
    """
    responses, verdicts = [], []
    for result in results:
        outcome = result.outcome
        if isinstance(outcome, Failure):
            responses.append(_NO_RESPONSE)
            verdicts.append(Verdict(problem=outcome.error_type, detail=outcome.message))
        else:
            responses.append(outcome)
            verdicts.append(result.verdict or _NO_VERDICT)
    failed = [response is _NO_RESPONSE for response in responses]
    pairs = list(zip(verdicts, failed, strict=True))
    return {
        "response": [response.text for response in responses],
        "finish_reason": [response.finish_reason for response in responses],
        "response_id": [response.response_id for response in responses],
        "served_model": [response.model for response in responses],
        "status": ["failed" if no else "ok" if verdict.problem is None else "unparsed" for verdict, no in pairs],
        "score": [verdict.score for verdict in verdicts],
        "winner": [verdict.winner for verdict in verdicts],
        "score1": [verdict.score1 for verdict in verdicts],
        "score2": [verdict.score2 for verdict in verdicts],
        "label": [verdict.label for verdict in verdicts],
        "dimensions": [None if no else verdict_dimensions(verdict) for verdict, no in pairs],
        "contradiction": [verdict.contradiction for verdict in verdicts],
        "explanation": [verdict.explanation for verdict in verdicts],
        "rule": [verdict.rule for verdict in verdicts],
        "error_type": [verdict.problem for verdict in verdicts],
        "error_message": [verdict.detail for verdict in verdicts],
    }
