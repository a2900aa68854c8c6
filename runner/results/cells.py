"""The values of rows as cells of a CSV file, for programs and for Excel."""

from __future__ import annotations

import re
from typing import Any

import msgspec

# A spreadsheet runs a cell that begins with one of these as a formula; full-width forms count in East Asian versions.
_FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)

# Excel spreads a longer cell over the following cells and lines.
EXCEL_CELL_MAX_UTF16_UNITS = 32_767
CUT_MARK = " … [cut]"


def plain_cell(value: Any) -> Any:
    """Return a value as a cell: lists and structs as JSON."""
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value


def harmless_cell(value: Any) -> Any:
    """Return a value as a cell. A text that a spreadsheet would run as a formula begins with an apostrophe."""
    cell = plain_cell(value)
    is_formula = isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


class ExcelCells:
    """Makes cells that Excel shows as text and never runs.

    Attributes:
        cut: the number of cells that were too long for Excel and end with `CUT_MARK`.
    """

    def __init__(self) -> None:
        self.cut = 0

    def cell(self, value: Any) -> Any:
        """Return a value as a harmless cell that is not too long."""
        cell = harmless_cell(value)
        if not isinstance(cell, str):
            return cell
        if 2 * len(cell) > EXCEL_CELL_MAX_UTF16_UNITS:  # a character takes one unit or two
            cell = self._fitting(cell)
        return cell

    def _fitting(self, cell: str) -> str:
        units = cell.encode("utf-16-le")
        if len(units) <= 2 * EXCEL_CELL_MAX_UTF16_UNITS:
            return cell
        self.cut += 1
        return units[: 2 * (EXCEL_CELL_MAX_UTF16_UNITS - len(CUT_MARK))].decode("utf-16-le", "ignore") + CUT_MARK
