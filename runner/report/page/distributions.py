"""Distributions of verdicts: winners, scores, labels, criteria and votes."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import Bars, Stack, bars, stack
from runner.report.page.figures import NUMBER, Data, FigureText, format_figure


class ScoreDistribution(msgspec.Struct, frozen=True):
    """The scores of one judge, of the aggregated verdict or of the human labels."""

    name: str
    mean: FigureText
    description: str
    bars: Bars


class VerdictSection(msgspec.Struct, frozen=True):
    """The parts of the section; a part without data is empty. `swapped` is True if any judge saw swapped answers."""

    winners: list[Stack]
    swapped: bool
    scores: list[ScoreDistribution]
    labels: list[tuple[str, str, int]]
    criteria: list[dict[str, Any]]
    votes: Bars | None
    vote_summary: str
    contradictions: str


def verdict_section(summary: Data) -> VerdictSection | None:
    """Make the section; None if no verdict could be read."""
    found = summary["distributions"]
    votes = found["votes"] if _votes_per_sample(summary) > 1 else None
    several_shares = votes is not None and len(votes["agreement"]["counts"]) > 2
    section = VerdictSection(
        winners=[
            one for entry in found["winners"] if adds_information(entry, summary) for one in _stacks(entry, summary)
        ],
        swapped=any(judge["swap"] for judge in summary["judges"]),
        scores=[
            _scores(entry, summary)
            for entry in found["scores"]
            if entry["histogram"]["counts"] and adds_information(entry, summary)
        ],
        labels=[(one["judge"], one["label"], one["n"]) for one in found["labels"]],
        criteria=[_criterion(one) for one in found["criteria"]],
        votes=bars(**votes["agreement"], write=formatting.share) if votes and several_shares else None,
        vote_summary=_vote_summary(votes) if votes else "",
        contradictions=_contradictions(found["contradictions"]),
    )
    parts = (section.winners, section.scores, section.labels, section.criteria, section.vote_summary)
    return section if any(parts) else None


def source_name(entry: Data, summary: Data) -> str:
    """Returns the name of the source of an entry's verdicts."""
    if entry.get("of") == "people":
        return "Human labels"
    if entry["judge"] is not None:
        return str(entry["judge"])
    return "All judges combined" if len(summary["judges"]) > 1 else "All votes combined"


def adds_information(entry: Data, summary: Data) -> bool:
    """Returns False for an aggregated verdict that has only one vote per sample: it repeats that vote."""
    return entry["judge"] is not None or entry.get("of") == "people" or _votes_per_sample(summary) > 1


def _votes_per_sample(summary: Data) -> int:
    """Returns the maximum number of votes of a sample."""
    return sum(int(judge["repeats"]) * (1 + judge["swap"]) for judge in summary["judges"])


def _stacks(entry: Data, summary: Data) -> list[Stack]:
    name = source_name(entry, summary)
    if entry["swapped"] is None:
        stacks = [stack(name, entry["original"], entry["judge"] is not None)]
    else:
        orders = (("original order", "original"), ("answers swapped", "swapped"))
        stacks = [stack(f"{name}, {order}", entry[key], True) for order, key in orders]
    return [one for one in stacks if one.parts]


def _scores(entry: Data, summary: Data) -> ScoreDistribution:
    quartiles = entry["quartiles"]
    facts = [] if entry["deviation"] is None else [f"standard deviation {formatting.number(entry['deviation'])}"]
    if len(quartiles) == 5 and None not in quartiles:
        low, first, median, third, high = (formatting.plain(value) for value in quartiles)
        facts += [f"range {low} to {high}", f"median {median}", f"interquartile range {first} to {third}"]
    mean = format_figure(entry["mean"], NUMBER)
    if entry.get("of") == "verdict" and "score" in summary["settings"]["positions"]:
        facts.append("position on each judge's own scale, 0 to 1")
    return ScoreDistribution(source_name(entry, summary), mean, "; ".join(facts), bars(**entry["histogram"]))


def _criterion(one: Data) -> dict[str, Any]:
    numbers = {key: formatting.number(one[key]) for key in ("mean", "min", "max")}
    answer = formatting.NONE if one["answer"] is None else str(one["answer"])
    return {"judge": one["judge"], "name": one["name"], "answer": answer, "n": one["n"], **numbers}


def _contradictions(figure: Data) -> str:
    if not figure["n"]:
        return ""
    share = formatting.share(figure["count"] / figure["n"])
    return (
        f"The winner contradicts the scores in {share} of the rows with a winner and two scores "
        f"({figure['count']:,} of {figure['n']:,})."
    )


def _vote_summary(votes: Data) -> str:
    text = (
        f"The votes are unanimous in {formatting.plural(votes['unanimous'], 'sample')} and split in {votes['split']:,}."
    )
    if votes["consistent"] or votes["inconsistent"]:
        text += (
            f" In {formatting.plural(votes['consistent'], 'sample')} every judge kept its winner when the answers were "
            f"swapped; in {votes['inconsistent']:,} at least one changed."
        )
    return text
