"""The narrow tables that all queries of the report use, created once from a run's Parquet files.

- `rows`: one line per request, and one per sample for its aggregated verdict (as judge `VERDICT`):
  `judge, swapped, repeat, ordinal, winner, undecided, score, human, human_score`.
- `pairs`: one line per request with the verdicts of both orders, for judges that name winners: `judge, repeat, ordinal,
  human, original, swapped`.
- `labels`: one line per row with a human label, if judges give labels: `judge, human, label`.

Each table also has the row's `block` (its bootstrap unit) and its group codes `g0`, `g1`, ... Winners are codes: 0 and
1 for the answers, 2 for a tie, `UNREAD` for none. Only rows with status `ok` have a winner, score or label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from runner.report.data.codes import ABSENT, UNREAD, VERDICT, make_codes
from runner.report.data.label_table import make_labels, same_number
from runner.report.data.run_files import open_results, open_samples, positions, quoted
from runner.report.stats.bootstrap import MAX_BLOCKS

MAX_JUDGES = 200
MAX_GROUPS = 50  # values per grouping column

# Up to this many clusters, blocks get equally many of them. With more, a random assignment is close enough to equal.
_MAX_EQUAL_BLOCK_CLUSTERS = 64 * MAX_BLOCKS

Connection = duckdb.DuckDBPyConnection


class ReportError(Exception):
    """The report cannot be made from these files."""


class Judge(msgspec.Struct, frozen=True):
    """One judge, as described by its rows.

    `winners`, `scores` and `labels` say which kinds of verdicts it gives; all are True if no verdict could be read.
    """

    code: int
    name: str
    models: Sequence[str]
    kinds: Sequence[str]
    services: Sequence[str]
    swap: bool
    repeats: int
    rows: int
    winners: bool
    scores: bool
    labels: bool


class Group(msgspec.Struct, frozen=True):
    """A grouping column with its most frequent values; a value's position is its code."""

    column: str
    values: Sequence[str | None]
    values_left_out: int


class Clusters(msgspec.Struct, frozen=True):
    """The bootstrap clusters: rows that are drawn together.

    Attributes:
        by: `question` (its text), or `sample` if samples.parquet has no questions.
        n: the number of clusters.
        blocks: the number of blocks that they were merged into.
        shared: True if any cluster has several samples.
    """

    by: str
    n: int
    blocks: int
    shared: bool


class _Assignment(msgspec.Struct, frozen=True):
    """SQL that adds block, question and group codes to rows with the alias `r`."""

    joins: str
    columns: str


class RunFacts(msgspec.Struct, frozen=True):
    """What was found out about a run when its tables were created.

    Attributes:
        columns: name and type of the columns of the results.
        sample_columns: the same of samples.parquet; empty if there is no such file.
        judges: in the order of their codes.
        groups: the grouping columns.
        clusters: the bootstrap clusters.
        label_classes: the free labels used by humans and judges; None if either has none, empty if there are too many.
        positions: the columns of samples.parquet that hold positions on each judge's own scale, 0 to 1.
        journal_rows: the number of rows that are only in the journal; None if the journal was not read.
    """

    columns: Mapping[str, str]
    sample_columns: Mapping[str, str]
    judges: Sequence[Judge]
    groups: Sequence[Group]
    clusters: Clusters
    label_classes: Sequence[str] | None
    positions: Sequence[str] = ()
    journal_rows: int | None = None


def make_tables(connection: Connection, run_dir: Path, group_by: Sequence[str], journal: str | None) -> RunFacts:
    """Open the files of a run and create the tables.

    Raises:
        ReportError: a grouping column does not exist, or there are too many judges.
    """
    columns, journal_rows = open_results(connection, run_dir / "results", journal, group_by)
    sample_columns = open_samples(connection, run_dir / "samples.parquet")
    _check_groups(group_by, columns, sample_columns)
    judges = _judges(connection)
    groups = tuple(_group(connection, index, column, columns[column]) for index, column in enumerate(group_by))
    clusters, joins, row_columns = _cluster(connection, "question" in sample_columns)
    for index, group in enumerate(groups):
        value = _group_value(f"r.{quoted(group.column)}")
        joins += f" LEFT JOIN group_{index} ON group_{index}.value IS NOT DISTINCT FROM {value}"
        row_columns += f", group_{index}.code AS g{index}"
    assignment = _Assignment(joins, row_columns)
    _make_rows(connection, columns, sample_columns, assignment)
    _make_pairs(connection, judges, len(groups))
    classes = None
    if "human_label" in columns and any(judge.labels for judge in judges):
        classes = make_labels(connection, bool(sample_columns), joins, row_columns)
    in_positions = positions(connection, run_dir / "samples.parquet")
    return RunFacts(columns, sample_columns, judges, groups, clusters, classes, in_positions, journal_rows)


def _check_groups(group_by: Sequence[str], columns: Mapping[str, str], sample_columns: Mapping[str, str]) -> None:
    known = [name for name in columns if name in (sample_columns or columns)]
    for name in group_by:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ReportError(f"report.group_by: {name!r} is not a column carried from the dataset{hint}")


def _judges(connection: Connection) -> tuple[Judge, ...]:
    found = connection.execute(
        "SELECT judge, list(DISTINCT judge_model ORDER BY judge_model), list(DISTINCT kind ORDER BY kind), "
        "list(DISTINCT service ORDER BY service), bool_or(swapped), max(repeat) + 1, count(*), "
        "count(winner), count(score), count(label), bool_or(status = 'ok') FROM results GROUP BY judge ORDER BY judge"
    ).fetchall()
    if len(found) > MAX_JUDGES:
        raise ReportError(f"{len(found)} judges; a report can have at most {MAX_JUDGES}")
    judges = []
    for code, row in enumerate(found):
        kinds = [count > 0 for count in row[7:10]]
        known = any(kinds) or row[10]  # a judge of one criterion has `ok` rows without any of the three
        judges.append(Judge(code, *row[:7], *(kinds if known else (True, True, True))))
    make_codes(connection, "judges", [judge.name for judge in judges])
    return tuple(judges)


def _group(connection: Connection, index: int, column: str, type_: str) -> Group:
    """Find the most frequent values of a column and give them codes.

    A whole number is one value, whether it is written as `1` or as `1.0`; the shortest text in the column is its name.
    """
    value = _group_value(quoted(column))
    name = "value" if type_ != "VARCHAR" else f"min_by({quoted(column)}, length({quoted(column)}))"
    counted = f"SELECT {value} AS value, {name} AS name, count(*) AS n FROM results GROUP BY value"
    try:
        found = connection.execute(f"{counted} ORDER BY n DESC, value LIMIT {MAX_GROUPS}").fetchall()
    except duckdb.Error as error:  # a value or a type that DuckDB cannot read, such as a time beyond its calendar
        reason = str(error).splitlines()[0]
        raise ReportError(f"report.group_by: {column!r} cannot be grouped: {reason}") from error
    left_out = 0
    if len(found) == MAX_GROUPS:
        left_out = _scalar(connection, f"SELECT count(*) FROM ({counted})") - MAX_GROUPS
    make_codes(connection, f"group_{index}", [row[0] for row in found])
    return Group(column, tuple(row[1] for row in found), left_out)


def _group_value(column: str) -> str:
    """Returns SQL for a value of a grouping column as text; NaN, a gap in a column of floats, is null."""
    text = same_number(f"CAST({column} AS VARCHAR)")
    return f"CASE WHEN typeof({column}) IN ('DOUBLE', 'FLOAT') THEN nullif({text}, 'nan') ELSE {text} END"


def _cluster(connection: Connection, by_text: bool) -> tuple[Clusters, str, str]:
    """Find the clusters; returns them with the SQL join and columns that assign a row to its cluster."""
    if by_text:
        text = "nullif(CAST(question AS VARCHAR), '')"  # hash(NULL) is an ordinary number
        question = f"CASE WHEN {text} IS NULL THEN hash(ordinal) ELSE hash({text}) END"
        sample_clusters = f"SELECT DISTINCT ordinal, {question} AS question FROM samples"
    else:
        sample_clusters = "SELECT DISTINCT ordinal, hash(ordinal) AS question FROM results"
    samples = _scalar(connection, f"SELECT count(*) FROM ({sample_clusters})")
    n = _scalar(connection, f"SELECT count(*) FROM (SELECT DISTINCT question FROM ({sample_clusters}))")
    clusters = Clusters("question" if by_text else "sample", n, min(n, MAX_BLOCKS), n < samples)
    if n == samples > _MAX_EQUAL_BLOCK_CLUSTERS:
        return clusters, "", f"hash(r.ordinal) AS question, (hash(r.ordinal) % {MAX_BLOCKS})::USMALLINT AS block"
    number = "question" if n > _MAX_EQUAL_BLOCK_CLUSTERS else "dense_rank() OVER (ORDER BY question)"
    connection.execute(
        f"CREATE TABLE sample_clusters AS SELECT *, ({number} % {MAX_BLOCKS})::USMALLINT AS block "
        f"FROM ({sample_clusters})"
    )
    return (
        clusters,
        "LEFT JOIN sample_clusters ON sample_clusters.ordinal = r.ordinal",
        "coalesce(sample_clusters.question, hash(r.ordinal)) AS question, "
        f"coalesce(sample_clusters.block, {2 * MAX_BLOCKS} + hash(r.ordinal) % {MAX_BLOCKS})::USMALLINT AS block",
    )


def _make_rows(
    connection: Connection, columns: Mapping[str, str], sample_columns: Mapping[str, str], assignment: _Assignment
) -> None:
    connection.execute(
        f"CREATE TABLE rows AS SELECT judges.code::UTINYINT AS judge, r.swapped, r.repeat, {_narrow(columns)}, "
        f"{assignment.columns} FROM results r JOIN judges ON judges.value = r.judge {assignment.joins}"
    )
    if sample_columns:
        connection.execute(
            f"INSERT INTO rows BY NAME SELECT {VERDICT}::UTINYINT AS judge, false AS swapped, 0 AS repeat, "
            f"{_narrow(sample_columns)}, {assignment.columns} FROM samples r {assignment.joins}"
        )


def _narrow(columns: Mapping[str, str]) -> str:
    """Returns SQL for the columns of a row in `rows`: only `ok` rows have a winner or a score."""
    winner = "CASE {} WHEN '1' THEN 0 WHEN '2' THEN 1 WHEN 'tie' THEN 2 ELSE 3 END::UTINYINT"
    human = winner.format("r.human_winner") if "human_winner" in columns else f"{UNREAD}::UTINYINT"
    score = "r.human_score" if "human_score" in columns else "NULL::DOUBLE"
    undecided = "coalesce(r.undecided, false)" if columns.get("undecided") == "BOOLEAN" else "false"
    read = f"CASE WHEN r.status = 'ok' THEN {winner.format('r.winner')} ELSE {UNREAD} END::UTINYINT"
    return (
        f"r.ordinal, {undecided} AS undecided, {read} AS winner, "
        "CASE WHEN r.status = 'ok' AND isfinite(r.score) THEN r.score END AS score, "
        f"{human} AS human, CASE WHEN isfinite({score}) THEN {score} END AS human_score"
    )


def _make_pairs(connection: Connection, judges: Sequence[Judge], groups: int) -> None:
    codes = [str(judge.code) for judge in judges if judge.winners]
    judge_codes = ", ".join([*codes, str(VERDICT)]) if codes else "NULL"
    group_columns = "".join(f", any_value(g{index}) AS g{index}" for index in range(groups))
    connection.execute(
        f"CREATE TABLE pairs AS SELECT judge, repeat, ordinal, any_value(block) AS block{group_columns}, "
        "any_value(human) AS human, "
        f"coalesce(min(winner) FILTER (NOT swapped), {ABSENT})::UTINYINT AS original, "
        f"coalesce(min(winner) FILTER (swapped), {ABSENT})::UTINYINT AS swapped "
        f"FROM rows WHERE judge IN ({judge_codes}) GROUP BY judge, repeat, ordinal"
    )


def _scalar(connection: Connection, sql: str) -> Any:
    """Returns the single value of a query."""
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]
