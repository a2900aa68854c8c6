"""Agreement of winners with human labels, and position bias, computed from counts.

A unit is one request in both of its orders. It belongs to one of 100 cells, given by the human label, the verdict in
the dataset's order, and the verdict with the answers swapped (with the dataset's answer numbers). All figures are
functions of the number of units in each cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import asdict, replace
from numpy.typing import NDArray

from runner.report.data.codes import ABSENT, UNREAD
from runner.report.models import Accuracies, Confusion, Figure, Position, WinnerAgreement
from runner.report.stats.bootstrap import Floats, Resampled, Statistic
from runner.report.stats.simultaneous import against_zero, estimate

CELL = "human * 25 + original * 5 + swapped"  # SQL for the cell of a unit
CELLS = 100
CLASSES = ("1", "2", "tie")

_FIRST, _SECOND, _TIE = 0, 1, 2
_HUMAN, _ORIGINAL, _SWAPPED = np.indices((4, 5, 5)).reshape(3, -1)
_LABELLED = _HUMAN < UNREAD
_READ = _ORIGINAL < UNREAD
_READ_SWAPPED = _SWAPPED < UNREAD
_BOTH = _READ & _READ_SWAPPED
_TO_FIRST = _BOTH & (_ORIGINAL == _FIRST) & (_SWAPPED == _SECOND)
_TO_SECOND = _BOTH & (_ORIGINAL == _SECOND) & (_SWAPPED == _FIRST)
_HALF = (_ORIGINAL < ABSENT) & (_SWAPPED < ABSENT) & ~_BOTH

NO_LABELLED_ROW = "no row has both a human label and a readable verdict"
ONE_ORDER = "only one order was judged"
_NO_ORDERS = "the aggregated verdict has no orders"


def _cells(condition: NDArray[Any]) -> Floats:
    return np.asarray(condition, np.float64)


def _confusion_matrix() -> Floats:
    """Returns the matrix from cells to label x verdict counts, over the rows of both orders."""
    matrix = np.zeros((CELLS, 9))
    for verdict, read in ((_ORIGINAL, _READ), (_SWAPPED, _READ_SWAPPED)):
        here = np.flatnonzero(read & _LABELLED)
        np.add.at(matrix, (here, _HUMAN[here] * 3 + verdict[here]), 1.0)
    return matrix


_CONFUSION = _confusion_matrix()


def agreement(units: Resampled) -> WinnerAgreement:
    """Compare winners with human labels."""
    counts = (units.total @ _CONFUSION).reshape(3, 3)
    return WinnerAgreement(
        with_ties=_accuracies(units, np.ones(CELLS, bool), np.ones(CELLS, bool), 3),
        without_ties=_accuracies(units, _ORIGINAL != _TIE, _SWAPPED != _TIE, 2),
        orders_agree=_of_orders(units, _ORIGINAL == _SWAPPED, _LABELLED),
        confusion=Confusion(CLASSES, counts.round().astype(int).tolist(), _unread(units.total)),
        resampled=units.units,
    )


def of_aggregated_verdict(found: WinnerAgreement) -> WinnerAgreement:
    """Returns the figures of the aggregated verdict: those about orders say that it has none."""

    def without_orders(figure: Figure) -> Figure:
        return replace(figure, reason=_NO_ORDERS) if figure.reason == ONE_ORDER else figure

    def of(accuracies: Accuracies) -> Accuracies:
        return replace(accuracies, **{name: without_orders(one) for name, one in asdict(accuracies).items()})

    orders_agree = without_orders(found.orders_agree)
    return replace(found, with_ties=of(found.with_ties), without_ties=of(found.without_ties), orders_agree=orders_agree)


def _unread(total: Floats) -> list[int]:
    """Returns the number of rows without a readable verdict for each human label."""
    lines = total * (_cells(_ORIGINAL == UNREAD) + _cells(_SWAPPED == UNREAD))
    return [round(float(count)) for count in lines.reshape(4, 25).sum(axis=1)[:3]]


def _accuracies(units: Resampled, original: NDArray[Any], swapped: NDArray[Any], classes: int) -> Accuracies:
    """Compute all accuracies.

    Args:
        units: counts of units by cell.
        original: True for cells whose row in the dataset's order counts.
        swapped: True for cells whose swapped row counts.
        classes: 3 with ties, 2 without.
    """
    labelled = np.isin(_HUMAN, range(classes))
    read = _cells(labelled & original & _READ), _cells(labelled & swapped & _READ_SWAPPED)
    right = read[0] * (_ORIGINAL == _HUMAN), read[1] * (_SWAPPED == _HUMAN)
    left = _cells(labelled & (_ORIGINAL == UNREAD)), _cells(labelled & (_SWAPPED == UNREAD))
    first = units.share(right[0], read[0], left[0], NO_LABELLED_ROW)
    second = units.share(right[1], read[1], left[1], _missing_reason(units))
    every = labelled & original & swapped
    return Accuracies(
        accuracy=units.share(right[0] + right[1], read[0] + read[1], left[0] + left[1], NO_LABELLED_ROW),
        accuracy_original=first,
        accuracy_swapped=second,
        accuracy_mean_of_orders=units.figure(
            lambda sums: ((sums @ right[0]) / (sums @ read[0]) + (sums @ right[1]) / (sums @ read[1])) / 2,
            first.n + second.n,
            first.left_out + second.left_out,
            _missing_reason(units),
        ),
        accuracy_both_orders=_of_orders(units, (_ORIGINAL == _HUMAN) & (_SWAPPED == _HUMAN), every),
        accuracy_orders_combined=_of_orders(units, _combined() == _HUMAN, every),
        kappa=units.figure(
            _kappa_of(classes),
            float(units.total @ (read[0] + read[1])),
            float(units.total @ (left[0] + left[1])),
            "undefined: fewer than two classes among labels and verdicts",
        ),
    )


def _combined() -> NDArray[Any]:
    """Returns the combined verdict of both orders: the answer named more often, else a tie."""
    balance = sum(
        (verdict == _FIRST).astype(int) - (verdict == _SECOND).astype(int) for verdict in (_ORIGINAL, _SWAPPED)
    )
    return np.select([balance > 0, balance < 0], [_FIRST, _SECOND], _TIE)


def _of_orders(units: Resampled, part: NDArray[Any], whole: NDArray[Any]) -> Figure:
    """Returns a share of the pairs of orders whose verdicts could both be read."""
    return units.share(
        _cells(part & whole & _BOTH), _cells(whole & _BOTH), _cells(whole & _HALF), _missing_reason(units)
    )


def _missing_reason(units: Resampled) -> str:
    both_orders = float(units.total @ _cells((_ORIGINAL < ABSENT) & (_SWAPPED < ABSENT)))
    return "no usable pair of orders" if both_orders else ONE_ORDER


def _kappa_of(classes: int) -> Statistic:
    def statistic(sums: Floats) -> Floats:
        matrix = (sums @ _CONFUSION).reshape(*sums.shape[:-1], 3, 3)
        return kappa(matrix[..., :classes, :classes])

    return statistic


def kappa(counts: Floats) -> Floats:
    """Returns Cohen's kappa of tables (..., classes, classes); NaN if chance alone gives full agreement."""
    n = counts.sum(axis=(-1, -2))
    agreed = np.trace(counts, axis1=-2, axis2=-1) / n
    chance = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / n**2
    return np.where(chance < 1, (agreed - chance) / (1 - chance), np.nan)


def preference_p_value(sums: Floats) -> float | None:
    """Returns the two-sided p-value of a preference for a position; None with too few questions."""
    pairs = sums @ _cells(_BOTH)
    used = sums[pairs > 0]
    if not len(used):
        return None
    to_first, to_second = (float(used.sum(axis=0) @ _cells(flips)) for flips in (_TO_FIRST, _TO_SECOND))
    smoothed = pairs.sum() + 4
    floor = ((to_first + to_second + 2) / smoothed - ((to_first - to_second) / smoothed) ** 2) / smoothed
    found = estimate(None, Figure(0.0), _preference, np.arange(len(used)), used, float(floor))
    return None if found is None else against_zero(found)


def _preference(sums: Floats) -> Floats:
    return np.asarray((sums @ (_cells(_TO_FIRST) - _cells(_TO_SECOND))) / (sums @ _cells(_BOTH)))


def position(units: Resampled) -> Position:
    """Compute position bias over all units, labelled or not."""
    balanced = bool(units.total @ _cells((_ORIGINAL < ABSENT) & (_SWAPPED < ABSENT)))
    of = _BOTH if balanced else _READ
    half = _cells(_HALF) if balanced else _cells(_ORIGINAL == UNREAD)
    swapped = 1.0 if balanced else 0.0
    names = _cells(of & (_ORIGINAL != _TIE)) + swapped * _cells(of & (_SWAPPED != _TIE))
    first = _cells(of & (_ORIGINAL == _FIRST)) + swapped * _cells(of & (_SWAPPED == _SECOND))
    people = _cells(of & (_HUMAN < _TIE))
    with_tie = (_ORIGINAL != _SWAPPED) & ((_ORIGINAL == _TIE) | (_SWAPPED == _TIE))
    every = np.ones(CELLS, bool)
    preference = units.figure(
        _preference,
        float(units.total @ _cells(_BOTH)),
        float(units.total @ _cells(_HALF)),
        _missing_reason(units),
    )
    return Position(
        balanced=balanced,
        first_shown_wins=units.share(first, names, half, "no verdict names an answer"),
        people_first_share=units.share(
            people * (_HUMAN == _FIRST), people, np.zeros(CELLS), "no human label names an answer"
        ),
        orders_agree=_of_orders(units, _ORIGINAL == _SWAPPED, every),
        flips_to_first=_of_orders(units, _TO_FIRST, every),
        flips_to_second=_of_orders(units, _TO_SECOND, every),
        flips_with_tie=_of_orders(units, with_tie, every),
        preference=preference,
        resampled=units.units,
    )
