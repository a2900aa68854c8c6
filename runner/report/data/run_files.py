"""Opens the Parquet files of a run as `results` and `samples`."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import msgspec

# All columns of the results that are queried. A run without a row has them; parts of an earlier version may lack some,
# which are then null.
_RESULT_COLUMNS = {
    "ordinal": "BIGINT", "judge": "VARCHAR", "judge_model": "VARCHAR", "kind": "VARCHAR", "service": "VARCHAR",
    "swapped": "BOOLEAN", "repeat": "SMALLINT", "custom_id": "VARCHAR", "route": "VARCHAR", "status": "VARCHAR",
    "score": "DOUBLE", "winner": "VARCHAR", "score1": "DOUBLE", "score2": "DOUBLE", "label": "VARCHAR",
    "dimensions": "STRUCT(name VARCHAR, answer TINYINT, score DOUBLE)[]", "contradiction": "BOOLEAN",
    "response": "VARCHAR", "rule": "VARCHAR", "error_type": "VARCHAR", "error_message": "VARCHAR",
    "attempts": "SMALLINT", "prompt_tokens": "INTEGER", "completion_tokens": "INTEGER", "total_tokens": "INTEGER",
    "cost": "DOUBLE", "latency_s": "DOUBLE", "finished_at": "TIMESTAMP", "served_model": "VARCHAR",
    "cached_tokens": "INTEGER",
}  # fmt: skip

# The key in the metadata of samples.parquet under which the runner lists the columns that hold positions.
_POSITIONS_KEY = "judge_runner.positions"

Connection = duckdb.DuckDBPyConnection


def open_results(
    connection: Connection, results: Path, journal: str | None, group_by: Sequence[str]
) -> tuple[dict[str, str], int | None]:
    """Open all rows as `results`. Before there is one, the dataset's own columns are unknown.

    Args:
        connection: the connection.
        results: the folder of the closed parts.
        journal: a Parquet file with the rows of the journal; empty if it has none, None if they are not read.
        group_by: the grouping columns.

    Returns the columns, and the number of rows that only the journal has (None: the journal is not read).
    """
    files = sorted(results.glob("part-*.parquet")) if results.is_dir() else []
    sources = [_parquet(files)] if files else []
    journal_rows = None if journal is None else 0
    if journal:
        path = Path(journal)
        connection.execute(f"CREATE VIEW journal AS SELECT * FROM {_parquet([path])}")
        journal_rows = connection.execute("SELECT count(*) FROM journal").fetchall()[0][0]
        # A row of the journal replaces the row of the same request in a part.
        sources = [f"{source} WHERE custom_id NOT IN (SELECT custom_id FROM journal)" for source in sources]
        sources.append("journal")
    if sources:
        union = " UNION ALL BY NAME ".join(f"SELECT * FROM {source}" for source in sources)
        connection.execute(f"CREATE VIEW parts AS {union}")
        absent = _RESULT_COLUMNS.keys() - columns_of(connection, "parts").keys()
        nulls = "".join(f", NULL::{_RESULT_COLUMNS[name]} AS {name}" for name in sorted(absent))
        connection.execute(f"CREATE VIEW results AS SELECT *{nulls} FROM parts")
    else:
        group_columns = {quoted(name): "VARCHAR" for name in group_by}
        columns = ", ".join(f"{name} {type_}" for name, type_ in {**_RESULT_COLUMNS, **group_columns}.items())
        connection.execute(f"CREATE TABLE results ({columns})")
    return columns_of(connection, "results"), journal_rows


def open_samples(connection: Connection, path: Path) -> Mapping[str, str]:
    """Open samples.parquet as `samples`; returns its columns, none if there is no such file."""
    if not path.exists():
        return {}
    connection.execute(f"CREATE VIEW samples AS SELECT * FROM {_parquet([path])}")
    return columns_of(connection, "samples")


def positions(connection: Connection, path: Path) -> Sequence[str]:
    """Returns the columns that hold positions, which the runner lists in the metadata of samples.parquet."""
    if not path.exists():
        return ()
    found = connection.execute(
        f"SELECT decode(value) FROM parquet_kv_metadata({_listed([path])}) WHERE decode(key) = '{_POSITIONS_KEY}'"
    ).fetchone()
    return () if found is None else msgspec.json.decode(found[0], type=tuple[str, ...])


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    """Returns the columns of a table with their types."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}


def quoted(name: str) -> str:
    """Returns a column's name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _parquet(files: Sequence[Path]) -> str:
    # A folder called `key=value` around the run is no column of it. While a run directory of an earlier version gets
    # new columns, only some of its parts have them.
    return f"read_parquet({_listed(files)}, hive_partitioning = false, union_by_name = true)"


def _listed(files: Sequence[Path]) -> str:
    """Returns SQL for a list of paths."""
    return "[" + ", ".join("'" + glob.escape(str(file)).replace("'", "''") + "'" for file in files) + "]"
