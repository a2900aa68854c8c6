"""Rows column by column: what a slice of a batch's results came to, without a dictionary for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import msgspec

from runner.results.schema import verdict_dimensions
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Verdict

Columns = dict[str, list[Any]]

_UNREAD = Verdict(problem="no_verdict")
_NO_ANSWER = JudgeResponse(None)


class RowBlock(msgspec.Struct, frozen=True):
    """Some rows: for each column the values of all of them, in the same order."""

    columns: Columns

    def __len__(self) -> int:
        return len(self.columns["custom_id"])

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def row(self, index: int) -> Row:
        """One of the rows."""
        return {name: values[index] for name, values in self.columns.items()}


def make_block(
    came: Sequence[tuple[JudgeRequest, RequestResult]],
    shared: Sequence[Mapping[str, Any]],
    attempts: Sequence[int],
    costs: Sequence[float | None],
) -> RowBlock:
    """Put requests, outcomes and verdicts into rows, each the same as `make_row` makes it.

    Args:
        came: at least one request, and what it came to.
        shared: for each variant, the columns that all its rows share.
        attempts, costs: of each.
    """
    requests = [request for request, _ in came]
    samples = [request.sample for request in requests]
    asked = [each for _, each in came]
    common = [shared[request.variant] for request in requests]
    own = [sample.columns for sample in samples]
    columns: Columns = {
        "sample_id": [sample.id for sample in samples],
        "ordinal": [sample.ordinal for sample in samples],
        **{name: [each[name] for each in common] for name in common[0]},
        "custom_id": [request.custom_id for request in requests],
        "request_hash": [request.request_hash or None for request in requests],
        **_asking(asked),
        "attempts": list(attempts),
        "cost": list(costs),
        "finished_at": [datetime.now(UTC)] * len(asked),
        **{name: [each.get(name) for each in own] for name in dict.fromkeys(chain.from_iterable(own))},
        **_outcomes(asked),
    }
    services = zip(asked, columns["service"], strict=True)
    columns["service"] = [usual if each.service is None else each.service for each, usual in services]
    return RowBlock(columns)


def _asking(asked: Sequence[RequestResult]) -> Columns:
    usages = [each.usage for each in asked]
    return {
        "route": [each.route for each in asked],
        "prompt_tokens": [usage.prompt for usage in usages],
        "completion_tokens": [usage.completion for usage in usages],
        "total_tokens": [usage.total for usage in usages],
        "latency_s": [each.latency_s for each in asked],
        "batch_id": [each.batch_id for each in asked],
    }


def _outcomes(asked: Sequence[RequestResult]) -> Columns:
    """What answers and verdicts fill; a failure is an answer without anything, and a verdict with its cause."""
    answers, verdicts = [], []
    for each in asked:
        outcome = each.outcome
        if isinstance(outcome, Failure):
            answers.append(_NO_ANSWER)
            verdicts.append(Verdict(problem=outcome.error_type, detail=outcome.message))
        else:
            answers.append(outcome)
            verdicts.append(each.verdict or _UNREAD)
    failed = [answer is _NO_ANSWER for answer in answers]
    pairs = list(zip(verdicts, failed, strict=True))
    return {
        "response": [answer.text for answer in answers],
        "finish_reason": [answer.finish_reason for answer in answers],
        "response_id": [answer.response_id for answer in answers],
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
