"""The common scale of a panel: the position of a score on its judge's own scale, from 0 (lowest) to 1 (highest)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runner.types import Row

SCORE_COLUMNS = ("score", "score1", "score2")

# The key in the metadata of samples.parquet whose value lists the columns that hold positions.
POSITIONS_KEY = "judge_runner.positions"


class CommonScale(msgspec.Struct, frozen=True):
    """Which scores become positions before they are averaged, because judges on different scales give them.

    Attributes:
        scales: the lowest and the highest score of each judge.
        columns: those of `SCORE_COLUMNS` that become positions.
        all_dimensions: True if the scores of all criteria do.
        dimensions: the names of the criteria whose scores do, if not all.
    """

    scales: Mapping[str, tuple[float, float]]
    columns: frozenset[str] = frozenset()
    all_dimensions: bool = False
    dimensions: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of samples.parquet that hold positions."""
        has_dimensions = self.all_dimensions or bool(self.dimensions)
        return (*(name for name in SCORE_COLUMNS if name in self.columns), *(("dimensions",) if has_dimensions else ()))

    def converted(self, row: Row) -> Row:
        """Returns a copy of the row with positions in place of these scores."""
        low, high = self.scales[row["judge"]]

        def position(score: float | None) -> float | None:
            return None if score is None else (score - low) / (high - low)

        changed: dict[str, Any] = {name: position(row[name]) for name in self.columns}
        if self.all_dimensions or self.dimensions:
            changed["dimensions"] = [
                {**item, "score": position(item["score"])}
                if self.all_dimensions or item["name"] in self.dimensions
                else item
                for item in row["dimensions"] or ()
            ]
        return {**row, **changed}
