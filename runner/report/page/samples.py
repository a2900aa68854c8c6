"""Single rows and samples: failures with examples, parsing rules, and the most disputed samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import CLASSES
from runner.report.page.figures import Data

WHY = {
    "votes": "votes differ",
    "orders": "orders differ",
    "scores": "scores are apart",
    "people": "against people",
}
_TEXTS = {
    "question": "Question",
    "answer": "Answer",
    "answer1": "Answer 1",
    "answer2": "Answer 2",
    "reference": "Reference",
}


class Vote(msgspec.Struct, frozen=True):
    """What one request came to."""

    judge: str
    order: str
    repeat: int
    verdict: str
    response: str


class Case(msgspec.Struct, frozen=True):
    """One disputed sample; `place` is its place by dispute, `question` stands open and `texts` below it."""

    place: int
    sample_id: str
    ordinal: int
    why: Sequence[str]
    facts: Sequence[tuple[str, str]]
    question: str
    texts: Sequence[tuple[str, str]]
    votes: Sequence[Vote]


def causes(summary: Data) -> list[dict[str, Any]]:
    """Rows that are not ok, by cause."""
    rows = summary["counts"]["all"]["rows"]
    return [
        {
            "status": one["status"],
            "cause": str(one["error_type"] or "not known").replace("_", " "),
            "n": formatting.whole(one["n"]),
            "share": formatting.share(one["n"] / rows),
            "examples": one["examples"],
        }
        for one in summary["counts"]["causes"]
    ]


def rules(summary: Data) -> list[tuple[str, str, str, str]]:
    """Parsing rules: judge, rule, how often it fired, and the share that could be read."""
    return [
        (one["judge"], one["rule"], formatting.whole(one["n"]), formatting.share(one["ok"] / one["n"]))
        for one in summary["counts"]["rules"]
    ]


def cases(summary: Data) -> list[Case]:
    """The most disputed samples, as the summary orders them."""
    return [_case(place, one) for place, one in enumerate(summary["disputed"])]


def _case(place: int, one: Data) -> Case:
    texts = {name: text for name, text in one["texts"].items() if text}
    return Case(
        place=place,
        sample_id=one["sample_id"],
        ordinal=one["ordinal"],
        why=one["why"],
        facts=_facts(one),
        question=str(texts.get("question", "")),
        texts=[(_TEXTS.get(name, name), str(text)) for name, text in texts.items() if name != "question"],
        votes=[_vote(vote) for vote in one["votes"]],
    )


def _facts(one: Data) -> list[tuple[str, str]]:
    facts = [("verdict", verdict(one)), ("people", verdict(one["fields"], "human_"))]
    if one["agreement"] is not None:
        facts.append(("votes for it", formatting.share(one["agreement"])))
    if one["spread"]:
        facts.append(("scores apart by", formatting.plain(one["spread"])))
    rest = {name: value for name, value in one["fields"].items() if not name.startswith("human_")}
    facts += [(name, str(value)) for name, value in rest.items() if value is not None]
    return [(name, text) for name, text in facts if name != "people" or text != formatting.NONE]


def verdict(one: Mapping[str, Any], prefix: str = "") -> str:
    """Winner, score and label in words; a dash where there is none."""
    winner, score, label = (one.get(prefix + key) for key in ("winner", "score", "label"))
    told = []
    if winner is not None:
        told.append(CLASSES.get(winner, str(winner)))
    if score is not None:
        told.append(formatting.plain(score))
    if label is not None:
        told.append(str(label))
    return ", ".join(told) or formatting.NONE


def _vote(vote: Data) -> Vote:
    said = verdict(vote)
    if vote["status"] != "ok":
        why = f": {str(vote['error_type']).replace('_', ' ')}" if vote["error_type"] else ""
        said = f"{vote['status']}{why}"
    order = "answers exchanged" if vote["swapped"] else "given order"
    return Vote(vote["judge"], order, vote["repeat"] + 1, said, vote["response"] or "")
