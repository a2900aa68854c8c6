"""The samples worth a manual review: first those whose votes, orders or judges differ most, then those whose verdict
differs from the human label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.report.data.codes import VERDICT
from runner.report.data.query import RunTables
from runner.report.data.run_files import quoted
from runner.report.models import Scales

MAX_SAMPLES = 50
MAX_TEXT_CHARS, MAX_RESPONSE_CHARS = 1500, 600
MAX_VOTES = 24  # per sample
# A score contradicts the human score if their positions in the ranges of all such scores differ by this much.
MIN_SCORE_DISTANCE = 0.25

_TEXTS = ("question", "answer", "answer1", "answer2", "reference")
_KEPT = ("human_winner", "human_score", "human_label", "model", "model1", "model2")


class Vote(msgspec.Struct, frozen=True):
    """The result of one request about a sample; `response` is truncated."""

    judge: str
    swapped: bool
    repeat: int
    status: str
    winner: str | None
    score: float | None
    label: str | None
    error_type: str | None
    response: str | None


class Disputed(msgspec.Struct, frozen=True):
    """One sample, with its texts truncated.

    Attributes:
        why: `votes` differ, `orders` have different winners, `scores` differ, or the verdict contradicts `people`.
        dispute: how disputed the sample is, 0 to 1; samples are sorted by it.
        spread: the difference between the highest and the lowest score of its votes, or of the positions of these
            scores if the judges use different scales.
        fields: human label, models and grouping columns.
    """

    sample_id: str
    ordinal: int
    why: Sequence[str]
    dispute: float
    winner: str | None
    score: float | None
    label: str | None
    agreement: float | None
    consistent: bool | None
    spread: float | None
    fields: Mapping[str, str | float | None]
    texts: Mapping[str, str]
    votes: Sequence[Vote]


def disputed(tables: RunTables, scales: Scales) -> list[Disputed]:
    """Find the most disputed samples, at most `MAX_SAMPLES`; none without samples.parquet.

    If the judges use different scales, the spread of their scores is that of positions on each judge's own scale.
    """
    columns = tables.facts.sample_columns
    if not columns:
        return []
    named = dict.fromkeys((*_KEPT, *(group.column for group in tables.facts.groups)))
    kept = [name for name in named if name in columns]
    found = tables.records(_sql(tables, kept, scales))
    if not found:
        return []
    here = f"WHERE ordinal IN ({', '.join(str(line['ordinal']) for line in found)})"
    votes: dict[int, list[Vote]] = {}
    for ordinal, *vote in tables.rows(
        "SELECT ordinal, judge, swapped, repeat, status, winner, score, label, error_type, "
        f"left(response, {MAX_RESPONSE_CHARS}) FROM results {here} ORDER BY ordinal, judge, swapped, repeat"
    ):
        votes.setdefault(ordinal, []).append(Vote(*vote))
    shown = [name for name in _TEXTS if name in columns]
    cut = "".join(f", left(CAST({name} AS VARCHAR), {MAX_TEXT_CHARS}) AS {name}" for name in shown)
    texts = {line.pop("ordinal"): line for line in tables.records(f"SELECT ordinal{cut} FROM samples {here}")}
    return [_disputed(line, kept, texts[line["ordinal"]], votes.get(line["ordinal"], [])) for line in found]


def _sql(tables: RunTables, kept: Sequence[str], scales: Scales) -> str:
    """Returns the query for the most disputed samples, sorted by vote disagreement, then by distance from the label."""
    columns = tables.facts.sample_columns
    vote, low, high = _score_of_vote(tables, scales)
    verdict = f"judge = {VERDICT}" if scales.differ(one.name for one in tables.facts.judges if one.scores) else "true"
    score = _position("score", *tables.row(f"SELECT min(score), max(score) FROM rows WHERE {verdict}"))
    contradictions = [
        f"CASE WHEN {name} <> human_{name} THEN 1.0 END" for name in ("winner", "label") if f"human_{name}" in columns
    ]
    if "human_score" in columns:
        human = _position("human_score", *tables.row("SELECT min(human_score), max(human_score) FROM rows"))
        contradictions.append(
            f"CASE WHEN abs({score} - {human}) >= {MIN_SCORE_DISTANCE} THEN abs({score} - {human}) END"
        )
    columns_sql = ", ".join(quoted(name) for name in ("sample_id", "ordinal", "winner", "score", "label", *kept))
    spread = f"_spread / nullif({_width(low, high)}, 0)"
    return (
        f"SELECT *, greatest(coalesce(1 - agreement, 0), coalesce({spread}, 0)) AS _dispute FROM ("
        f"SELECT {columns_sql}, agreement, consistent, coalesce({', '.join([*contradictions, '0.0'])}) AS _against, "
        f"list_max([{vote} FOR v IN votes]) - list_min([{vote} FOR v IN votes]) AS _spread "
        "FROM samples) WHERE _dispute > 0 OR _against > 0 "
        f"ORDER BY _dispute DESC, consistent, _against DESC, ordinal LIMIT {MAX_SAMPLES}"
    )


def _score_of_vote(tables: RunTables, scales: Scales) -> tuple[str, float | None, float | None]:
    """Returns SQL for the score of a vote `v`, which can be compared with those of other judges, and its range."""
    judges = [judge.name for judge in tables.facts.judges if judge.scores]
    if not scales.differ(judges):
        return "v.score", *tables.row("SELECT min(score), max(score) FROM rows")
    cases = "".join(
        f" WHEN '{name.replace(chr(39), chr(39) * 2)}' THEN (v.score - {low!r}::DOUBLE) / {high - low!r}::DOUBLE"
        for name in judges
        if (span := scales.judges.get(name)) is not None and span[1] > span[0]
        for low, high in (span,)
    )
    return f"CASE v.judge{cases or ' WHEN NULL THEN NULL'} END", 0.0, 1.0


def _width(low: float | None, high: float | None) -> str:
    return f"{0.0 if low is None or high is None else high - low!r}::DOUBLE"


def _position(column: str, low: float | None, high: float | None) -> str:
    """Returns SQL for the position of a column's value in the range of all its values, 0 to 1."""
    return f"(({column} - {low or 0.0!r}::DOUBLE) / nullif({_width(low, high)}, 0))"


def _disputed(line: Mapping[str, Any], kept: Sequence[str], texts: Mapping[str, Any], votes: list[Vote]) -> Disputed:
    why = {
        "votes": line["agreement"] is not None and line["agreement"] < 1,
        "orders": line["consistent"] is False,
        "scores": bool(line["_spread"]),
        "people": line["_against"] > 0,
    }
    copied = ("sample_id", "ordinal", "winner", "score", "label", "agreement", "consistent")
    return Disputed(
        why=[reason for reason, holds in why.items() if holds],
        dispute=line["_dispute"],
        spread=line["_spread"],
        fields={name: _plain(line[name]) for name in kept},
        texts={name: text for name, text in texts.items() if text is not None},
        votes=votes[:MAX_VOTES],
        **{name: line[name] for name in copied},
    )


def _plain(value: Any) -> str | float | None:
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
