"""Agreement with people, of each judge and of the aggregated verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import CLASSES
from runner.report.page.distributions import named, worth
from runner.report.page.figures import COEFFICIENT, DIFFERENCE, NUMBER, SHARE, Block, Data, Kind, Shown, block, shown
from runner.report.page.header import headline_figure, main_entry

Entry = tuple[str, str, Data | None, Sequence[Shown]]

_COUNTED = (
    ("accuracy", "Accuracy over all rows", "each answer counts by itself, whatever its order"),
    ("accuracy_original", "Accuracy in the given order", ""),
    ("accuracy_swapped", "Accuracy with the answers exchanged", ""),
    ("accuracy_mean_of_orders", "Mean of the two orders", "the mean of the two above; LLMBar reports this"),
    ("accuracy_both_orders", "Right in both orders", "a pair counts if both orders name people's winner"),
    (
        "accuracy_orders_combined",
        "Both orders combined",
        "JudgeBench's code counts so: right once with a tie is right, opposite winners are a tie",
    ),
)
_CORRELATIONS = (
    ("pearson", "Pearson", "how near to a straight line"),
    ("spearman", "Spearman", "of ranks"),
    ("kendall_tau_b", "Kendall's tau-b", "of pairs, ties considered"),
)
_PAIRS = (
    (
        "pairwise_accuracy",
        "Pairs ordered as people do",
        "pairs that people score differently; a tie of the judge's is wrong",
    ),
    ("pairwise_accuracy_with_ties", "The same with ties", "all pairs; a pair that both score the same is right, too"),
)
_APART = (
    ("mean_difference", "Mean difference", "the judge's score less people's"),
    ("mean_absolute_error", "Mean absolute error", ""),
)


class Heat(msgspec.Struct, frozen=True):
    """A confusion matrix: rows are people's, each with counts, shares of its row, and unreadable ones."""

    classes: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[int, float]], int]]


class Compared(msgspec.Struct, frozen=True):
    """One judge against people."""

    name: str
    blocks: Sequence[Block]
    heats: Sequence[Heat]
    groups: Sequence[Block]
    notes: Sequence[str]
    open: bool


class Against(msgspec.Struct, frozen=True):
    """The whole section; `overview` compares the judges, where there are several."""

    overview: Block | None
    entries: Sequence[Compared]


def against(summary: Data) -> Against | None:
    """Make the section; None without human labels."""
    entries = [entry for entry in summary["agreement"] if any(entry["overall"].values()) and worth(entry, summary)]
    if not entries:
        return None
    main = main_entry(entries)
    return Against(_overview(entries, summary), [_compared(entry, summary, entry is main) for entry in entries])


def _overview(entries: Sequence[Data], summary: Data) -> Block | None:
    found = [(entry, headline_figure(entry)) for entry in entries]
    kinds = {figure[0] for _, figure in found if figure}
    first = next((figure for _, figure in found if figure), None)
    if len(found) < 2 or len(kinds) != 1 or first is None:
        return None
    lines: list[Entry] = [
        (named(entry, summary), "", figure[1], [_second(entry)]) for entry, figure in found if figure is not None
    ]
    second = "Cohen's kappa" if first[2] is SHARE else "Pearson"
    return block(first[0], "Judge", lines, first[2], more=[second])


def _second(entry: Data) -> Shown:
    overall = entry["overall"]
    if overall["winners"]:
        return shown(overall["winners"]["with_ties"]["kappa"], COEFFICIENT)
    key = "scores" if overall["scores"] else "labels"
    return shown(overall[key]["pearson" if key == "scores" else "kappa"], COEFFICIENT)


def _compared(entry: Data, summary: Data, is_open: bool) -> Compared:
    blocks, heats, notes = list[Block](), list[Heat](), list[str]()
    winners, scores, labels = (entry["overall"][key] for key in ("winners", "scores", "labels"))
    if winners:
        blocks += _winners(winners)
        heats.append(heat(winners["confusion"], CLASSES))
    if scores:
        blocks += _scores(scores)
        notes += _scale_notes(scores)
    if labels:
        blocks.append(block("Labels", "Figure", [("Accuracy", "", labels["accuracy"], ())], SHARE))
        blocks.append(block("Beyond chance", "Figure", [("Cohen's kappa", "", labels["kappa"], ())], COEFFICIENT))
        heats.append(heat(labels["confusion"]))
    left = {group["column"]: group["values_left_out"] for group in summary["settings"]["groups"]}
    groups = [one for column, found in entry["groups"].items() for one in _groups(column, found, left.get(column, 0))]
    return Compared(named(entry, summary), blocks, heats, groups, notes, is_open)


def _winners(winners: Data) -> list[Block]:
    ties, none = winners["with_ties"], winners["without_ties"]
    same = all(ties[key] == none[key] for key, *_ in _COUNTED)
    one_order = ties["accuracy_both_orders"]["value"] is None and ties["accuracy_swapped"]["value"] is None
    lines: list[Entry] = []
    for key, name, hint in _COUNTED[:1] if one_order else _COUNTED:
        if same:
            lines.append((name, hint, ties[key], ()))
        else:
            lines.append((name, hint, None, ()))
            lines += [("with ties", "", ties[key], ()), ("without ties", "", none[key], ())]
    if one_order:
        lines.append(("By order, and both orders together", "", ties["accuracy_both_orders"], ()))
    else:
        lines.append(("Both orders agree", "the same verdict, right or wrong", winners["orders_agree"], ()))
    chances: list[Entry] = [("Cohen's kappa, with ties", "0 is chance, 1 is all right", ties["kappa"], ())]
    if not same:
        chances.append(("Cohen's kappa, without ties", "", none["kappa"], ()))
    note = "No row is a tie: with and without ties, figures are the same." if same else ""
    return [
        block("Accuracy", "Counted as", lines, SHARE, note=note),
        block("Beyond chance", "Figure", chances, COEFFICIENT),
    ]


def _scores(scores: Data) -> list[Block]:
    made = [
        block(
            "Correlation", "Figure", [(name, hint, scores[key], ()) for key, name, hint in _CORRELATIONS], COEFFICIENT
        ),
        block("Pairs of one question", "Figure", [(name, hint, scores[key], ()) for key, name, hint in _PAIRS], SHARE),
    ]
    kappa, title = scores["quadratic_kappa"], "On people's scale"
    if all(scores[key]["value"] is None for key in ("quadratic_kappa", *(key for key, *_ in _APART))):
        name = "Mean difference, mean absolute error, kappa with quadratic weights"
        return [*made, block(title, "Figure", [(name, "", kappa, ())], NUMBER)]
    lines: list[Entry] = [(name, hint, scores[key], ()) for key, name, hint in _APART]
    chance: Entry = ("Kappa with quadratic weights", "0 is chance, 1 is all right", kappa, ())
    return [*made, block(title, "Figure", lines, DIFFERENCE), block("Beyond chance", "Figure", [chance], COEFFICIENT)]


def _scale_notes(scores: Data) -> list[str]:
    notes = []
    scales = scores["scales"]
    if scales and scales["mapped"]:
        judge, human = (" to ".join(formatting.plain(end) for end in scales[key]) for key in ("judge", "human"))
        notes.append(f"The judge's scores ({judge}) are mapped linearly onto people's scale ({human}) for these.")
    if scores["sampled"] is not None:
        notes.append(f"Rank correlations are from a random sample of {scores['sampled']:,} rows.")
    return notes


def heat(confusion: Data, names: Mapping[str, str] = MappingProxyType({})) -> Heat:
    """Make a table of labels against verdicts, of the classes that there are; `names` are what some are called."""
    counts, unread = confusion["counts"], confusion["unread"]
    used = [n for n, line in enumerate(counts) if sum(line) + unread[n] + sum(other[n] for other in counts)]
    called = [names.get(name, name) for name in confusion["classes"]]
    rows = []
    for n in used:
        every = sum(counts[n]) + unread[n]
        cells = [(counts[n][m], round(counts[n][m] / every, 4) if every else 0.0) for m in used]
        rows.append((called[n], cells, unread[n]))
    return Heat([called[n] for n in used], rows)


def _groups(column: str, found: Sequence[Data], left_out: int) -> list[Block]:
    """A table for each kind of verdict, a line for each value."""
    note = f"{formatting.plural(left_out, 'rarer value')} of {column} left out." if left_out else ""
    made = []
    for kind in ("winners", "scores", "labels"):
        lines: list[Entry] = []
        form, title, more = SHARE, "", ""
        for one in found:
            if (compared := one["comparison"][kind]) is not None:
                main, second, form, title, more = _group_figures(kind, compared)
                lines.append((group_name(one["value"]), "", main, [shown(second, COEFFICIENT)]))
        if lines:
            made.append(block(f"{title} by {column}", column, lines, form, more=[more], note=note))
    return made


def _group_figures(kind: str, compared: Data) -> tuple[Data, Data, Kind, str, str]:
    if kind == "scores":
        return compared["spearman"], compared["pearson"], COEFFICIENT, "Spearman", "Pearson"
    of = compared["with_ties"] if kind == "winners" else compared
    return of["accuracy"], of["kappa"], SHARE, "Accuracy", "Kappa"


def group_name(value: str | None) -> str:
    """The value of a grouping column."""
    if value is None:
        return "(none)"
    return value if value.strip() else "(empty)"
