"""Rankings of models, by the verdict and by people."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runner.report.page import formatting
from runner.report.page.figures import (
    COEFFICIENT,
    NUMBER,
    RATING,
    SHARE,
    Axis,
    Data,
    Shown,
    Whiskers,
    make_axis,
    shown,
    whiskers,
)

_BY = {"verdict": "By the judges", "people": "By people"}
_OTHER = {"verdict": "People", "people": "Judges"}
_METHODS = {
    "bradley_terry": "Strength by wins, losses and ties (Bradley-Terry with ties, after Davidson); "
    "1000 is the average, 400 points more are odds of ten to one.",
    "mean_score": "Mean score.",
}


class Place(msgspec.Struct, frozen=True):
    """One model of a ranking."""

    rank: int
    span: str
    model: str
    shown: Shown
    whiskers: Whiskers | None
    games: str
    record: str
    rate: str
    other: str
    note: str


class Cell(msgspec.Struct, frozen=True):
    """Who beat whom: the rate, how far it is from even (0 to 1) and on which side, and what stands behind it."""

    text: str
    far: float
    side: str
    title: str


class Standings(msgspec.Struct, frozen=True):
    """One ranking with its win matrix, a row of cells for each model; `other` names the column of the other's ranks."""

    title: str
    method: str
    contests: bool
    places: Sequence[Place]
    axis: Axis | None
    matrix: Sequence[Sequence[Cell]]
    components: bool
    notes: Sequence[str]
    other: str


class Ranking(msgspec.Struct, frozen=True):
    """All rankings, and how alike they are."""

    tables: Sequence[Standings]
    tau: Shown | None


def ranking(summary: Data) -> Ranking | None:
    """Make the section; None where nothing is ranked."""
    found = summary["ranking"]
    if not found["tables"]:
        return None
    both = len(found["tables"]) > 1
    return Ranking(
        tables=[_table(table, found["tables"]) for table in found["tables"]],
        tau=shown(found["kendall_tau"], COEFFICIENT) if both else None,
    )


def _table(table: Data, tables: Sequence[Data]) -> Standings:
    kind = RATING if table["method"] == "bradley_terry" else NUMBER
    axis = make_axis([model["score"] for model in table["models"]], kind)
    others = {model["model"]: str(model["rank"]) for one in tables if one is not table for model in one["models"]}
    notes = [f"From {formatting.plural(table['samples'], 'sample')}; {table['left_out']:,} left out."]
    if table["models_left_out"]:
        notes.append(f"{formatting.plural(table['models_left_out'], 'model')} with fewer samples not ranked.")
    if table["tie_parameter"]:
        notes.append(f"Tie parameter (Davidson's nu): {formatting.number(table['tie_parameter'])}.")
    components = len({model["component"] for model in table["models"]}) > 1
    if components:
        notes.append("Models of different components never met, not even through others: do not compare their scores.")
    return Standings(
        title=_BY.get(table["by"], str(table["by"])),
        method=_METHODS.get(table["method"], ""),
        contests=table["method"] == "bradley_terry",
        places=[
            Place(
                rank=model["rank"],
                span=_span(model),
                model=model["model"],
                shown=shown(model["score"], kind),
                whiskers=whiskers(model["score"], axis),
                games=formatting.whole(model["games"]),
                record="" if model["wins"] is None else f"{model['wins']:,} / {model['losses']:,} / {model['ties']:,}",
                rate="" if model["win_rate"] is None else shown(model["win_rate"], SHARE).text,
                other=others.get(model["model"], formatting.NONE),
                note="; ".join(filter(None, [f"component {model['component']}" if components else "", model["note"]])),
            )
            for model in table["models"]
        ],
        axis=axis,
        matrix=_matrix(table["matrix"]) if table["matrix"] else (),
        components=components,
        notes=[*notes, *table["notes"]],
        other=_OTHER.get(table["by"], "") if others else "",
    )


def _span(model: Data) -> str:
    low, high = model["rank_low"], model["rank_high"]
    return str(low) if low == high else f"{low} to {high}"


def _matrix(matrix: Data) -> list[list[Cell]]:
    models = matrix["models"]
    return [
        [_cell(matrix, one, other) if one != other else Cell("", 0.0, "even", "") for other in range(len(models))]
        for one in range(len(models))
    ]


def _cell(matrix: Data, one: int, other: int) -> Cell:
    first, second = matrix["models"][one], matrix["models"][other]
    rate = matrix["rate"][one][other]
    if rate is None:
        return Cell(formatting.NONE, 0.0, "even", f"{first} and {second}: never met")
    won, lost, ties = matrix["wins"][one][other], matrix["wins"][other][one], matrix["ties"][one][other]
    title = f"{first} against {second}: {won:,} won, {lost:,} lost, {ties:,} ties"
    return Cell(f"{100 * rate:.0f}", round(abs(rate - 0.5) * 2, 4), "won" if rate > 0.5 else "lost", title)
