"""Key findings: a few sentences that rules derive from the numbers, most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from runner.model_names import model_notes
from runner.report.page import formatting
from runner.report.page.agreement import group_name
from runner.report.page.charts import CLASSES
from runner.report.page.figures import SHARE, Data
from runner.report.page.header import headline_figure, main_entry

MAX_FINDINGS = 6
_MANY_UNREAD_SHARE = 0.05
_FEW_ROWS = 50
_STRONG_PREFERENCE, _DOMINANT_PREFERENCE = 0.1, 0.5
_MIN_CONTRADICTION_SHARE = 0.01
_DOMINANT_MISTAKE_RATIO = 1.5  # of its share to an even share of all kinds of mistakes
_STABLE_REPEAT_SHARE = 0.95
_MIN_ALPHA = 0.667  # Krippendorff's own lower limit for tentative conclusions


class Finding(msgspec.Struct, frozen=True):
    """One or two sentences; `tone` is `warn`, `good` or `note`."""

    tone: str
    text: str


def findings(summary: Data) -> list[Finding]:
    """Returns what a reader should know first, at most `MAX_FINDINGS` findings."""
    if not summary["counts"]["all"]["rows"]:
        return [Finding("warn", "There are no rows yet.")]
    rules = (_verdicts, _models, _position, _agreement, _mistakes, _groups, _panel, _repeats, _contradictions, _leader)
    return [finding for rule in rules for finding in rule(summary)][:MAX_FINDINGS]


def _verdicts(summary: Data) -> Iterator[Finding]:
    rows = summary["counts"]["all"]
    n, unread = rows["rows"], rows["unparsed"] + rows["failed"]
    if rows["ok"] == 0:
        yield Finding("warn", f"No verdict could be read ({formatting.plural(n, 'row')}).")
    elif unread == 0:
        text = "The only row has a readable verdict." if n == 1 else f"All {n:,} rows have a readable verdict."
        yield Finding("good", text)
    else:
        parts = f"{rows['unparsed']:,} not readable, {rows['failed']:,} failed"
        text = (
            f"{formatting.share(unread / n)} of the rows have no verdict ({parts}). They are excluded from all averages"
        )
        many = unread / n >= _MANY_UNREAD_SHARE
        more = "; if they differ from the other rows, the figures below describe only the other rows." if many else "."
        yield Finding("warn" if many else "note", text + more)


def _models(summary: Data) -> Iterator[Finding]:
    asked = {judge["name"]: judge["models"][0] for judge in summary["judges"] if judge["models"]}
    served: dict[str, dict[str, int]] = {}
    for one in summary["served"]:
        served.setdefault(one["judge"], {})[one["model"]] = one["rows"]
    for note in model_notes(asked, served):
        yield Finding("warn", note)


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
        text = "Only one order was judged. Position bias cannot be measured; set swap: true."
        yield Finding("note", text)
        return
    biased = [one for one in both if _excludes_zero(one[1])]
    if not biased:
        names = formatting.listed([judge for judge, *_ in both])
        yield Finding("good", f"No significant position bias ({names}).")
        return
    judge, preference, position = max(biased, key=lambda one: abs(one[1]["value"]))
    which, other = ("first", "second") if preference["value"] > 0 else ("second", "first")
    flips, reverse = (position[f"flips_to_{one}"] for one in (which, other))
    text = (
        f"{judge} prefers the answer shown {which}: the {which} answer won both times in {_with_interval(flips)} "
        f"of the pairs of orders, the {other} in {SHARE.write(reverse['value'])}."
    )
    if abs(preference["value"]) >= _DOMINANT_PREFERENCE:
        text += " Its verdicts depend more on the position of the answers than on their content."
    if len(both) > 1:
        text += f" {len(biased)} of {len(both)} judges have a significant position bias."
    yield Finding("warn" if abs(preference["value"]) >= _STRONG_PREFERENCE else "note", text)


def _agreement(summary: Data) -> Iterator[Finding]:
    entry = main_entry([one for one in summary["agreement"] if any(one["overall"].values())])
    if entry is None or (found := headline_figure(entry)) is None:
        return
    compared = entry["overall"]
    source = _source(entry, summary)
    if compared["scores"] and not compared["winners"]:
        yield _score_finding(source, found[1])
    else:
        kappa = compared["winners"]["with_ties"]["kappa"] if compared["winners"] else compared["labels"]["kappa"]
        subject = source if entry["judge"] is not None else source.capitalize()
        verb = "agree" if entry["judge"] is None else "agrees"
        yield _accuracy_finding(subject, verb, found[1], kappa)
    yield from _best_and_worst(summary, found[0])


def _best_and_worst(summary: Data, name: str) -> Iterator[Finding]:
    """Names the judges that agree most and least with human labels."""
    judges = []
    for entry in summary["agreement"]:
        found = headline_figure(entry)
        if entry["judge"] is not None and found is not None and found[0] == name and found[1]["value"] is not None:
            judges.append((found[1]["value"], entry["judge"], found, entry["overall"]["winners"]))
    if len(judges) < 2:
        return
    best, worst = (pick(judges, key=lambda one: one[0]) for pick in (max, min))
    names = [f"{judge} ({found[2].write(value)})" for value, judge, found, _ in (best, worst)]
    text = f"Of the judges, {names[0]} agrees most with human labels and {names[1]} least"
    high = worst[3]["with_ties"]["kappa"]["high"] if worst[3] else None
    below_chance = high is not None and high < 0
    yield Finding("warn" if below_chance else "note", text + (", less than by chance." if below_chance else "."))


def _source(entry: Data, summary: Data) -> str:
    if entry["judge"] is not None:
        return str(entry["judge"])
    return "the judges combined" if len(summary["judges"]) > 1 else "all votes combined"


def _accuracy_finding(subject: str, verb: str, accuracy: Data, kappa: Data) -> Finding:
    """Compare agreement with chance.

    Args:
        subject: starts the sentence.
        verb: `agree` or `agrees`.
        accuracy: against human labels.
        kappa: the same beyond chance; its interval decides.
    """
    if accuracy["value"] is None:
        return Finding("warn", f"{subject} cannot be compared with human labels: {accuracy['reason']}.")
    correct = f"{_with_interval(accuracy)} correct"
    if kappa["low"] is None:
        facts = f"{correct}, {formatting.plural(accuracy['n'], 'row')}.{_few_rows(accuracy)}"
        if kappa["value"] is not None and kappa["value"] <= 0:
            return Finding("warn", f"{subject} {verb} with human labels no better than by chance: {facts}")
        return Finding("note", f"{subject} {verb} with human labels: {facts}")
    value, low, high = (formatting.number(kappa[key]) for key in ("value", "low", "high"))
    facts = f"{correct}; kappa {value} ({low} to {high}).{_few_rows(accuracy)}"
    if kappa["high"] < 0:
        return Finding("warn", f"{subject} {verb} with human labels less than by chance: {facts}")
    if kappa["low"] <= 0:
        return Finding("warn", f"{subject} {verb} with human labels not significantly better than by chance: {facts}")
    return Finding("note", f"{subject} {verb} with human labels better than by chance: {facts}")


def _score_finding(source: str, figure: Data) -> Finding:
    if figure["value"] is None:
        return Finding("warn", f"The scores of {source} cannot be compared with human scores: {figure['reason']}.")
    facts = f"Spearman {formatting.number(figure['value'])}"
    if figure["low"] is None:
        return Finding("note", f"The scores of {source} against human scores: {facts}.{_few_rows(figure)}")
    facts += f" ({formatting.number(figure['low'])} to {formatting.number(figure['high'])}).{_few_rows(figure)}"
    if figure["low"] <= 0 <= figure["high"]:
        return Finding("warn", f"No significant correlation between the scores of {source} and human scores: {facts}")
    if figure["value"] < 0:
        return Finding("warn", f"The scores of {source} fall as human scores rise: {facts}")
    return Finding("note", f"The scores of {source} rise with human scores: {facts}")


def _few_rows(figure: Data) -> str:
    n = figure["n"]
    text = f" This rests on only {formatting.plural(n, 'row')}: treat it as a rough indication."
    return text if 0 < n < _FEW_ROWS else ""


def _mistakes(summary: Data) -> Iterator[Finding]:
    """Names the most frequent kind of mistake if it is clearly more frequent than the others."""
    entry = main_entry([one for one in summary["agreement"] if one["overall"]["winners"] or one["overall"]["labels"]])
    if entry is None:
        return
    winners = entry["overall"]["winners"]
    confusion = (winners or entry["overall"]["labels"])["confusion"]
    names = [CLASSES.get(name, name) if winners else name for name in confusion["classes"]]
    mistakes = [
        (count, label, verdict)
        for label, line in zip(names, confusion["counts"], strict=True)
        for verdict, count in zip(names, line, strict=True)
        if label != verdict and count
    ]
    if not mistakes:
        return
    total = sum(count for count, *_ in mistakes)
    count, label, verdict = max(mistakes)
    if len(mistakes) > 1 and count / total >= _DOMINANT_MISTAKE_RATIO / len(mistakes):
        yield Finding(
            "note",
            f"The most frequent disagreement with human labels ({_source(entry, summary)}): the label is “{label}”, "
            f"the verdict is “{verdict}” ({count:,} of {formatting.plural(total, 'disagreement')}, "
            f"{formatting.share(count / total)}).",
        )


def _groups(summary: Data) -> Iterator[Finding]:
    """Names the best and the worst group if their intervals do not overlap."""
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
            ends = f"{low[2].write(low[1]['value'])} for {worst} and {high[2].write(high[1]['value'])} for {best}"
            yield Finding("note", f"Results differ by {column}. {low[0]}: {ends}; the intervals do not overlap.")


def _panel(summary: Data) -> Iterator[Finding]:
    panel = summary["consistency"]["panel"]
    if panel is None:
        return
    overall = panel["overall"]
    key = "alpha_winners" if overall["alpha_winners"]["value"] is not None else "alpha_scores"
    alpha = overall[key]
    if alpha["value"] is None:
        return
    facts = f"Krippendorff's alpha {formatting.number(alpha['value'])}"
    if alpha["low"] is not None:
        facts += f" ({formatting.number(alpha['low'])} to {formatting.number(alpha['high'])})"
    judges = f"The {len(panel['judges'])} judges"
    if alpha["value"] < _MIN_ALPHA:
        limit = "values below 0.667 do not support even tentative conclusions"
        yield Finding("note", f"{judges} agree little with each other: {facts}; {limit}.")
    else:
        yield Finding("good", f"{judges} agree with each other: {facts}.")


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
        subject = judge if len(found) == 1 else f"Of the judges, {judge} is the least consistent: it"
        tone = "good" if value > _STABLE_REPEAT_SHARE else "note"
        yield Finding(tone, f"{subject} repeats its verdict in {_with_interval(same)} of the repeated requests.")


def _contradictions(summary: Data) -> Iterator[Finding]:
    figure = summary["distributions"]["contradictions"]
    if figure["value"] is not None and figure["value"] >= _MIN_CONTRADICTION_SHARE:
        share = formatting.share(figure["value"])
        yield Finding(
            "warn", f"In {share} of the rows with a winner and two scores, the winner contradicts the scores."
        )


def _leader(summary: Data) -> Iterator[Finding]:
    tables: Sequence[Data] = summary["ranking"]["tables"]
    if not tables or tables[0]["by"] != "verdict" or len(tables[0]["models"]) < 2:
        return
    models = tables[0]["models"]
    first, rest = models[0], models[1:]
    if first["rank_high"] == 1:
        yield Finding("note", f"{first['model']} ranks first, and in at least 95 % of the resamples too.")
    else:
        close = [model["model"] for model in rest if model["rank_low"] <= 1]
        others = f" {formatting.listed(close, 3)} may be as good or better." if close else ""
        text = (
            f"{first['model']} ranks first, but not with certainty: its rank range (95 %) is 1 to {first['rank_high']}."
        )
        yield Finding("note", text + others)


def _excludes_zero(figure: Data) -> bool:
    """Returns True if a figure's interval does not contain 0."""
    return figure["low"] is not None and not figure["low"] <= 0 <= figure["high"]


def _with_interval(figure: Data) -> str:
    value = SHARE.write(figure["value"])
    if figure["low"] is None:
        return value
    return f"{value} ({SHARE.write(figure['low'])} to {SHARE.write(figure['high'])})"
