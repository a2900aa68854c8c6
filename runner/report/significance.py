"""The object `tests` of `summary.json`: what the key findings rest on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class GroupDifference(msgspec.Struct, frozen=True):
    """Whether the headline figure differs between the values of a grouping column.

    Attributes:
        column: the grouping column.
        figure: `accuracy` or `spearman`.
        groups: the number of values with this figure.
        tested: the number of those with at least `Tests.least_questions` questions; only these are compared.
        low: of the pairs that differ significantly, the one that differs most: its value with the lower figure.
        high: the same with the higher figure.
        p_value: of this pair, adjusted for all pairs of all columns; None if no pair differs significantly.
    """

    column: str
    figure: str
    groups: int
    tested: int
    low: str | None
    high: str | None
    p_value: float | None


class JudgeDifference(msgspec.Struct, frozen=True):
    """Whether the headline figure differs between judges; attributes as in GroupDifference."""

    figure: str
    tested: int
    low: str | None
    high: str | None
    p_value: float | None


class Chance(msgspec.Struct, frozen=True):
    """Whether agreement with people differs from chance.

    Attributes:
        judge: its name; None for the aggregated verdict.
        p_value: of this judge alone.
        adjusted: the same, adjusted for the number of judges.
    """

    judge: str | None
    p_value: float
    adjusted: float


class Leader(msgspec.Struct, frozen=True):
    """Whether the best model of a ranking is better than each of the others.

    Attributes:
        model: its name.
        p_value: the largest of the comparisons with the others; None if one of them has fewer than
            `Tests.least_questions` questions.
        not_better_than: the models from which it does not differ significantly, best first.
    """

    model: str
    p_value: float | None
    not_better_than: Sequence[str]


class Tests(msgspec.Struct, frozen=True):
    """The tests behind the key findings.

    A judge that is missing in `chance`, like a group that is not counted in `tested`, has fewer than `least_questions`
    questions, or no figure.
    """

    level: float
    least_questions: int
    groups: Sequence[GroupDifference]
    judges: JudgeDifference | None
    chance: Sequence[Chance]
