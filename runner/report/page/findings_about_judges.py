"""Findings about the judges themselves: position bias, agreement with each other and with themselves, the ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.report.page import formatting
from runner.report.page.figures import SHARE, SIGNED_SHARE, Data
from runner.report.page.finding import Finding, number_with_interval, with_interval

_STRONG_PREFERENCE, _DOMINANT_PREFERENCE = 0.1, 0.5
_MIN_CONTRADICTION_SHARE = 0.01
_STABLE_REPEAT_SHARE = 0.95
_MIN_ALPHA = 0.667  # Krippendorff's own lower limit for tentative conclusions


def position(summary: Data) -> Iterator[Finding]:
    """Says whether the order of the answers affects the verdicts."""
    found = [
        (one["judge"], position)
        for one in summary["consistency"]["judges"]
        if (position := one["overall"]["position"]) is not None
    ]
    both = [(judge, position) for judge, position in found if position["balanced"]]
    if not both:
        if any(position["first_shown_wins"]["value"] is not None for _, position in found):
            yield _one_order(summary)
        return
    read = [(judge, position) for judge, position in both if position["preference"]["value"] is not None]
    if not read:
        names = formatting.listed([judge for judge, _ in both])
        text = f"Position bias cannot be measured ({names}): no pair of orders has two readable verdicts."
        yield Finding("orders_unread", "warn", text)
        return
    tested = [(judge, position) for judge, position in read if position["p_value"] is not None]
    if not tested:
        least = summary["tests"]["least_questions"]
        text = (
            f"Both orders of fewer than {least} questions could be read: too few to tell a position bias from chance."
        )
        yield Finding("orders_few", "note", text)
        return
    yield _bias(tested, summary["tests"]["level"])


def _one_order(summary: Data) -> Finding:
    if summary["run"]["state"] == "finished" or summary["run"]["state"] is None:
        text = "Only one order was judged. Position bias cannot be measured; set swap: true."
        return Finding("one_order", "note", text)
    return Finding(
        "one_order_so_far", "note", "So far, only one order has been judged: position bias is not known yet."
    )


def _bias(tested: Sequence[tuple[str, Data]], level: float) -> Finding:
    biased = [one for one in tested if one[1]["p_value"] <= level]
    if not biased:
        shown = formatting.listed(
            [
                f"{judge}: {SIGNED_SHARE.write(one['preference']['value'])} for the answer shown first"
                for judge, one in tested
            ]
        )
        return Finding("no_bias", "good", f"No significant position bias ({shown}).")
    judge, one = max(biased, key=lambda found: abs(found[1]["preference"]["value"]))
    preference = one["preference"]["value"]
    which, other = ("first", "second") if preference > 0 else ("second", "first")
    flips, reverse = (one[f"flips_to_{name}"] for name in (which, other))
    text = (
        f"{judge} prefers the answer shown {which}: the {which} answer won both times in {with_interval(flips)} "
        f"of the pairs of orders, the {other} in {SHARE.write(reverse['value'])}."
    )
    if abs(preference) >= _DOMINANT_PREFERENCE:
        text += " Its verdicts depend more on the position of the answers than on their content."
    if len(tested) > 1:
        have = "has" if len(biased) == 1 else "have"
        text += f" {len(biased)} of {len(tested)} judges {have} a significant position bias."
    return Finding("bias", "warn" if abs(preference) >= _STRONG_PREFERENCE else "note", text)


def panel(summary: Data) -> Iterator[Finding]:
    """Says how far the judges agree with each other."""
    found = summary["consistency"]["panel"]
    if found is None:
        return
    overall = found["overall"]
    key = "alpha_winners" if overall["alpha_winners"]["value"] is not None else "alpha_scores"
    alpha = overall[key]
    if alpha["value"] is None:
        return
    facts = f"Krippendorff's alpha {number_with_interval(alpha)}"
    judges = f"The {len(found['judges'])} judges"
    low, high = (alpha["value"] if alpha[end] is None else alpha[end] for end in ("low", "high"))
    least = summary["tests"]["least_questions"]
    if summary["settings"]["clusters"]["n"] < least:
        text = f"How far the {judges[4:]} agree is uncertain: {facts}; fewer than {least} questions were judged."
        yield Finding("panel_uncertain", "note", text)
        return
    if high < _MIN_ALPHA:
        limit = "values below 0.667 do not support even tentative conclusions"
        yield Finding("panel_disagrees", "note", f"{judges} agree little with each other: {facts}; {limit}.")
    elif low < _MIN_ALPHA:
        limit = "it is not certain to reach 0.667, the least for tentative conclusions"
        yield Finding("panel_uncertain", "note", f"How far the {judges[4:]} agree is uncertain: {facts}; {limit}.")
    else:
        yield Finding("panel_agrees", "good", f"{judges} agree with each other: {facts}.")


def repeats(summary: Data) -> Iterator[Finding]:
    """Says how often a judge repeats its verdict."""
    found: list[tuple[float, str, Data]] = []
    for one in summary["consistency"]["judges"]:
        measured = one["overall"]["repeats"]
        if measured:
            same = measured["same_winner"] if measured["same_winner"]["value"] is not None else measured["same_score"]
            if same["value"] is not None:
                found.append((same["value"], one["judge"], same))
    if not found:
        return
    (value, judge, same), (_, other, most) = (pick(found, key=lambda one: one[0]) for pick in (min, max))
    tone = "good" if value > _STABLE_REPEAT_SHARE else "note"
    of = "of the repeated requests"
    if len(found) == 1:
        text = f"{judge} repeats its verdict in {with_interval(same)} of {same['n']:,} repeated requests."
    else:
        ends = f"{SHARE.write(same['value'])} ({judge}) to {SHARE.write(most['value'])} ({other})"
        text = f"The judges repeat their verdicts in {ends} {of}."
    yield Finding("repeats", tone, text)


def contradictions(summary: Data) -> Iterator[Finding]:
    """Warns if winners contradict the scores beside them."""
    figure = summary["distributions"]["contradictions"]
    if figure["value"] is not None and figure["value"] >= _MIN_CONTRADICTION_SHARE:
        share = formatting.share(figure["value"])
        text = f"In {share} of the rows with a winner and two scores, the winner contradicts the scores."
        yield Finding("contradictions", "warn", text)


def leader(summary: Data) -> Iterator[Finding]:
    """Names the best model, and says whether it is certain to be the best."""
    tables: Sequence[Data] = summary["ranking"]["tables"]
    if not tables or tables[0]["by"] != "verdict" or len(tables[0]["models"]) < 2:
        return
    models = tables[0]["models"]
    first = [model["model"] for model in models if model["rank"] == 1]
    if len(first) > 1:
        yield Finding("leader_shared", "note", f"{formatting.listed(first, 3)} share the first rank.")
        return
    found, least = tables[0]["leader"], summary["tests"]["least_questions"]
    if found["p_value"] is None:
        text = f"{first[0]} ranks first, but not with certainty: some models have fewer than {least} questions."
        yield Finding("leader_uncertain", "note", text)
    elif not found["not_better_than"]:
        others = "each of the others" if len(models) > 2 else models[1]["model"]
        yield Finding("leader_certain", "note", f"{first[0]} ranks first, and is significantly better than {others}.")
    else:
        near = formatting.listed(found["not_better_than"], 3)
        text = f"{first[0]} ranks first, but is not significantly better than {near}."
        yield Finding("leader_uncertain", "note", text)
