"""The rows of a run as DuckDB sees them: what the report asks is asked here, and only sums come back.

Nothing is known of a run but the columns of its Parquet files. DuckDB reads them out of core, within a memory limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
from numpy.typing import NDArray

from runner.report.data.tables import MAX_GROUPS, ReportError, Tables, make_codes, make_tables
from runner.report.stats.bootstrap import Floats

MEMORY = "320MB"
THREADS = 4
"""Each thread needs memory of its own; more would not fit into so little."""

EXACT = 1_000_000
"""Quantiles of more values than this are near ones: exact ones would have to hold all values in memory."""

Key = tuple[int, int | None]
"""Judge and value of the grouping column (None: all rows), by their codes."""

Made = TypeVar("Made")


class RunTables:
    """A run's tables, and the ways to ask them.

    Attributes:
        tables: what there is.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
        self.tables = tables
        self._connection = connection

    def run(self, sql: str) -> None:
        """Execute what gives nothing."""
        self._connection.execute(sql)

    def code(self, table: str, values: Sequence[str]) -> None:
        """Make a table that gives each value its place."""
        make_codes(self._connection, table, values)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives, as tuples."""
        return self._connection.execute(sql).fetchall()

    def row(self, sql: str) -> tuple[Any, ...]:
        """The one line that a query gives."""
        (row,) = self.rows(sql)
        return row

    def lowest_score(self) -> float:
        """The lowest score there is, to sum up squares from; 0 where there is none."""
        (lowest,) = self.row("SELECT min(score) FROM rows")
        return 0.0 if lowest is None else float(lowest)

    def records(self, sql: str) -> list[dict[str, Any]]:
        """What a query gives, by column name."""
        found = self._connection.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def arrays(self, sql: str) -> dict[str, NDArray[Any]]:
        """What a query gives, an array for each column of numbers; a null is not a number."""
        found = self._connection.execute(sql).fetchnumpy()
        return {name: _filled(column) for name, column in found.items()}

    def cells(self, table: str, cell: str, width: int, by: int | None, where: str = "true") -> dict[Key, Floats]:
        """Count rows by cell: for each judge and group, (blocks, width).

        Args:
            table: has `judge`, `block` and the group codes.
            cell: SQL for the number of a row's cell.
            width: how many cells there are.
            by: the grouping column's place; None for all rows.
            where: SQL for the rows that count.
        """
        found = self.arrays(
            f"SELECT judge, {grouped(by)} AS g, block, ({cell})::INTEGER AS cell, count(*)::DOUBLE AS n "
            f"FROM {table} WHERE ({where}) AND {having(by)} GROUP BY ALL"
        )
        sums: dict[Key, Floats] = {}
        for key, here in _by_key(found):
            blocks, place = np.unique(found["block"][here], return_inverse=True)
            matrix = np.zeros((len(blocks), width))
            np.add.at(matrix, (place, found["cell"][here]), found["n"][here])
            sums[key] = matrix
        return sums

    def sums(self, table: str, terms: Sequence[str], by: int | None, where: str = "true") -> dict[Key, Floats]:
        """Sum up terms (SQL aggregates; null is 0): for each judge and group, (blocks, terms)."""
        names = [f"t{index}" for index in range(len(terms))]
        listed = ", ".join(f"coalesce({term}, 0)::DOUBLE AS {name}" for term, name in zip(terms, names, strict=True))
        found = self.arrays(
            f"SELECT judge, {grouped(by)} AS g, block, {listed} FROM {table} "
            f"WHERE ({where}) AND {having(by)} GROUP BY judge, g, block ORDER BY judge, g, block"
        )
        matrix = np.column_stack([found[name] for name in names])
        return {key: matrix[here] for key, here in _by_key(found)}

    def by_group(self, make: Callable[[int | None], Mapping[Key, Made]], judge: int) -> ByGroup[Made]:
        """What `make` makes of all rows, and of the rows of each value of each grouping column."""
        groups = {}
        for index, group in enumerate(self.tables.groups):
            made = make(index)
            found = [(value, made.get((judge, code))) for code, value in enumerate(group.values)]
            groups[group.column] = [(value, one) for value, one in found if one is not None]
        return make(None).get((judge, None)), groups


ByGroup = tuple[Made | None, dict[str, list[tuple[str | None, Made]]]]
"""Something of all rows (None where there is nothing), and by grouping column, of each of its values."""


@contextmanager
def open_store(run_dir: Path, group_by: Sequence[str] = (), memory: str = MEMORY) -> Iterator[RunTables]:
    """Open a run's Parquet files; what does not fit into `memory` goes to the run directory's disk meanwhile.

    Raises:
        ReportError: a grouping column is not there, or a file cannot be read.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "threads": min(THREADS, os.cpu_count() or 1),
        "temp_directory": str(run_dir / ".report.tmp"),
        "preserve_insertion_order": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        yield RunTables(connection, make_tables(connection, run_dir, group_by))
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise ReportError(f"{run_dir}: {str(error).splitlines()[0]}") from error
    finally:
        connection.close()


def distinct(columns: str, table: str, where: str = "true") -> str:
    """SQL for the different values of some columns; counted this way they may go to the disk."""
    return f"(SELECT DISTINCT {columns} FROM {table} WHERE {where})"


def quantiles(column: str, shares: Sequence[float], n: int) -> str:
    """SQL for the quantiles of a column of some `n` values."""
    return f"{'quantile_cont' if n <= EXACT else 'approx_quantile'}({column}, {list(shares)})"


def grouped(by: int | None) -> str:
    """SQL for the group of a row: the code of its value in the grouping column, -1 for all rows."""
    return "(-1)::SMALLINT" if by is None else f"g{by}"


def having(by: int | None) -> str:
    """SQL for whether a row has one of the values that are told apart."""
    return "true" if by is None else f"g{by} IS NOT NULL"


def _filled(column: Any) -> NDArray[Any]:
    if isinstance(column, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(column.astype(np.float64), np.nan))
    return np.asarray(column)


def _by_key(found: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Key, NDArray[np.intp]]]:
    """The rows of each judge and group, in the order in which they came."""
    keys = found["judge"].astype(np.int64) * (MAX_GROUPS + 1) + found["g"].astype(np.int64) + 1
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for here in np.split(order, starts[1:]) if len(order) else ():
        group = int(found["g"][here[0]])
        yield (int(found["judge"][here[0]]), None if group < 0 else group), here
