"""The table of free labels: one line per row with a human label, if judges give labels, too."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from runner.report.data.codes import VERDICT, make_codes

MAX_LABELS = 30


def make_labels(
    connection: duckdb.DuckDBPyConnection, with_samples: bool, joins: str, row_columns: str
) -> Sequence[str] | None:
    """Create the table of labels.

    Args:
        connection: the connection with the results.
        with_samples: True if there is a samples.parquet.
        joins: SQL that joins the codes of a row's block, question and groups.
        row_columns: SQL for these codes.

    Returns the classes: None if people or judges gave no label, empty if there are too many different labels.
    """
    human, label = (same_number(f"r.{name}") for name in ("human_label", "label"))
    used = [
        f"SELECT DISTINCT {value} AS value FROM results r WHERE {where} LIMIT {MAX_LABELS + 1}"
        for value, where in (
            (human, "r.human_label IS NOT NULL"),
            (label, "r.label IS NOT NULL AND r.status = 'ok'"),
        )
    ]
    by_source = [{value for (value,) in connection.execute(one).fetchall()} for one in used]
    if not all(by_source):
        return None
    classes = sorted(set().union(*by_source))
    if len(classes) > MAX_LABELS:
        return ()
    make_codes(connection, "label_codes", classes)
    columns = f"{row_columns}, h.code AS human, coalesce(l.code, {len(classes)}) AS label"
    coded = f"JOIN label_codes h ON h.value = {human} LEFT JOIN label_codes l ON l.value = {label} AND r.status = 'ok'"
    connection.execute(
        f"CREATE TABLE labels AS SELECT judges.code::UTINYINT AS judge, {columns} FROM results r "
        f"JOIN judges ON judges.value = r.judge {joins} {coded}"
    )
    if with_samples:
        connection.execute(f"INSERT INTO labels SELECT {VERDICT}::UTINYINT, {columns} FROM samples r {joins} {coded}")
    return classes


def same_number(column: str) -> str:
    """Returns SQL for a text in which a whole number has one spelling: `1.0`, as some tools write it, is `1`."""
    return f"regexp_replace({column}, '^([+-]?\\d+)\\.0*$', '\\1')"
