"""Consistency of each judge over orders and repeats, and agreement between judges."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runner.report.page.agreement import group_name
from runner.report.page.figures import (
    COEFFICIENT,
    EVEN_SHARE,
    NUMBER,
    SHARE,
    SIGNED_SHARE,
    Data,
    Entry,
    FigureTable,
    FigureText,
    Kind,
    figure_table,
    format_figure,
    with_enough_questions,
)

_ONE_ORDER = (
    "Only one order was judged, so the answer shown first is always answer 1. "
    "Position bias cannot be measured; set swap: true."
)
_ONE_ORDER_SO_FAR = "So far, only one order has been judged: position bias is not known yet."
_FLIPS = (
    ("orders_agree", "Same verdict in both orders", ""),
    ("flips_to_first", "The answer shown first wins both times", "the winner changes with the order"),
    ("flips_to_second", "The answer shown second wins both times", "the winner changes with the order"),
    ("flips_with_tie", "A tie in one order only", ""),
)
_PANEL = (
    ("same_winner", "All judges name the same winner", SHARE),
    ("alpha_winners", "Krippendorff's alpha of winners", COEFFICIENT),
    ("alpha_scores", "Krippendorff's alpha of scores", COEFFICIENT),
)


class JudgeConsistency(msgspec.Struct, frozen=True):
    """The consistency of one judge."""

    name: str
    tables: Sequence[FigureTable]
    groups: Sequence[FigureTable]
    note: str


class JudgeMatrix(msgspec.Struct, frozen=True):
    """A matrix of judges against judges: figures with the strength of their colour, None on the diagonal."""

    title: str
    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[FigureText, float] | None]]]


class PanelSection(msgspec.Struct, frozen=True):
    """Agreement between judges."""

    tables: Sequence[FigureTable]
    matrices: Sequence[JudgeMatrix]
    groups: Sequence[FigureTable]


def judge_consistency(summary: Data) -> list[JudgeConsistency]:
    """Make an entry for each judge that names winners or has repeats."""
    entries = []
    one_order = _ONE_ORDER if summary["run"]["state"] in ("finished", None) else _ONE_ORDER_SO_FAR
    for entry in summary["consistency"]["judges"]:
        position, repeats = entry["overall"]["position"], entry["overall"]["repeats"]
        tables = [*(_position(position) if position else ()), *(_repeats(repeats) if repeats else ())]
        if tables:
            groups = [one for column, found in entry["groups"].items() for one in _groups(column, found)]
            read = position and position["first_shown_wins"]["value"] is not None
            note = one_order if read and not position["balanced"] else ""
            entries.append(JudgeConsistency(entry["judge"], tables, groups, note))
    return entries


def position_overview(summary: Data) -> FigureTable | None:
    """Compare the position bias of the judges; None if fewer than two judged both orders."""
    found = [(one["judge"], one["overall"]["position"]) for one in summary["consistency"]["judges"]]
    lines: list[Entry] = [
        (judge, "", position["preference"], [format_figure(position["orders_agree"], SHARE)])
        for judge, position in found
        if position and position["balanced"]
    ]
    if len(lines) < 2:
        return None
    note = (
        "Share of pairs in which the answer shown first wins both times, minus the share in which the second does; "
        "0 is unbiased."
    )
    title = "Preference for the answer shown first"
    return figure_table(title, "Judge", lines, SIGNED_SHARE, more=["Orders agree"], note=note)


def _position(position: Data) -> list[FigureTable]:
    first: list[Entry] = [
        ("The answer shown first wins", "of verdicts that name an answer", position["first_shown_wins"], ())
    ]
    human = position["people_first_share"]
    if human["n"]:
        first.append(("Answer 1 wins in the human labels", "of the same samples", human, ()))
    tables = [figure_table("Position", "Measure", first, EVEN_SHARE)]
    if position["balanced"]:
        flips: list[Entry] = [(name, hint, position[key], ()) for key, name, hint in _FLIPS]
        tables.append(figure_table("Pairs of orders", "Share of all pairs", flips, SHARE))
        preference: Entry = (
            "Preference for the first",
            "first wins both times minus second wins both times; 0 is unbiased",
            position["preference"],
            (),
        )
        tables.append(figure_table("Preference", "Measure", [preference], SIGNED_SHARE))
    return tables


def _repeats(repeats: Data) -> list[FigureTable]:
    shares: list[Entry] = [
        (name, "", repeats[key], ())
        for key, name in (("same_winner", "Always the same winner"), ("same_score", "Always the same score"))
    ]
    alphas: list[Entry] = [
        (name, "over repeats", repeats[key], ())
        for key, name in (("alpha_winners", "Alpha of winners"), ("alpha_scores", "Alpha of scores"))
    ]
    shares, alphas = ([line for line in lines if line[2] and line[2]["n"]] or lines for lines in (shares, alphas))
    tables = [
        figure_table("Repeat consistency", "Measure", shares, SHARE),
        figure_table("Krippendorff's alpha", "Measure", alphas, COEFFICIENT),
    ]
    if not repeats["spread"]["n"]:
        return tables
    spread: Entry = ("Max − min score", "mean over repeated requests", repeats["spread"], ())
    return [*tables, figure_table("Score spread", "Measure", [spread], NUMBER)]


def _groups(column: str, found: Sequence[Data]) -> list[FigureTable]:
    positions = [(group_name(one["value"]), one["steadiness"]["position"]) for one in found]
    both_orders = any(position and position["balanced"] for _, position in positions)
    lines: list[Entry] = [
        (
            name,
            "",
            with_enough_questions(position["first_shown_wins"], position["resampled"]),
            [format_figure(with_enough_questions(position["orders_agree"], position["resampled"]), SHARE)]
            if both_orders
            else (),
        )
        for name, position in positions
        if position
    ]
    title = f"The answer shown first wins, by {column}"
    more = ["Orders agree"] if both_orders else []
    tables = [figure_table(title, column, lines, EVEN_SHARE, more=more)] if lines else []
    same: list[Entry] = []
    for one in found:
        repeats = one["steadiness"]["repeats"]
        if repeats:
            key = "same_winner" if repeats["same_winner"]["n"] else "same_score"
            figure = with_enough_questions(repeats[key], repeats["resampled"])
            same.append((group_name(one["value"]), "", figure, ()))
    return [*tables, figure_table(f"Repeat consistency by {column}", column, same, SHARE)] if same else tables


def panel_section(summary: Data) -> PanelSection | None:
    """Make the section on agreement between judges; None for a single judge."""
    found = summary["consistency"]["panel"]
    if found is None:
        return None
    overall = found["overall"]
    measured = [one for one in _PANEL if overall[one[0]]["n"]] or _PANEL
    tables = [figure_table(title, "Measure", lines, kind) for title, kind, lines in _panel_lines(measured, overall)]
    pairs, names = found["pairs"], found["judges"]
    matrices = [
        _matrix("Same winner", names, pairs, "same_winner"),
        _matrix("Pearson correlation of scores", names, pairs, "pearson"),
    ]
    tables += _pairs(pairs)
    groups = []
    for column, values in found["groups"].items():
        key = "alpha_winners" if overall["alpha_winners"]["n"] else "alpha_scores"
        lines: list[Entry] = [
            (group_name(one["value"]), "", with_enough_questions(one["panel"][key], one["panel"]["resampled"]), ())
            for one in values
        ]
        groups.append(figure_table(f"Krippendorff's alpha by {column}", column, lines, COEFFICIENT))
    return PanelSection(tables, [one for one in matrices if one], groups)


def _panel_lines(measured: Sequence[tuple[str, str, Kind]], overall: Data) -> list[tuple[str, Kind, list[Entry]]]:
    """Returns title, kind and lines of the panel's tables, one for each kind of figure."""
    tables = []
    for title, kind in (("All judges", SHARE), ("Agreement beyond chance", COEFFICIENT)):
        lines: list[Entry] = [(name, "", overall[key], ()) for key, name, of in measured if of is kind]
        if lines:
            tables.append((title, kind, lines))
    return tables


def _pairs(pairs: Sequence[Data]) -> list[FigureTable]:
    """Make the tables of pairs of judges: kappa if they name winners, Pearson if they give scores."""
    tables = []
    for key, title, other, kind in (
        ("kappa", "Cohen's kappa by pair of judges", "same_winner", SHARE),
        ("pearson", "Pearson correlation by pair of judges", "mean_difference", NUMBER),
    ):
        if any(pair[key]["value"] is not None for pair in pairs):
            lines: list[Entry] = [
                (f"{pair['first']} and {pair['second']}", "", pair[key], [format_figure(pair[other], kind)])
                for pair in pairs
            ]
            more = "Same winner" if key == "kappa" else "Second minus first"
            tables.append(figure_table(title, "Judges", lines, COEFFICIENT, more=[more]))
    return tables


def _matrix(title: str, names: Sequence[str], pairs: Sequence[Data], key: str) -> JudgeMatrix | None:
    """Make a symmetric matrix over the pairs of judges; None if no pair has a value."""
    kind = SHARE if key == "same_winner" else COEFFICIENT
    cells = {}
    for pair in pairs:
        figure = pair[key]
        cell = (format_figure(figure, kind), round(max(0.0, figure["value"] or 0.0), 4))
        cells[pair["first"], pair["second"]] = cells[pair["second"], pair["first"]] = cell
    if all(pair[key]["value"] is None for pair in pairs):
        return None
    return JudgeMatrix(title, names, [(one, [cells.get((one, other)) for other in names]) for one in names])
