"""Agreement with human labels, of each judge and of the aggregated verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import CLASSES
from runner.report.page.distributions import adds_information, source_name
from runner.report.page.figures import (
    COEFFICIENT,
    DIFFERENCE,
    NUMBER,
    SHARE,
    Data,
    Entry,
    FigureTable,
    FigureText,
    Kind,
    figure_table,
    format_figure,
    with_enough_questions,
)
from runner.report.page.header import headline_figure, main_entry

_ACCURACIES = (
    ("accuracy", "Accuracy over all rows", "each row counts by itself, in either order"),
    ("accuracy_original", "Accuracy in the original order", ""),
    ("accuracy_swapped", "Accuracy with the answers swapped", ""),
    ("accuracy_mean_of_orders", "Mean of the two orders", "mean of the two figures above, as in LLMBar"),
    ("accuracy_both_orders", "Correct in both orders", "a pair counts if both orders match the human label"),
    (
        "accuracy_orders_combined",
        "Both orders combined",
        "as in JudgeBench's code: one correct and one tie is correct, opposite winners are a tie",
    ),
)
_CORRELATIONS = (
    ("pearson", "Pearson", "linear correlation"),
    ("spearman", "Spearman", "rank correlation"),
    ("kendall_tau_b", "Kendall's tau-b", "concordant pairs, adjusted for ties"),
)
_PAIRS = (
    (
        "pairwise_accuracy",
        "Same order as the human scores",
        "pairs with different human scores; equal judge scores count as wrong",
    ),
    ("pairwise_accuracy_with_ties", "The same, with ties", "all pairs; equal scores on both sides count as correct"),
)
_DIFFERENCES = (
    ("mean_difference", "Mean difference", "judge score minus human score"),
    ("mean_absolute_error", "Mean absolute error", ""),
)
_BEYOND_CHANCE = "Agreement beyond chance"
_KAPPA_HINT = "0 is chance level, 1 is perfect agreement"


class ConfusionTable(msgspec.Struct, frozen=True):
    """A confusion matrix: a row per human label with counts and shares of the row, and the number not readable."""

    classes: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[int, float]], int]]


class JudgeAgreement(msgspec.Struct, frozen=True):
    """The agreement of one judge with human labels; `open` says whether its part is expanded."""

    name: str
    tables: Sequence[FigureTable]
    confusions: Sequence[ConfusionTable]
    groups: Sequence[FigureTable]
    notes: Sequence[str]
    open: bool


class AgreementSection(msgspec.Struct, frozen=True):
    """The whole section; `overview` compares the judges if there are several."""

    overview: FigureTable | None
    entries: Sequence[JudgeAgreement]


def agreement_section(summary: Data) -> AgreementSection | None:
    """Make the section; None without human labels."""
    entries = [
        entry for entry in summary["agreement"] if any(entry["overall"].values()) and adds_information(entry, summary)
    ]
    if not entries:
        return None
    main = main_entry(entries)
    judges = [_judge_agreement(entry, summary, entry is main) for entry in entries]
    return AgreementSection(_overview(entries, summary), judges)


def _overview(entries: Sequence[Data], summary: Data) -> FigureTable | None:
    found = [(entry, headline_figure(entry)) for entry in entries]
    names = {figure[0] for _, figure in found if figure}
    first = next((figure for _, figure in found if figure), None)
    if len(found) < 2 or len(names) != 1 or first is None:
        return None
    lines: list[Entry] = [
        (source_name(entry, summary), "", figure[1], [_second_figure(entry)])
        for entry, figure in found
        if figure is not None
    ]
    second = "Cohen's kappa" if first[2] is SHARE else "Pearson"
    return figure_table(first[0], "Judge", lines, first[2], more=[second])


def _second_figure(entry: Data) -> FigureText:
    overall = entry["overall"]
    if overall["winners"]:
        return format_figure(overall["winners"]["with_ties"]["kappa"], COEFFICIENT)
    key = "scores" if overall["scores"] else "labels"
    return format_figure(overall[key]["pearson" if key == "scores" else "kappa"], COEFFICIENT)


def _judge_agreement(entry: Data, summary: Data, is_open: bool) -> JudgeAgreement:
    tables, confusions, notes = list[FigureTable](), list[ConfusionTable](), list[str]()
    winners, scores, labels = (entry["overall"][key] for key in ("winners", "scores", "labels"))
    if winners:
        tables += _winners(winners, aggregated=entry["judge"] is None)
        confusions.append(confusion_table(winners["confusion"], CLASSES))
    if scores:
        tables += _scores(scores)
        notes += _score_notes(scores)
    if labels:
        tables.append(figure_table("Labels", "Measure", [("Accuracy", "", labels["accuracy"], ())], SHARE))
        kappa: Entry = ("Cohen's kappa", _KAPPA_HINT, labels["kappa"], ())
        tables.append(figure_table(_BEYOND_CHANCE, "Measure", [kappa], COEFFICIENT))
        confusions.append(confusion_table(labels["confusion"]))
    left = {group["column"]: group["values_left_out"] for group in summary["settings"]["groups"]}
    groups = [one for column, found in entry["groups"].items() for one in _groups(column, found, left.get(column, 0))]
    return JudgeAgreement(source_name(entry, summary), tables, confusions, groups, notes, is_open)


def _winners(winners: Data, aggregated: bool) -> list[FigureTable]:
    """Make the tables of winners; an aggregated verdict has one line per sample and no orders."""
    with_ties, without_ties = winners["with_ties"], winners["without_ties"]
    same = all(with_ties[key] == without_ties[key] for key, *_ in _ACCURACIES)
    one_order = with_ties["accuracy_both_orders"]["value"] is None and with_ties["accuracy_swapped"]["value"] is None
    names: Sequence[tuple[str, str, str]] = _ACCURACIES
    if aggregated or one_order:
        names = (("accuracy", f"Accuracy over all {'samples' if aggregated else 'rows'}", ""),)
    lines: list[Entry] = []
    for key, name, hint in names:
        if same:
            lines.append((name, hint, with_ties[key], ()))
        else:
            lines.append((name, hint, None, ()))
            lines += [("with ties", "", with_ties[key], ()), ("without ties", "", without_ties[key], ())]
    if one_order and not aggregated:
        lines.append(("Accuracy by order and over both orders", "", with_ties["accuracy_both_orders"], ()))
    if not one_order:
        lines.append(("Both orders agree", "same verdict, correct or not", winners["orders_agree"], ()))
    kappas: list[Entry] = [("Cohen's kappa, with ties", _KAPPA_HINT, with_ties["kappa"], ())]
    if not same:
        kappas.append(("Cohen's kappa, without ties", "", without_ties["kappa"], ()))
    read = with_ties["accuracy"]["n"] > 0
    note = "No row is a tie, so the figures with and without ties are the same." if same and read else ""
    lines += _decisions(winners)
    return [
        figure_table("Accuracy", "Definition", lines, SHARE, note=note),
        figure_table(_BEYOND_CHANCE, "Measure", kappas, COEFFICIENT),
    ]


def _decisions(winners: Data) -> list[Entry]:
    """Returns the lines about samples without a majority, if there are any."""
    if not winners["undecided"] or not winners["undecided"]["count"]:
        return []
    hint = "equal top counts; counted above as a tie"
    return [
        ("Undecided", hint, winners["undecided"], ()),
        ("Accuracy where decided", "samples with a majority", winners["accuracy_decided"], ()),
    ]


def _scores(scores: Data) -> list[FigureTable]:
    correlations: list[Entry] = [(name, hint, scores[key], ()) for key, name, hint in _CORRELATIONS]
    pairs: list[Entry] = [(name, hint, scores[key], ()) for key, name, hint in _PAIRS]
    tables = [
        figure_table("Correlation", "Measure", correlations, COEFFICIENT),
        figure_table("Pairs within a question", "Measure", pairs, SHARE),
    ]
    kappa, title = scores["quadratic_kappa"], "On the human scale"
    if all(scores[key]["value"] is None for key in ("quadratic_kappa", *(key for key, *_ in _DIFFERENCES))):
        name = "Mean difference, mean absolute error, quadratic-weighted kappa"
        return [*tables, figure_table(title, "Measure", [(name, "", kappa, ())], NUMBER)]
    lines: list[Entry] = [(name, hint, scores[key], ()) for key, name, hint in _DIFFERENCES]
    line: Entry = ("Quadratic-weighted kappa", _KAPPA_HINT, kappa, ())
    return [
        *tables,
        figure_table(title, "Measure", lines, DIFFERENCE),
        figure_table(_BEYOND_CHANCE, "Measure", [line], COEFFICIENT),
    ]


def _score_notes(scores: Data) -> list[str]:
    notes = []
    scales = scores["scales"]
    if scales and scales["mapped"]:
        judge, human = (" to ".join(formatting.plain(end) for end in scales[key]) for key in ("judge", "human"))
        notes.append(
            f"For differences and kappa, judge scores ({judge}) are mapped linearly onto the human scale ({human})."
        )
    if scores["sampled"] is not None:
        notes.append(f"Rank correlations are computed from a random sample of {scores['sampled']:,} rows.")
    return notes


def confusion_table(confusion: Data, names: Mapping[str, str] = MappingProxyType({})) -> ConfusionTable:
    """Make a table of labels against verdicts, without unused classes; `names` gives some classes other names."""
    counts, unread = confusion["counts"], confusion["unread"]
    used = [n for n, line in enumerate(counts) if sum(line) + unread[n] + sum(other[n] for other in counts)]
    classes = [names.get(name, name) for name in confusion["classes"]]
    rows = []
    for n in used:
        total = sum(counts[n]) + unread[n]
        cells = [(counts[n][m], round(counts[n][m] / total, 4) if total else 0.0) for m in used]
        rows.append((classes[n], cells, unread[n]))
    return ConfusionTable([classes[n] for n in used], rows)


def _groups(column: str, found: Sequence[Data], left_out: int) -> list[FigureTable]:
    """Make a table for each kind of verdict, with a line for each value of the column."""
    are = "is" if left_out == 1 else "are"
    note = f"{formatting.plural(left_out, 'less frequent value')} of {column} {are} not shown." if left_out else ""
    tables = []
    for kind in ("winners", "scores", "labels"):
        lines: list[Entry] = []
        form, title, more = SHARE, "", ""
        for one in found:
            if (compared := one["comparison"][kind]) is not None:
                main, second, form, title, more = _group_figures(kind, compared)
                main, second = (with_enough_questions(figure, compared["resampled"]) for figure in (main, second))
                lines.append((group_name(one["value"]), "", main, [format_figure(second, COEFFICIENT)]))
        if lines:
            tables.append(figure_table(f"{title} by {column}", column, lines, form, more=[more], note=note))
    return tables


def _group_figures(kind: str, compared: Data) -> tuple[Data, Data, Kind, str, str]:
    if kind == "scores":
        return compared["spearman"], compared["pearson"], COEFFICIENT, "Spearman", "Pearson"
    figures = compared["with_ties"] if kind == "winners" else compared
    return figures["accuracy"], figures["kappa"], SHARE, "Accuracy", "Kappa"


def group_name(value: str | None) -> str:
    """Returns the name to show for a value of a grouping column."""
    if value is None:
        return "(none)"
    return value if value.strip() else "(empty)"
