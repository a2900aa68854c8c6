"""Findings about the agreement with human labels; the tests behind them are in the summary's `tests`."""

from __future__ import annotations

from collections.abc import Iterator

from scipy import special

from runner.report.page import formatting
from runner.report.page.agreement import group_name
from runner.report.page.charts import CLASSES
from runner.report.page.figures import SHARE, Data
from runner.report.page.finding import Finding, number_with_interval, with_interval
from runner.report.page.header import headline_figure, main_entry

_FEW_ROWS = 50
_MIN_UNDECIDED_SHARE = 0.05
_DOMINANT_MISTAKE_RATIO = 1.5  # of its share to an even share of all kinds of mistakes


def agreement(summary: Data) -> Iterator[Finding]:
    """Says whether the verdicts agree with people better than by chance."""
    entry = main_entry([one for one in summary["agreement"] if any(one["overall"].values())])
    if entry is None or (found := headline_figure(entry)) is None:
        return
    compared, source = entry["overall"], _source(entry, summary)
    p_value = _p_values(summary, "p_value").get(entry["judge"])
    level = summary["tests"]["level"]
    if compared["scores"] and not compared["winners"]:
        yield _score_finding(source, found[1], p_value, level)
        return
    kappa = compared["winners"]["with_ties"]["kappa"] if compared["winners"] else compared["labels"]["kappa"]
    subject = source if entry["judge"] is not None else source.capitalize()
    agree = f"{subject} {'agree' if entry['judge'] is None else 'agrees'} with human labels"
    if found[1]["value"] is None:
        text = f"{subject} cannot be compared with human labels: {found[1]['reason']}."
        yield Finding("not_comparable", "warn", text)
    else:
        yield _accuracy_finding(agree, found[1], kappa, p_value, level)


def _accuracy_finding(agree: str, accuracy: Data, kappa: Data, p_value: float | None, level: float) -> Finding:
    """Compare agreement with chance: kappa's interval and its p-value must both exclude it."""
    correct = f"{with_interval(accuracy)} correct"
    if kappa["value"] is None or p_value is None:
        facts = f"{correct}, {formatting.plural(accuracy['n'], 'row')}.{_few_rows(accuracy)}"
        if kappa["value"] is not None and kappa["value"] <= 0:
            return Finding("no_better_than_chance", "warn", f"{agree} no better than by chance: {facts}")
        return Finding("beyond_chance_untested", "note", f"{agree}: {facts}")
    facts = f"{correct}; kappa {number_with_interval(kappa)}.{_few_rows(accuracy)}"
    low, high = (kappa["value"] if kappa[end] is None else kappa[end] for end in ("low", "high"))
    if p_value <= level and high < 0:
        return Finding("less_than_chance", "warn", f"{agree} less than by chance: {facts}")
    if p_value <= level and low > 0:
        return Finding("better_than_chance", "note", f"{agree} better than by chance: {facts}")
    return Finding("not_significantly_better", "warn", f"{agree} not significantly better than by chance: {facts}")


def _score_finding(source: str, figure: Data, p_value: float | None, level: float) -> Finding:
    if figure["value"] is None:
        text = f"The scores of {source} cannot be compared with human scores: {figure['reason']}."
        return Finding("not_comparable", "warn", text)
    facts = f"Spearman {number_with_interval(figure)}.{_few_rows(figure)}"
    if p_value is None:
        return Finding("score_untested", "note", f"The scores of {source} against human scores: {facts}")
    low, high = (figure["value"] if figure[end] is None else figure[end] for end in ("low", "high"))
    if p_value > level or low <= 0 <= high:
        text = f"No significant correlation between the scores of {source} and human scores: {facts}"
        return Finding("score_unrelated", "warn", text)
    if figure["value"] < 0:
        return Finding("score_falls", "warn", f"The scores of {source} fall as human scores rise: {facts}")
    return Finding("score_rises", "note", f"The scores of {source} rise with human scores: {facts}")


def undecided(summary: Data) -> Iterator[Finding]:
    """Says how many samples have no majority, and how accurate the verdict is on the others."""
    entry = next((one for one in summary["agreement"] if one["judge"] is None), None)
    winners = entry["overall"]["winners"] if entry is not None else None
    if winners is None or winners["undecided"] is None or not winners["undecided"]["count"]:
        return
    share, decided = winners["undecided"], winners["accuracy_decided"]
    if share["value"] < _MIN_UNDECIDED_SHARE:
        return
    text = (
        f"Undecided {SHARE.write(share['value'])}: the votes on {share['count']:,} of {share['n']:,} labelled samples "
    )
    text += "have no majority, which counts as a tie. "
    if decided["value"] is not None:
        text += f"Where they have one, {with_interval(decided)} are correct."
    yield Finding("undecided", "note", text.rstrip())


def judges(summary: Data) -> Iterator[Finding]:
    """Says whether the judges differ in their agreement with human labels, and which are below chance."""
    found = {}
    for entry in summary["agreement"]:
        figure = headline_figure(entry)
        if entry["judge"] is not None and figure is not None and figure[1]["value"] is not None:
            found[entry["judge"]] = figure
    if len(found) < 2:
        return
    level, tested = summary["tests"]["level"], summary["tests"]["judges"]
    if tested is not None and tested["p_value"] is not None:
        low, high = (
            f"{name} ({found[name][2].write(found[name][1]['value'])})" for name in (tested["low"], tested["high"])
        )
        text = f"Of the judges, {high} agrees significantly more with human labels than {low}."
        yield Finding("judges_differ", "note", text)
    elif tested is not None and tested["tested"] > 1:
        values = {name: figure[1]["value"] for name, figure in found.items()}
        ends = [
            f"{found[name][2].write(values[name])} ({name})"
            for name in (min(values, key=values.__getitem__), max(values, key=values.__getitem__))
        ]
        text = f"The judges' agreement with human labels does not differ significantly: {ends[0]} to {ends[1]}."
        yield Finding("judges_alike", "note", text)
    below = [
        entry["judge"]
        for entry in summary["agreement"]
        if entry["judge"] in found
        and _kappa_value(entry) < 0
        and _p_values(summary, "adjusted").get(entry["judge"], 1.0) <= level
    ]
    if below:
        verb = "agrees" if len(below) == 1 else "agree"
        text = f"{formatting.listed(below)} {verb} with human labels less than by chance."
        yield Finding("judge_below_chance", "warn", text)


def _kappa_value(entry: Data) -> float:
    compared = entry["overall"]
    if compared["winners"]:
        value = compared["winners"]["with_ties"]["kappa"]["value"]
    else:
        value = compared["scores"]["spearman"]["value"] if compared["scores"] else compared["labels"]["kappa"]["value"]
    return value or 0.0


def mistakes(summary: Data) -> Iterator[Finding]:
    """Names the most frequent kind of mistake if it is clearly, and not by chance, more frequent than the others."""
    entry = main_entry([one for one in summary["agreement"] if one["overall"]["winners"] or one["overall"]["labels"]])
    if entry is None:
        return
    winners = entry["overall"]["winners"]
    compared = winners or entry["overall"]["labels"]
    confusion = compared["confusion"]
    names = [CLASSES.get(name, name) if winners else name for name in confusion["classes"]]
    found = [
        (count, label, verdict)
        for label, line in zip(names, confusion["counts"], strict=True)
        for verdict, count in zip(names, line, strict=True)
        if label != verdict and count
    ]
    if len(found) < 2:
        return
    total, rows = sum(count for count, *_ in found), sum(map(sum, confusion["counts"]))
    count, label, verdict = max(found)
    # Rows of one question are not independent: at most one of them counts.
    weight = min(1.0, compared["resampled"] / rows)
    if count / total < _DOMINANT_MISTAKE_RATIO / len(found) or not _is_dominant(
        round(count * weight), round(total * weight), len(found), summary["tests"]["level"]
    ):
        return
    yield Finding(
        "mistake", "note",
        f"The most frequent disagreement with human labels ({_source(entry, summary)}): the label is “{label}”, "
        f"the verdict is “{verdict}” ({count:,} of {formatting.plural(total, 'disagreement')}, "
        f"{formatting.share(count / total)}).",
    )  # fmt: skip


def _is_dominant(count: int, total: int, kinds: int, level: float) -> bool:
    """Returns True if evenly frequent kinds hardly ever give any of them this count."""
    return count > 0 and kinds * float(special.bdtrc(count - 1, total, 1 / kinds)) <= level


def groups(summary: Data) -> Iterator[Finding]:
    """Names the two values of a grouping column that differ most, of those that differ significantly."""
    entry = main_entry([one for one in summary["agreement"] if any(one["overall"].values())])
    for tested in summary["tests"]["groups"] if entry is not None else ():
        if tested["p_value"] is None or entry is None:
            continue
        column = tested["column"]
        found = {one["value"]: headline_figure({"overall": one["comparison"]}) for one in entry["groups"][column]}
        low, high = found[tested["low"]], found[tested["high"]]
        if low is None or high is None:
            continue
        ends = " and ".join(
            f"{figure[2].write(figure[1]['value'])} for {group_name(tested[end])}"
            for end, figure in (("low", low), ("high", high))
        )
        count = f"{tested['tested']} groups of at least {summary['tests']['least_questions']} questions"
        text = f"Results differ by {column}. {low[0]}: {ends}. This is significant among {count}."
        yield Finding("groups_differ", "note", text)


def _p_values(summary: Data, key: str) -> dict[str | None, float]:
    return {one["judge"]: one[key] for one in summary["tests"]["chance"]}


def _source(entry: Data, summary: Data) -> str:
    if entry["judge"] is not None:
        return str(entry["judge"])
    return "the judges combined" if len(summary["judges"]) > 1 else "all votes combined"


def _few_rows(figure: Data) -> str:
    n = figure["n"]
    text = f" This rests on only {formatting.plural(n, 'row')}: treat it as a rough indication."
    return text if 0 < n < _FEW_ROWS else ""
