"""Consistency: of each judge with itself, over orders and repeats, and of the judges with each other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runner.report.page.agreement import group_name
from runner.report.page.figures import COEFFICIENT, EVEN, LEAN, NUMBER, SHARE, Block, Data, Kind, Shown, block, shown

Entry = tuple[str, str, Data | None, Sequence[Shown]]

_ONE_ORDER = "Only one order was asked: the share of the answer shown first is that of answer 1, whatever it deserves."
_FLIPS = (
    ("orders_agree", "The same verdict in both orders", ""),
    ("flips_to_first", "Whichever is shown first wins", "the winner changes with the order"),
    ("flips_to_second", "Whichever is shown second wins", "the winner changes with the order"),
    ("flips_with_tie", "A tie in one order only", ""),
)
_PANEL = (
    ("same_winner", "All name the same winner", SHARE),
    ("alpha_winners", "Krippendorff's alpha, winners", COEFFICIENT),
    ("alpha_scores", "Krippendorff's alpha, scores", COEFFICIENT),
)


class Steady(msgspec.Struct, frozen=True):
    """One judge with itself."""

    name: str
    blocks: Sequence[Block]
    groups: Sequence[Block]
    note: str


class Matrix(msgspec.Struct, frozen=True):
    """Judges against judges: a figure and how strong its colour is, None on the diagonal."""

    title: str
    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[Shown, float] | None]]]


class Panel(msgspec.Struct, frozen=True):
    """The judges with each other."""

    blocks: Sequence[Block]
    matrices: Sequence[Matrix]
    groups: Sequence[Block]


def steady(summary: Data) -> list[Steady]:
    """Make an entry for each judge that was asked anything twice."""
    made = []
    for entry in summary["consistency"]["judges"]:
        position, repeats = entry["overall"]["position"], entry["overall"]["repeats"]
        blocks = [*(_position(position) if position else ()), *(_repeats(repeats) if repeats else ())]
        if blocks:
            groups = [one for column, found in entry["groups"].items() for one in _groups(column, found)]
            note = _ONE_ORDER if position and not position["balanced"] else ""
            made.append(Steady(entry["judge"], blocks, groups, note))
    return made


def places(summary: Data) -> Block | None:
    """What the place of an answer does to each judge, beside each other; None for a single one."""
    found = [(one["judge"], one["overall"]["position"]) for one in summary["consistency"]["judges"]]
    lines: list[Entry] = [
        (judge, "", position["preference"], [shown(position["orders_agree"], SHARE)])
        for judge, position in found
        if position and position["balanced"]
    ]
    note = "Flips to the answer shown first less flips to the second, of all pairs of orders; 0 is unbiased."
    title = "Preference for the answer shown first"
    return block(title, "Judge", lines, LEAN, more=["Orders agree"], note=note) if len(lines) > 1 else None


def _position(position: Data) -> list[Block]:
    first: list[Entry] = [
        ("The answer shown first wins", "of verdicts that name one", position["first_shown_wins"], ())
    ]
    people = position["people_first_share"]
    if people["n"]:
        first.append(("Answer 1 wins for people", "of the same samples", people, ()))
    made = [block("Position", "Figure", first, EVEN)]
    if position["balanced"]:
        flips: list[Entry] = [(name, hint, position[key], ()) for key, name, hint in _FLIPS]
        made.append(block("Pairs of orders", "Of all pairs", flips, SHARE))
        lean: Entry = (
            "Preference for the first",
            "flips to first less flips to second; 0 is unbiased",
            position["preference"],
            (),
        )
        made.append(block("Preference", "Figure", [lean], LEAN))
    return made


def _repeats(repeats: Data) -> list[Block]:
    shares: list[Entry] = [
        (name, "", repeats[key], ())
        for key, name in (("same_winner", "Always the same winner"), ("same_score", "Always the same score"))
    ]
    alphas: list[Entry] = [
        (name, "over repeats", repeats[key], ())
        for key, name in (("alpha_winners", "Alpha of winners"), ("alpha_scores", "Alpha of scores"))
    ]
    shares, alphas = ([line for line in lines if line[2] and line[2]["n"]] or lines for lines in (shares, alphas))
    made = [block("Asked again", "Figure", shares, SHARE), block("Krippendorff's alpha", "Figure", alphas, COEFFICIENT)]
    if not repeats["spread"]["n"]:
        return made
    spread: Entry = ("Highest less lowest score", "mean over what was asked again", repeats["spread"], ())
    return [*made, block("Spread", "Figure", [spread], NUMBER)]


def _groups(column: str, found: Sequence[Data]) -> list[Block]:
    lines: list[Entry] = [
        (
            group_name(one["value"]),
            "",
            one["steadiness"]["position"]["first_shown_wins"],
            [shown(one["steadiness"]["position"]["orders_agree"], SHARE)],
        )
        for one in found
        if one["steadiness"]["position"]
    ]
    made = [block(f"Shown first wins, by {column}", column, lines, EVEN, more=["Orders agree"])] if lines else []
    again: list[Entry] = []
    for one in found:
        repeats = one["steadiness"]["repeats"]
        if repeats:
            key = "same_winner" if repeats["same_winner"]["n"] else "same_score"
            again.append((group_name(one["value"]), "", repeats[key], ()))
    return [*made, block(f"Asked again, the same, by {column}", column, again, SHARE)] if again else made


def panel(summary: Data) -> Panel | None:
    """Make the part about several judges; None for a single one."""
    found = summary["consistency"]["panel"]
    if found is None:
        return None
    overall = found["overall"]
    there = [one for one in _PANEL if overall[one[0]]["n"]] or _PANEL
    blocks = [block(kind_name, "Figure", lines, kind) for kind_name, kind, lines in _panel_lines(there, overall)]
    pairs, names = found["pairs"], found["judges"]
    matrices = [
        _matrix("The same winner", names, pairs, "same_winner"),
        _matrix("Pearson correlation of scores", names, pairs, "pearson"),
    ]
    blocks += _pairs(pairs)
    groups = []
    for column, values in found["groups"].items():
        key = "alpha_winners" if overall["alpha_winners"]["n"] else "alpha_scores"
        lines: list[Entry] = [(group_name(one["value"]), "", one["panel"][key], ()) for one in values]
        groups.append(block(f"Krippendorff's alpha by {column}", column, lines, COEFFICIENT))
    return Panel(blocks, [one for one in matrices if one], groups)


def _panel_lines(there: Sequence[tuple[str, str, Kind]], overall: Data) -> list[tuple[str, Kind, list[Entry]]]:
    """The panel's figures, those of one kind together."""
    made = []
    for title, kind in (("All judges", SHARE), ("Beyond chance", COEFFICIENT)):
        lines: list[Entry] = [(name, "", overall[key], ()) for key, name, of in there if of is kind]
        if lines:
            made.append((title, kind, lines))
    return made


def _pairs(pairs: Sequence[Data]) -> list[Block]:
    """Each two judges: beyond chance where they name winners, along a line where they give scores."""
    made = []
    for key, title, other, kind in (
        ("kappa", "Cohen's kappa of two judges", "same_winner", SHARE),
        ("pearson", "Pearson correlation of two judges", "mean_difference", NUMBER),
    ):
        if any(pair[key]["value"] is not None for pair in pairs):
            lines: list[Entry] = [
                (f"{pair['first']} and {pair['second']}", "", pair[key], [shown(pair[other], kind)]) for pair in pairs
            ]
            more = "Same winner" if key == "kappa" else "Second less first"
            made.append(block(title, "Judges", lines, COEFFICIENT, more=[more]))
    return made


def _matrix(title: str, names: Sequence[str], pairs: Sequence[Data], key: str) -> Matrix | None:
    """Every pair of judges, shown in both halves; None where no pair has a value."""
    kind = SHARE if key == "same_winner" else COEFFICIENT
    found = {}
    for pair in pairs:
        figure = pair[key]
        cell = (shown(figure, kind), round(max(0.0, figure["value"] or 0.0), 4))
        found[pair["first"], pair["second"]] = found[pair["second"], pair["first"]] = cell
    if all(pair[key]["value"] is None for pair in pairs):
        return None
    return Matrix(title, names, [(one, [found.get((one, other)) for other in names]) for one in names])
