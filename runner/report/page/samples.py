"""Single rows and samples: rows without a verdict with examples, parsing rules, and the most disputed samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import CLASSES
from runner.report.page.figures import Data

REASONS = {
    "votes": "votes differ",
    "orders": "winner changes with the order",
    "scores": "scores differ",
    "people": "contradicts the human label",
}
_TEXTS = {
    "question": "Question",
    "answer": "Answer",
    "answer1": "Answer 1",
    "answer2": "Answer 2",
    "reference": "Reference",
}
_MAX_LISTED_VOTES = 24  # the summary lists at most this many votes of a sample


class Vote(msgspec.Struct, frozen=True):
    """The result of one request."""

    judge: str
    order: str
    repeat: int
    verdict: str
    response: str


class DisputedSample(msgspec.Struct, frozen=True):
    """One disputed sample; `position` is its index in the order of dispute.

    `question` is always visible, `texts` are folded.
    """

    position: int
    sample_id: str
    ordinal: int
    why: Sequence[str]
    facts: Sequence[tuple[str, str]]
    question: str
    texts: Sequence[tuple[str, str]]
    votes: Sequence[Vote]


def causes(summary: Data) -> list[dict[str, Any]]:
    """Returns the rows that are not ok, by cause."""
    rows = summary["counts"]["all"]["rows"]
    return [
        {
            "status": one["status"],
            "cause": str(one["error_type"] or "unknown cause").replace("_", " "),
            "n": formatting.whole(one["n"]),
            "share": formatting.share(one["n"] / rows),
            "examples": one["examples"],
        }
        for one in summary["counts"]["causes"]
    ]


def rules(summary: Data) -> list[tuple[str, str, str, str]]:
    """Returns the parsing rules: judge, rule, number of matches, and the share with a readable verdict."""
    return [
        (one["judge"], one["rule"], formatting.whole(one["n"]), formatting.share(one["ok"] / one["n"]))
        for one in summary["counts"]["rules"]
    ]


def disputed_samples(summary: Data) -> list[DisputedSample]:
    """Returns the most disputed samples in the order of the summary."""
    settings = summary["settings"]
    spread = "max − min position" if settings["positions"] or settings["mixed_raw"] else "max − min score"
    return [_disputed_sample(position, one, spread) for position, one in enumerate(summary["disputed"])]


def _disputed_sample(position: int, one: Data, spread: str) -> DisputedSample:
    texts = {name: text for name, text in one["texts"].items() if text}
    return DisputedSample(
        position=position,
        sample_id=one["sample_id"],
        ordinal=one["ordinal"],
        why=one["why"],
        facts=_facts(one, spread),
        question=str(texts.get("question", "")),
        texts=[(_TEXTS.get(name, name), str(text)) for name, text in texts.items() if name != "question"],
        votes=[_vote(vote) for vote in one["votes"]],
    )


def _facts(one: Data, spread: str) -> list[tuple[str, str]]:
    facts = [("verdict", verdict(one))]
    human = verdict(one["fields"], "human_")
    if human != formatting.NONE:
        facts.append(("human label", human))
    if one["agreement"] is not None and len(one["votes"]) > 1:
        facts.append(_majority(one))
    if one["spread"]:
        facts.append((spread, formatting.plain(one["spread"])))
    others = {name: value for name, value in one["fields"].items() if not name.startswith("human_")}
    return [*facts, *((name, str(value)) for name, value in others.items() if value is not None)]


def _majority(one: Data) -> tuple[str, str]:
    """Returns the share of votes for the verdict, or the counts of votes if two outcomes have equally many."""
    if one["winner"] == "tie" and len(one["votes"]) < _MAX_LISTED_VOTES:
        counts = Counter(vote["winner"] for vote in one["votes"] if vote["status"] == "ok" and vote["winner"])
        first, second, ties = (counts[winner] for winner in ("1", "2", "tie"))
        if ties <= max(first, second):
            drawn = f" and {formatting.plural(ties, 'tie')}" if ties else ""
            return "votes", f"no majority ({first}:{second}{drawn})"
    return "votes for the verdict", formatting.share(one["agreement"])


def verdict(one: Mapping[str, Any], prefix: str = "") -> str:
    """Returns winner, score and label as text; a dash if there is none."""
    winner, score, label = (one.get(prefix + key) for key in ("winner", "score", "label"))
    parts = []
    if winner is not None:
        parts.append(CLASSES.get(winner, str(winner)))
    if score is not None:
        parts.append(formatting.plain(score))
    if label is not None:
        parts.append(str(label))
    return ", ".join(parts) or formatting.NONE


def _vote(vote: Data) -> Vote:
    result = verdict(vote)
    if vote["status"] != "ok":
        cause = f": {str(vote['error_type']).replace('_', ' ')}" if vote["error_type"] else ""
        result = f"{vote['status']}{cause}"
    order = "answers swapped" if vote["swapped"] else "original order"
    return Vote(vote["judge"], order, vote["repeat"] + 1, result, vote["response"] or "")
