"""The samples worth a person's look: those about which votes, orders or judges differ most, and then those about
which the verdict differs from people's label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.report.data.query import RunTables
from runner.report.data.tables import quoted

MOST = 50
TEXT, RESPONSE = 1500, 600
VOTES = 24
FAR = 0.25
"""A score is against people's if their places, each in the range of all such scores, are this far apart."""

_TEXTS = ("question", "answer", "answer1", "answer2", "reference")
_KEPT = ("human_winner", "human_score", "human_label", "model", "model1", "model2")


class Vote(msgspec.Struct, frozen=True):
    """What one request about a sample came to; `response` is cut."""

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
    """One sample, with its texts cut.

    Attributes:
        why: `votes` differ, `orders` name different answers, `scores` are apart, or it is against `people`.
        dispute: 0 to 1, how much; samples come in this order.
        spread: the difference between the highest and the lowest score of its votes.
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


def disputed(store: RunTables) -> list[Disputed]:
    """Find the most disputed samples, at most 50; none without samples.parquet."""
    columns = store.tables.sample_columns
    if not columns:
        return []
    named = dict.fromkeys((*_KEPT, *(group.column for group in store.tables.groups)))
    kept = [name for name in named if name in columns]
    found = store.records(_sql(store, kept))
    if not found:
        return []
    here = f"WHERE ordinal IN ({', '.join(str(line['ordinal']) for line in found)})"
    votes: dict[int, list[Vote]] = {}
    for ordinal, *vote in store.rows(
        f"SELECT ordinal, judge, swapped, repeat, status, winner, score, label, error_type, left(response, {RESPONSE}) "
        f"FROM results {here} ORDER BY ordinal, judge, swapped, repeat"
    ):
        votes.setdefault(ordinal, []).append(Vote(*vote))
    shown = [name for name in _TEXTS if name in columns]
    cut = "".join(f", left(CAST({name} AS VARCHAR), {TEXT}) AS {name}" for name in shown)
    texts = {line.pop("ordinal"): line for line in store.records(f"SELECT ordinal{cut} FROM samples {here}")}
    return [_disputed(line, kept, texts[line["ordinal"]], votes.get(line["ordinal"], [])) for line in found]


def _sql(store: RunTables, kept: Sequence[str]) -> str:
    """The query for the most disputed samples: how much their votes differ, then how much people do."""
    columns = store.tables.sample_columns
    low, high = store.row("SELECT min(score), max(score) FROM rows")
    score = _share("score", low, high)
    against = [
        f"CASE WHEN {name} <> human_{name} THEN 1.0 END" for name in ("winner", "label") if f"human_{name}" in columns
    ]
    if "human_score" in columns:
        human = _share("human_score", *store.row("SELECT min(human_score), max(human_score) FROM rows"))
        against.append(f"CASE WHEN abs({score} - {human}) >= {FAR} THEN abs({score} - {human}) END")
    own = ", ".join(quoted(name) for name in ("sample_id", "ordinal", "winner", "score", "label", *kept))
    apart = f"_spread / nullif({_width(low, high)}, 0)"
    return (
        f"SELECT *, greatest(coalesce(1 - agreement, 0), coalesce({apart}, 0)) AS _dispute FROM ("
        f"SELECT {own}, agreement, consistent, coalesce({', '.join([*against, '0.0'])}) AS _against, "
        "list_max([v.score FOR v IN votes]) - list_min([v.score FOR v IN votes]) AS _spread "
        "FROM samples) WHERE _dispute > 0 OR _against > 0 "
        f"ORDER BY _dispute DESC, consistent, _against DESC, ordinal LIMIT {MOST}"
    )


def _width(low: float | None, high: float | None) -> str:
    return f"{0.0 if low is None or high is None else high - low!r}::DOUBLE"


def _share(column: str, low: float | None, high: float | None) -> str:
    """SQL for where in the range of all its values a column's value is, 0 to 1."""
    return f"(({column} - {low or 0.0!r}::DOUBLE) / nullif({_width(low, high)}, 0))"


def _disputed(line: Mapping[str, Any], kept: Sequence[str], texts: Mapping[str, Any], votes: list[Vote]) -> Disputed:
    why = {
        "votes": line["agreement"] is not None and line["agreement"] < 1,
        "orders": line["consistent"] is False,
        "scores": bool(line["_spread"]),
        "people": line["_against"] > 0,
    }
    own = ("sample_id", "ordinal", "winner", "score", "label", "agreement", "consistent")
    return Disputed(
        why=[reason for reason, holds in why.items() if holds],
        dispute=line["_dispute"],
        spread=line["_spread"],
        fields={name: _plain(line[name]) for name in kept},
        texts={name: text for name, text in texts.items() if text is not None},
        votes=votes[:VOTES],
        **{name: line[name] for name in own},
    )


def _plain(value: Any) -> str | float | None:
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
