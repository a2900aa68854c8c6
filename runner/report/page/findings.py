"""What to know: a few sentences that rules make of the numbers, in the order in which they matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from runner.report.page import formatting
from runner.report.page.agreement import group_name
from runner.report.page.charts import CLASSES
from runner.report.page.figures import SHARE, Data
from runner.report.page.header import headline_figure, main_entry

MOST = 6
_MANY_UNREAD, _FEW = 0.05, 50
_LEAN, _CONFLICT, _MOSTLY = 0.1, 0.01, 1.5
_FIRM = 0.667
"""Krippendorff's own bound for tentative conclusions."""


class Finding(msgspec.Struct, frozen=True):
    """One sentence or two; `tone` is `warn`, `good` or `note`."""

    tone: str
    text: str


def findings(summary: Data) -> list[Finding]:
    """Say what a reader should know first, at most six things; nothing without rows."""
    if not summary["counts"]["all"]["rows"]:
        return [Finding("warn", "There are no rows yet: nothing can be said.")]
    rules = (_reading, _position, _people, _mistakes, _groups, _panel, _repeats, _contradictions, _leader)
    return [finding for rule in rules for finding in rule(summary)][:MOST]


def _reading(summary: Data) -> Iterator[Finding]:
    rows = summary["counts"]["all"]
    n, unread = rows["rows"], rows["unparsed"] + rows["failed"]
    if rows["ok"] == 0:
        yield Finding("warn", f"Nothing could be read: none of {formatting.plural(n, 'row')} has a verdict.")
    elif unread == 0:
        yield Finding("good", f"Each of the {formatting.plural(n, 'row')} has a verdict that could be read.")
    else:
        parts = [f"{rows['unparsed']:,} not readable", f"{rows['failed']:,} failed"]
        text = f"{formatting.share(unread / n)} of the rows have no verdict ({', '.join(parts)}). They are in no mean"
        many = unread / n >= _MANY_UNREAD
        more = "; if they are unlike the others, the figures below are only about the others." if many else "."
        yield Finding("warn" if many else "note", text + more)


def _position(summary: Data) -> Iterator[Finding]:
    found = [
        (one["judge"], position)
        for one in summary["consistency"]["judges"]
        if (position := one["overall"]["position"]) and position["first_shown_wins"]["value"] is not None
    ]
    if not found:
        return
    both = [(judge, one["preference"], one) for judge, one in found if one["preference"]["value"] is not None]
    if not both:
        yield Finding("note", "Only one order was asked: what the place of an answer does cannot be told (judge.swap).")
        return
    leaning = [one for one in both if _beyond(one[1])]
    if not leaning:
        names = formatting.listed([judge for judge, *_ in both])
        yield Finding("good", f"No preference for a place can be told from chance ({names}).")
        return
    judge, preference, position = max(leaning, key=lambda one: abs(one[1]["value"]))
    first = preference["value"] > 0
    which, other = ("first", "second") if first else ("second", "first")
    flips, back = (position[f"flips_to_{one}"] for one in (which, other))
    text = (
        f"{judge} prefers the answer shown {which}: in {_with_span(flips)} of the pairs of orders, "
        f"whichever answer stood {which} won, in {SHARE.write(back['value'])} whichever stood {other}."
    )
    if len(both) > 1:
        text += f" {len(leaning)} of {len(both)} judges lean to one place beyond their interval."
    if abs(preference["value"]) >= 0.5:
        text += " Its verdicts follow the place more than the answers."
    yield Finding("warn" if abs(preference["value"]) >= _LEAN else "note", text)


def _people(summary: Data) -> Iterator[Finding]:
    entry = main_entry([one for one in summary["agreement"] if any(one["overall"].values())])
    if entry is None or (found := headline_figure(entry)) is None:
        return
    compared = entry["overall"]
    who = _who(entry, summary)
    lead = who if entry["judge"] is not None else who.capitalize()
    agree = "agree" if entry["judge"] is None else "agrees"
    if compared["winners"]:
        yield _by_chance(lead, agree, found[1], compared["winners"]["with_ties"]["kappa"])
    elif compared["scores"]:
        yield _by_rank(who, found[1])
    else:
        yield _by_chance(lead, agree, found[1], compared["labels"]["kappa"])
    yield from _ends(summary, found[0])


def _ends(summary: Data, name: str) -> Iterator[Finding]:
    """Which judge agrees with people most, and which least."""
    judges = []
    for entry in summary["agreement"]:
        found = headline_figure(entry)
        if entry["judge"] is not None and found is not None and found[0] == name and found[1]["value"] is not None:
            judges.append((found[1]["value"], entry["judge"], found, entry["overall"]["winners"]))
    if len(judges) < 2:
        return
    most, least = (pick(judges, key=lambda one: one[0]) for pick in (max, min))
    told = [f"{judge} ({found[2].write(value)})" for value, judge, found, _ in (most, least)]
    text = f"Of the judges, {told[0]} agrees most with people and {told[1]} least"
    high = least[3]["with_ties"]["kappa"]["high"] if least[3] else None
    worse = high is not None and high < 0
    yield Finding("warn" if worse else "note", text + (", less than chance would." if worse else "."))


def _who(entry: Data, summary: Data) -> str:
    if entry["judge"] is not None:
        return str(entry["judge"])
    return "the judges together" if len(summary["judges"]) > 1 else "all votes together"


def _by_chance(who: str, agree: str, accuracy: Data, kappa: Data) -> Finding:
    if accuracy["value"] is None:
        return Finding("warn", f"{who} cannot be compared with people: {accuracy['reason']}.")
    right = f"{_with_span(accuracy)} right"
    if kappa["low"] is None:
        told = f"{right}, {formatting.plural(accuracy['n'], 'row')}.{_few(accuracy)}"
        if kappa["value"] is not None and kappa["value"] <= 0:
            return Finding("warn", f"{who} {agree} with people no better than chance would: {told}")
        return Finding("note", f"{who} {agree} with people: {told}")
    value, low, high = (formatting.number(kappa[key]) for key in ("value", "low", "high"))
    told = f"kappa {value}, {low} to {high}"
    if kappa["high"] < 0:
        return Finding("warn", f"{who} {agree} with people less than chance would: {right}; {told}.{_few(accuracy)}")
    if kappa["low"] <= 0:
        text = f"{who} {agree} with people no better than chance would, as far as can be told: {right}; {told}."
        return Finding("warn", text + _few(accuracy))
    return Finding("note", f"{who} {agree} with people beyond chance: {right}; {told}.{_few(accuracy)}")


def _by_rank(who: str, figure: Data) -> Finding:
    if figure["value"] is None:
        return Finding("warn", f"The scores of {who} cannot be compared with people's: {figure['reason']}.")
    told = f"Spearman {formatting.number(figure['value'])}"
    if figure["low"] is None:
        return Finding("note", f"Scores of {who} and of people: {told}.{_few(figure)}")
    told += f", {formatting.number(figure['low'])} to {formatting.number(figure['high'])}"
    if figure["low"] <= 0 <= figure["high"]:
        return Finding(
            "warn", f"No relation between the scores of {who} and people's can be told: {told}.{_few(figure)}"
        )
    how = "rise with" if figure["value"] > 0 else "fall where people's rise, against"
    return Finding("note" if figure["value"] > 0 else "warn", f"Scores of {who} {how} people's: {told}.{_few(figure)}")


def _few(figure: Data) -> str:
    few = f" With only {formatting.plural(figure['n'], 'row')}, take this as a hint."
    return few if 0 < figure["n"] < _FEW else ""


def _mistakes(summary: Data) -> Iterator[Finding]:
    """The most frequent way to be wrong, where it is most of them."""
    entry = main_entry([one for one in summary["agreement"] if one["overall"]["winners"] or one["overall"]["labels"]])
    if entry is None:
        return
    winners = entry["overall"]["winners"]
    confusion = (winners or entry["overall"]["labels"])["confusion"]
    names = [CLASSES.get(name, name) if winners else name for name in confusion["classes"]]
    wrong = [
        (count, people, judge)
        for people, line in zip(names, confusion["counts"], strict=True)
        for judge, count in zip(names, line, strict=True)
        if people != judge and count
    ]
    if not wrong:
        return
    every = sum(count for count, *_ in wrong)
    count, people, judge = max(wrong)
    if len(wrong) > 1 and count / every >= _MOSTLY / len(wrong):
        yield Finding(
            "note",
            f"The most frequent disagreement with people ({_who(entry, summary)}): they say “{people}”, the "
            f"verdict is “{judge}” ({count:,} of {formatting.plural(every, 'disagreement')}, "
            f"{formatting.share(count / every)}).",
        )


def _groups(summary: Data) -> Iterator[Finding]:
    """The groups at both ends, where their intervals are apart."""
    entry = main_entry([one for one in summary["agreement"] if any(one["overall"].values())])
    for column, found in (entry["groups"] if entry else {}).items():
        values = []
        for one in found:
            figure = headline_figure({"overall": one["comparison"]})
            if figure and figure[1]["low"] is not None:
                values.append((figure[1]["value"], group_name(one["value"]), figure))
        if len(values) < 2:
            continue
        (_, worst, low), (_, best, high) = (pick(values, key=lambda one: one[0]) for pick in (min, max))
        if low[1]["high"] < high[1]["low"]:
            ends = [f"{low[2].write(low[1]['value'])} on {worst}", f"{high[2].write(high[1]['value'])} on {best}"]
            text = (
                f"It differs by {column}: {low[0].lower()} is {' and '.join(ends)}, and their intervals do not overlap."
            )
            yield Finding("note", text)


def _panel(summary: Data) -> Iterator[Finding]:
    panel = summary["consistency"]["panel"]
    if panel is None:
        return
    overall = panel["overall"]
    key = "alpha_winners" if overall["alpha_winners"]["value"] is not None else "alpha_scores"
    alpha = overall[key]
    if alpha["value"] is None:
        return
    told = f"Krippendorff's alpha {formatting.number(alpha['value'])}"
    if alpha["low"] is not None:
        told += f", {formatting.number(alpha['low'])} to {formatting.number(alpha['high'])}"
    judges = f"The {len(panel['judges'])} judges"
    if alpha["value"] < _FIRM:
        yield Finding(
            "note", f"{judges} agree little with each other: {told}; below 0.667 is too little to conclude much from."
        )
    else:
        yield Finding("good", f"{judges} agree with each other: {told}.")


def _repeats(summary: Data) -> Iterator[Finding]:
    found: list[tuple[float, str, Data]] = []
    for one in summary["consistency"]["judges"]:
        repeats = one["overall"]["repeats"]
        if repeats:
            same = repeats["same_winner"] if repeats["same_winner"]["value"] is not None else repeats["same_score"]
            if same["value"] is not None:
                found.append((same["value"], one["judge"], same))
    if found:
        value, judge, same = min(found, key=lambda one: one[0])
        who = judge if len(found) == 1 else f"Of the judges, {judge} is the least steady: it"
        tone = "good" if value > 0.95 else "note"
        yield Finding(tone, f"{who} says the same in {_with_span(same)} of what it was asked again.")


def _contradictions(summary: Data) -> Iterator[Finding]:
    figure = summary["distributions"]["contradictions"]
    if figure["value"] is not None and figure["value"] >= _CONFLICT:
        yield Finding(
            "warn", f"In {formatting.share(figure['value'])} of the rows with both, the winner contradicts the scores."
        )


def _leader(summary: Data) -> Iterator[Finding]:
    tables: Sequence[Data] = summary["ranking"]["tables"]
    if not tables or tables[0]["by"] != "verdict" or len(tables[0]["models"]) < 2:
        return
    models = tables[0]["models"]
    first, rest = models[0], models[1:]
    if first["rank_high"] == 1:
        yield Finding("note", f"{first['model']} is first, also in 95 % of the resamples.")
    else:
        near = [model["model"] for model in rest if model["rank_low"] <= 1]
        told = f" {formatting.listed(near, 3)} may be as good or better." if near else ""
        yield Finding(
            "note", f"{first['model']} comes first, but its place is not certain (1 to {first['rank_high']}).{told}"
        )


def _beyond(figure: Data) -> bool:
    """Whether an interval leaves out zero."""
    return figure["low"] is not None and not figure["low"] <= 0 <= figure["high"]


def _with_span(figure: Data) -> str:
    value = SHARE.write(figure["value"])
    return (
        value if figure["low"] is None else f"{value} ({SHARE.write(figure['low'])} to {SHARE.write(figure['high'])})"
    )
