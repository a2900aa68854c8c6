"""How verdicts fall out: winners, scores, labels, criteria and votes."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import Bars, Stack, bars, stack
from runner.report.page.figures import NUMBER, SHARE, Data, Shown, shown


class Spread(msgspec.Struct, frozen=True):
    """The scores of one judge, of the verdict or of people."""

    name: str
    mean: Shown
    told: str
    bars: Bars


class Falls(msgspec.Struct, frozen=True):
    """Everything of the section; what there is nothing of is empty."""

    winners: list[Stack]
    scores: list[Spread]
    labels: list[tuple[str, str, int]]
    criteria: list[dict[str, Any]]
    votes: Bars | None
    voted: str
    contradictions: Shown | None


def falls(summary: Data) -> Falls | None:
    """Make the section; None where no verdict could be read."""
    found = summary["distributions"]
    contradictions = found["contradictions"]
    votes = found["votes"] if _votes(summary) > 1 else None
    made = Falls(
        winners=[one for entry in found["winners"] if worth(entry, summary) for one in _stacks(entry, summary)],
        scores=[
            _spread(entry, summary)
            for entry in found["scores"]
            if entry["histogram"]["counts"] and worth(entry, summary)
        ],
        labels=[(one["judge"], one["label"], one["n"]) for one in found["labels"]],
        criteria=[_criterion(one) for one in found["criteria"]],
        votes=bars(**votes["agreement"], write=formatting.share)
        if votes and len(votes["agreement"]["counts"]) > 2
        else None,
        voted=_voted(votes) if votes else "",
        contradictions=shown(contradictions, SHARE) if contradictions["n"] else None,
    )
    return made if made.winners or made.scores or made.labels or made.criteria or made.voted else None


def named(entry: Data, summary: Data) -> str:
    """Whose verdicts these are."""
    if entry.get("of") == "people":
        return "People"
    if entry["judge"] is not None:
        return str(entry["judge"])
    return "All judges together" if len(summary["judges"]) > 1 else "All votes of a sample together"


def worth(entry: Data, summary: Data) -> bool:
    """Whether an entry says something of its own: a sample's verdict from one vote is that vote."""
    return entry["judge"] is not None or entry.get("of") == "people" or _votes(summary) > 1


def _votes(summary: Data) -> int:
    """How many votes a sample has at most."""
    return sum(int(judge["repeats"]) * (1 + judge["swap"]) for judge in summary["judges"])


def _stacks(entry: Data, summary: Data) -> list[Stack]:
    name = named(entry, summary)
    if entry["swapped"] is None:
        made = [stack(name, entry["original"], entry["judge"] is not None)]
    else:
        orders = (("given order", "original"), ("answers exchanged", "swapped"))
        made = [stack(f"{name}, {order}", entry[key], True) for order, key in orders]
    return [one for one in made if one.parts]


def _spread(entry: Data, summary: Data) -> Spread:
    quartiles = entry["quartiles"]
    told = [] if entry["deviation"] is None else [f"standard deviation {formatting.number(entry['deviation'])}"]
    if len(quartiles) == 5 and None not in quartiles:
        low, first, middle, third, high = (formatting.plain(value) for value in quartiles)
        told += [f"{low} to {high}", f"median {middle}", f"middle half {first} to {third}"]
    return Spread(named(entry, summary), shown(entry["mean"], NUMBER), "; ".join(told), bars(**entry["histogram"]))


def _criterion(one: Data) -> dict[str, Any]:
    written = {key: formatting.number(one[key]) for key in ("mean", "min", "max")}
    return {"judge": one["judge"], "name": one["name"], "answer": one["answer"], "n": one["n"], **written}


def _voted(votes: Data) -> str:
    unanimous = formatting.plural(votes["unanimous"], "sample")
    told = f"{unanimous} with votes that all agree, {votes['split']:,} with split votes"
    if votes["consistent"] or votes["inconsistent"]:
        told += (
            f"; every judge stays with its winner when the answers are exchanged in {votes['consistent']:,}, "
            f"in {votes['inconsistent']:,} not every one does"
        )
    return told
