"""Queries on the rows of a run. DuckDB does the aggregation, and only sums are loaded into Python.

This module knows only the columns of the run's Parquet files. DuckDB reads them out of core, within a memory limit.
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

from runner.report.data.codes import make_codes
from runner.report.data.tables import MAX_GROUPS, ReportError, RunFacts, make_tables
from runner.report.stats.bootstrap import Floats

MEMORY_LIMIT = "320MB"
MAX_THREADS = 4  # each thread needs its own memory; more would not fit into the limit
# Quantiles of more values than this are approximate: exact ones would need all values in memory.
MAX_EXACT_QUANTILE_VALUES = 1_000_000

Key = tuple[int, int | None]  # codes of the judge and of the grouping column's value (None: all rows)
T = TypeVar("T")


class RunTables:
    """Runs queries on the tables of a run.

    Attributes:
        facts: the judges, groups and columns of the run.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, facts: RunFacts) -> None:
        self.facts = facts
        self._connection = connection

    def run(self, sql: str) -> None:
        """Execute a statement without a result."""
        self._connection.execute(sql)

    def code(self, table: str, values: Sequence[str]) -> None:
        """Create a table that maps each value to its position in `values`."""
        make_codes(self._connection, table, values)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Returns the result of a query as tuples."""
        return self._connection.execute(sql).fetchall()

    def row(self, sql: str) -> tuple[Any, ...]:
        """Returns the single row of a query."""
        (row,) = self.rows(sql)
        return row

    def lowest_score(self) -> float:
        """Returns the lowest score, to be subtracted before squares are summed; 0 if there are no scores."""
        (lowest,) = self.row("SELECT min(score) FROM rows")
        return 0.0 if lowest is None else float(lowest)

    def records(self, sql: str) -> list[dict[str, Any]]:
        """Returns the result of a query as dicts by column name."""
        found = self._connection.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def arrays(self, sql: str) -> dict[str, NDArray[Any]]:
        """Returns the result of a query as an array per column; null becomes NaN."""
        found = self._connection.execute(sql).fetchnumpy()
        return {name: _filled(column) for name, column in found.items()}

    def cells(self, table: str, cell: str, width: int, by: int | None, where: str = "true") -> dict[Key, Floats]:
        """Count rows by cell.

        Args:
            table: a table with `judge`, `block` and the group codes.
            cell: SQL for the cell number of a row.
            width: the number of cells.
            by: index of the grouping column; None for all rows.
            where: SQL condition for the rows to count.

        Returns an array (blocks, width) for each judge and group.
        """
        found = self.arrays(
            f"SELECT judge, {grouped(by)} AS g, block, ({cell})::INTEGER AS cell, count(*)::DOUBLE AS n "
            f"FROM {table} WHERE ({where}) AND {having(by)} GROUP BY ALL"
        )
        sums: dict[Key, Floats] = {}
        for key, here in _by_key(found):
            blocks, index = np.unique(found["block"][here], return_inverse=True)
            matrix = np.zeros((len(blocks), width))
            np.add.at(matrix, (index, found["cell"][here]), found["n"][here])
            sums[key] = matrix
        return sums

    def sums(self, table: str, terms: Sequence[str], by: int | None, where: str = "true") -> dict[Key, Floats]:
        """Compute SQL aggregates (null becomes 0); returns an array (blocks, terms) for each judge and group."""
        names = [f"t{index}" for index in range(len(terms))]
        listed = ", ".join(f"coalesce({term}, 0)::DOUBLE AS {name}" for term, name in zip(terms, names, strict=True))
        found = self.arrays(
            f"SELECT judge, {grouped(by)} AS g, block, {listed} FROM {table} "
            f"WHERE ({where}) AND {having(by)} GROUP BY judge, g, block ORDER BY judge, g, block"
        )
        matrix = np.column_stack([found[name] for name in names])
        return {key: matrix[here] for key, here in _by_key(found)}

    def block_sums(
        self, table: str, terms: Sequence[str], by: int | None, where: str
    ) -> dict[Key, tuple[NDArray[Any], Floats]]:
        """Compute SQL aggregates as `sums` does, and return the block of each line, too."""
        numbered = self.sums(table, ("any_value(block)", *terms), by, where)
        return {key: (found[:, 0].astype(np.int64), found[:, 1:]) for key, found in numbered.items()}

    def by_group(self, compute: Callable[[int | None], Mapping[Key, T]], judge: int) -> ByGroup[T]:
        """Compute something for all rows of a judge, and for each value of each grouping column.

        Args:
            compute: takes the index of a grouping column (None: all rows) and returns results by judge and value.
            judge: code of the judge.
        """
        groups = {}
        for index, group in enumerate(self.facts.groups):
            results = compute(index)
            by_value = [(value, results.get((judge, code))) for code, value in enumerate(group.values)]
            groups[group.column] = [(value, result) for value, result in by_value if result is not None]
        return compute(None).get((judge, None)), groups


# The result for all rows (None if there are none), and the results by grouping column and value.
ByGroup = tuple[T | None, dict[str, list[tuple[str | None, T]]]]


@contextmanager
def open_tables(
    run_dir: Path, group_by: Sequence[str] = (), journal: str | None = None, memory: str = MEMORY_LIMIT
) -> Iterator[RunTables]:
    """Open a run's Parquet files.

    Args:
        run_dir: the run directory.
        group_by: columns carried from the dataset.
        journal: as in `summarize`.
        memory: DuckDB's memory limit; data beyond it is spilled to a temporary folder in the run directory.

    Raises:
        ReportError: a grouping column does not exist, or a file cannot be read.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "threads": min(MAX_THREADS, os.cpu_count() or 1),
        "temp_directory": str(run_dir / ".report.tmp"),
        "preserve_insertion_order": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        yield RunTables(connection, make_tables(connection, run_dir, group_by, journal))
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise ReportError(f"{run_dir}: {str(error).splitlines()[0]}") from error
    finally:
        connection.close()


def distinct(columns: str, table: str, where: str = "true") -> str:
    """Returns SQL for the distinct values of columns. Counting its rows can spill to disk."""
    return f"(SELECT DISTINCT {columns} FROM {table} WHERE {where})"


def quantiles(column: str, shares: Sequence[float], n: int) -> str:
    """Returns SQL for the quantiles of a column with about `n` values."""
    return f"{'quantile_cont' if n <= MAX_EXACT_QUANTILE_VALUES else 'approx_quantile'}({column}, {list(shares)})"


def grouped(by: int | None) -> str:
    """Returns SQL for the code of a row's value in the grouping column; -1 if all rows are one group."""
    return "(-1)::SMALLINT" if by is None else f"g{by}"


def having(by: int | None) -> str:
    """Returns the SQL condition that a row has one of the grouping column's listed values."""
    return "true" if by is None else f"g{by} IS NOT NULL"


def _filled(column: Any) -> NDArray[Any]:
    if isinstance(column, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(column.astype(np.float64), np.nan))
    return np.asarray(column)


def _by_key(found: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Key, NDArray[np.intp]]]:
    """Yields the row numbers of each judge and group, in their original order."""
    keys = found["judge"].astype(np.int64) * (MAX_GROUPS + 1) + found["g"].astype(np.int64) + 1
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for here in np.split(order, starts[1:]) if len(order) else ():
        group = int(found["g"][here[0]])
        yield (int(found["judge"][here[0]]), None if group < 0 else group), here
