"""Rankings of models, by judge verdicts and by human labels."""

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
    FigureText,
    Kind,
    Whiskers,
    format_figure,
    make_axis,
    whiskers,
)

_TITLES = {"verdict": "By judge verdicts", "people": "By human labels"}
_OTHER_RANKS = {"verdict": "Human rank", "people": "Judge rank"}
_METHODS = {
    "bradley_terry": "Rating from wins, losses and ties (Bradley-Terry model with ties, Davidson 1970). "
    "1000 is the average; 400 points more mean odds of ten to one.",
    "mean_score": "Mean score.",
}


_POSITIONS = "Mean score, as the position on each judge's own scale, from 0 to 1."


class RankedModel(msgspec.Struct, frozen=True):
    """One model of a ranking; `other` is its rank in the other ranking."""

    rank: int
    span: str
    model: str
    shown: FigureText
    whiskers: Whiskers | None
    record: str
    rate: str
    other: str
    note: str


class WinCell(msgspec.Struct, frozen=True):
    """A cell of the win matrix.

    Attributes:
        text: the win rate in per cent.
        strength: its distance from an even record, 0 to 1.
        side: the CSS class: `won`, `lost` or `even`.
        title: the counts, for a tooltip.
    """

    text: str
    strength: float
    side: str
    title: str


class RankingTable(msgspec.Struct, frozen=True):
    """One ranking.

    Attributes:
        title: whose verdicts it is based on.
        method: how scores are computed.
        pairwise: True if models are ranked by comparisons with each other.
        models: best first.
        axis: of the scores.
        matrix: a row of cells for each model; empty unless `pairwise`.
        notes: caveats.
        other: name of the column with the ranks of the other ranking; empty if there is none.
    """

    title: str
    method: str
    pairwise: bool
    models: Sequence[RankedModel]
    axis: Axis | None
    matrix: Sequence[Sequence[WinCell]]
    notes: Sequence[str]
    other: str


class RankingSection(msgspec.Struct, frozen=True):
    """All rankings, and their agreement if there are two."""

    tables: Sequence[RankingTable]
    tau: FigureText | None


def ranking_section(summary: Data) -> RankingSection | None:
    """Make the section; None if nothing is ranked."""
    found = summary["ranking"]
    if not found["tables"]:
        return None
    return RankingSection(
        tables=[
            _table(table, found["tables"], "score" in summary["settings"]["positions"] and table["by"] == "verdict")
            for table in found["tables"]
        ],
        tau=format_figure(found["kendall_tau"], COEFFICIENT) if len(found["tables"]) > 1 else None,
    )


def _table(table: Data, tables: Sequence[Data], positions: bool) -> RankingTable:
    kind = RATING if table["method"] == "bradley_terry" else NUMBER
    axis = make_axis([model["score"] for model in table["models"]], kind)
    others = {model["model"]: str(model["rank"]) for one in tables if one is not table for model in one["models"]}
    notes = [f"Based on {formatting.plural(table['samples'], 'sample')}; {table['left_out']:,} left out."]
    if table["models_left_out"]:
        are = "is" if table["models_left_out"] == 1 else "are"
        notes.append(f"{formatting.plural(table['models_left_out'], 'model')} with fewer samples {are} not ranked.")
    if table["tie_parameter"]:
        notes.append(f"Tie parameter (Davidson's nu): {formatting.number(table['tie_parameter'])}.")
    several_components = len({model["component"] for model in table["models"]}) > 1
    return RankingTable(
        title=_TITLES.get(table["by"], str(table["by"])),
        method=_POSITIONS if positions and table["method"] == "mean_score" else _METHODS.get(table["method"], ""),
        pairwise=table["method"] == "bradley_terry",
        models=[
            _ranked_model(model, kind, axis, several_components, others.get(model["model"], formatting.NONE))
            for model in table["models"]
        ],
        axis=axis,
        matrix=_matrix(table["matrix"]) if table["matrix"] else (),
        notes=[*notes, *table["notes"]],
        other=_OTHER_RANKS.get(table["by"], "") if others else "",
    )


def _ranked_model(model: Data, kind: Kind, axis: Axis | None, several_components: bool, other: str) -> RankedModel:
    return RankedModel(
        rank=model["rank"],
        span=_span(model),
        model=model["model"],
        shown=format_figure(model["score"], kind),
        whiskers=whiskers(model["score"], axis),
        record="" if model["wins"] is None else f"{model['wins']:,} / {model['losses']:,} / {model['ties']:,}",
        rate="" if model["win_rate"] is None else format_figure(model["win_rate"], SHARE).text,
        other=other,
        note=f"component {model['component']}" if several_components else "",  # the score shows `model["note"]`
    )


def _span(model: Data) -> str:
    low, high = model["rank_low"], model["rank_high"]
    return str(low) if low == high else f"{low} to {high}"


def _matrix(matrix: Data) -> list[list[WinCell]]:
    models = matrix["models"]
    return [
        [_cell(matrix, one, other) if one != other else WinCell("", 0.0, "even", "") for other in range(len(models))]
        for one in range(len(models))
    ]


def _cell(matrix: Data, one: int, other: int) -> WinCell:
    first, second = matrix["models"][one], matrix["models"][other]
    rate = matrix["rate"][one][other]
    if rate is None:
        return WinCell(formatting.NONE, 0.0, "even", f"{first} and {second} never met")
    won, lost, tied = matrix["wins"][one][other], matrix["wins"][other][one], matrix["ties"][one][other]
    title = f"{first} against {second}: {won:,} won, {lost:,} lost, {tied:,} tied"
    return WinCell(f"{100 * rate:.0f}", round(abs(rate - 0.5) * 2, 4), "won" if rate > 0.5 else "lost", title)
