"""Numbers that stand for names in the tables of the report."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

# Judge code of the aggregated verdict; it is compared in the same way as a judge.
VERDICT = 255
# Winner codes beside 0, 1, 2 (answer 1, answer 2, tie): the verdict could not be read, or it was not requested.
UNREAD, ABSENT = 3, 4


def make_codes(connection: duckdb.DuckDBPyConnection, table: str, values: Sequence[str | None]) -> None:
    """Create a table that maps each value to its position in `values`."""
    connection.execute(f"CREATE TABLE {table} (value VARCHAR, code SMALLINT)")
    for code, value in enumerate(values):
        connection.execute(f"INSERT INTO {table} VALUES (?, ?)", [value, code])
