"""The narrow tables that the report's questions go to, made once from a run's Parquet files.

- `rows`: a line for each request, and for each sample (its aggregated verdict, as judge `VERDICT`):
  `judge, swapped, repeat, ordinal, winner, score, human, human_score`.
- `pairs`: both orders of a request in one line, of judges that name winners: `judge, repeat, ordinal, human, original,
  swapped`.
- `labels`: a line for each row with a human label, where judges give labels: `judge, human, label`.

Each has the row's `block` (what is drawn again together) and its groups' codes `g0`, `g1`, ... Winners are codes: 0 and
1 for the answers, 2 for a tie, `UNREAD` where there is none. Only rows that are `ok` have a winner, score or label.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from runner.report.stats.bootstrap import BLOCKS

VERDICT = 255
"""The code of the aggregated verdict where judges have one: it is compared as they are."""

UNREAD, ABSENT = 3, 4
"""Beside 0, 1, 2 for answer 1, answer 2 and tie: a verdict that could not be read, and one that was not asked for."""

MAX_JUDGES = 200
MAX_GROUPS = 50
MAX_LABELS = 30

_MANY = 64 * BLOCKS
"""With fewer clusters, blocks get equally many of them; with more, what chance gives each is near enough."""

_RESULTS = {
    "ordinal": "BIGINT", "judge": "VARCHAR", "judge_model": "VARCHAR", "kind": "VARCHAR", "service": "VARCHAR",
    "swapped": "BOOLEAN", "repeat": "SMALLINT", "custom_id": "VARCHAR", "route": "VARCHAR", "status": "VARCHAR",
    "score": "DOUBLE", "winner": "VARCHAR", "score1": "DOUBLE", "score2": "DOUBLE", "label": "VARCHAR",
    "dimensions": "STRUCT(name VARCHAR, answer TINYINT, score DOUBLE)[]", "contradiction": "BOOLEAN",
    "response": "VARCHAR", "rule": "VARCHAR", "error_type": "VARCHAR", "error_message": "VARCHAR",
    "attempts": "SMALLINT", "prompt_tokens": "INTEGER", "completion_tokens": "INTEGER", "total_tokens": "INTEGER",
    "cost": "DOUBLE", "latency_s": "DOUBLE", "finished_at": "TIMESTAMP",
}  # fmt: skip
"""What a run without a closed part is taken to have: all columns that are asked for, and no row."""

Connection = duckdb.DuckDBPyConnection


class ReportError(Exception):
    """What was asked of a report cannot be had from these files."""


class Judge(msgspec.Struct, frozen=True):
    """One judge as its rows tell it, and what kinds of verdicts it gives: any, where none could ever be read."""

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
    """A grouping column with its most frequent values; a value's place is its code."""

    column: str
    values: Sequence[str | None]
    values_left_out: int


class Clusters(msgspec.Struct, frozen=True):
    """What is drawn again as a whole.

    Attributes:
        by: `question` (its text) or `sample`, where samples.parquet has no questions.
        n: how many there are.
        blocks: into how many they were put together.
        shared: whether any has several samples.
    """

    by: str
    n: int
    blocks: int
    shared: bool


class _Placing(msgspec.Struct, frozen=True):
    """SQL that adds block, question and group codes to rows named `r`."""

    joins: str
    columns: str


class Tables(msgspec.Struct, frozen=True):
    """What was made: the tables' facts.

    Attributes:
        columns: of the results.
        sample_columns: of samples.parquet; empty where there is none.
        judges: in the order of their codes.
        groups: the columns to break figures down by.
        clusters: what belongs together.
        label_classes: the free labels of people and judges; None where either has none, empty where they are too many.
    """

    columns: Mapping[str, str]
    sample_columns: Mapping[str, str]
    judges: Sequence[Judge]
    groups: Sequence[Group]
    clusters: Clusters
    label_classes: Sequence[str] | None


def make_tables(connection: Connection, run_dir: Path, group_by: Sequence[str]) -> Tables:
    """Open the files of a run and make the tables.

    Raises:
        ReportError: a grouping column is not there, or there are too many judges.
    """
    columns = _open_results(connection, run_dir / "results", group_by)
    of_samples = _open_samples(connection, run_dir / "samples.parquet")
    _check_groups(group_by, columns, of_samples)
    judges = _judges(connection)
    groups = tuple(_group(connection, index, column) for index, column in enumerate(group_by))
    clusters, joins, placed = _cluster(connection, "question" in of_samples)
    for index, group in enumerate(groups):
        value = f"CAST(r.{quoted(group.column)} AS VARCHAR)"
        joins += f" LEFT JOIN group_{index} ON group_{index}.value IS NOT DISTINCT FROM {value}"
        placed += f", group_{index}.code AS g{index}"
    placing = _Placing(joins, placed)
    _make_rows(connection, columns, of_samples, placing)
    _make_pairs(connection, judges, len(groups))
    classes = None
    if "human_label" in columns and any(judge.labels for judge in judges):
        classes = _make_labels(connection, bool(of_samples), placing)
    return Tables(columns, of_samples, judges, groups, clusters, classes)


def make_codes(connection: Connection, table: str, values: Sequence[str | None]) -> None:
    """Make a table that gives each value its place."""
    connection.execute(f"CREATE TABLE {table} (value VARCHAR, code SMALLINT)")
    for code, value in enumerate(values):
        connection.execute(f"INSERT INTO {table} VALUES (?, ?)", [value, code])


def quoted(name: str) -> str:
    """A column's name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _open_results(connection: Connection, results: Path, group_by: Sequence[str]) -> dict[str, str]:
    """All rows of the closed parts; while there is no part yet nothing is known of the dataset's own columns."""
    files = sorted(results.glob("part-*.parquet")) if results.is_dir() else []
    if files:
        connection.execute(f"CREATE VIEW results AS SELECT * FROM {_parquet(files)}")
    else:
        kept = {quoted(name): "VARCHAR" for name in group_by}
        columns = ", ".join(f"{name} {type_}" for name, type_ in {**_RESULTS, **kept}.items())
        connection.execute(f"CREATE TABLE results ({columns})")
    return _columns(connection, "results")


def _open_samples(connection: Connection, path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    connection.execute(f"CREATE VIEW samples AS SELECT * FROM {_parquet([path])}")
    return _columns(connection, "samples")


def _parquet(files: Sequence[Path]) -> str:
    listed = ", ".join("'" + glob.escape(str(file)).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{listed}])"


def _columns(connection: Connection, table: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}


def _check_groups(group_by: Sequence[str], columns: Mapping[str, str], of_samples: Mapping[str, str]) -> None:
    known = [name for name in columns if name in (of_samples or columns)]
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
        raise ReportError(f"{len(found)} judges are more than a report is made for ({MAX_JUDGES})")
    judges = []
    for code, row in enumerate(found):
        given = [kind > 0 for kind in row[7:10]]
        known = any(given) or row[10]  # a judge of one criterion is read, and gives none of them
        judges.append(Judge(code, *row[:7], *(given if known else (True, True, True))))
    make_codes(connection, "judges", [judge.name for judge in judges])
    return tuple(judges)


def _group(connection: Connection, index: int, column: str) -> Group:
    every = f"SELECT CAST({quoted(column)} AS VARCHAR) AS value, count(*) AS n FROM results GROUP BY value"
    found = connection.execute(f"{every} ORDER BY n DESC, value LIMIT {MAX_GROUPS}").fetchall()
    left_out = 0
    if len(found) == MAX_GROUPS:
        left_out = _one(connection, f"SELECT count(*) FROM ({every})") - MAX_GROUPS
    values = tuple(row[0] for row in found)
    make_codes(connection, f"group_{index}", values)
    return Group(column, values, left_out)


def _cluster(connection: Connection, by_text: bool) -> tuple[Clusters, str, str]:
    """Find what belongs together; returns it with the join and the columns that place a row."""
    if by_text:
        text = "nullif(CAST(question AS VARCHAR), '')"  # the hash of a null is a number like any other
        question = f"CASE WHEN {text} IS NULL THEN hash(ordinal) ELSE hash({text}) END"
        places = f"SELECT DISTINCT ordinal, {question} AS question FROM samples"
    else:
        places = "SELECT DISTINCT ordinal, hash(ordinal) AS question FROM results"
    samples = _one(connection, f"SELECT count(*) FROM ({places})")
    n = _one(connection, f"SELECT count(*) FROM (SELECT DISTINCT question FROM ({places}))")
    clusters = Clusters("question" if by_text else "sample", n, min(n, BLOCKS), n < samples)
    if n == samples > _MANY:
        return clusters, "", f"hash(r.ordinal) AS question, (hash(r.ordinal) % {BLOCKS})::USMALLINT AS block"
    block = f"question % {BLOCKS}" if n > _MANY else f"dense_rank() OVER (ORDER BY question) % {BLOCKS}"
    connection.execute(f"CREATE TABLE places AS SELECT *, ({block})::USMALLINT AS block FROM ({places})")
    return (
        clusters,
        "LEFT JOIN places ON places.ordinal = r.ordinal",
        "coalesce(places.question, hash(r.ordinal)) AS question, "
        f"coalesce(places.block, {2 * BLOCKS} + hash(r.ordinal) % {BLOCKS})::USMALLINT AS block",
    )


def _make_rows(
    connection: Connection, columns: Mapping[str, str], of_samples: Mapping[str, str], placing: _Placing
) -> None:
    connection.execute(
        f"CREATE TABLE rows AS SELECT judges.code::UTINYINT AS judge, r.swapped, r.repeat, {_slim(columns)}, "
        f"{placing.columns} FROM results r JOIN judges ON judges.value = r.judge {placing.joins}"
    )
    if of_samples:
        connection.execute(
            f"INSERT INTO rows BY NAME SELECT {VERDICT}::UTINYINT AS judge, false AS swapped, 0 AS repeat, "
            f"{_slim(of_samples)}, {placing.columns} FROM samples r {placing.joins}"
        )


def _slim(columns: Mapping[str, str]) -> str:
    """What is read of a row: nothing but what is `ok` has a winner or a score."""
    winner = "CASE {} WHEN '1' THEN 0 WHEN '2' THEN 1 WHEN 'tie' THEN 2 ELSE 3 END::UTINYINT"
    human = winner.format("r.human_winner") if "human_winner" in columns else f"{UNREAD}::UTINYINT"
    score = "r.human_score" if "human_score" in columns else "NULL::DOUBLE"
    return (
        f"r.ordinal, CASE WHEN r.status = 'ok' THEN {winner.format('r.winner')} ELSE {UNREAD} END::UTINYINT AS winner, "
        "CASE WHEN r.status = 'ok' AND isfinite(r.score) THEN r.score END AS score, "
        f"{human} AS human, CASE WHEN isfinite({score}) THEN {score} END AS human_score"
    )


def _make_pairs(connection: Connection, judges: Sequence[Judge], groups: int) -> None:
    codes = [str(judge.code) for judge in judges if judge.winners]
    naming = ", ".join([*codes, str(VERDICT)]) if codes else "NULL"
    kept = "".join(f", any_value(g{index}) AS g{index}" for index in range(groups))
    connection.execute(
        f"CREATE TABLE pairs AS SELECT judge, repeat, ordinal, any_value(block) AS block{kept}, "
        "any_value(human) AS human, "
        f"coalesce(min(winner) FILTER (NOT swapped), {ABSENT})::UTINYINT AS original, "
        f"coalesce(min(winner) FILTER (swapped), {ABSENT})::UTINYINT AS swapped "
        f"FROM rows WHERE judge IN ({naming}) GROUP BY judge, repeat, ordinal"
    )


def _make_labels(connection: Connection, with_samples: bool, placing: _Placing) -> Sequence[str]:
    labels = "SELECT human_label AS value FROM results UNION SELECT label FROM results WHERE status = 'ok'"
    used = f"SELECT value FROM ({labels}) WHERE value IS NOT NULL LIMIT {MAX_LABELS + 1}"
    classes = sorted(value for (value,) in connection.execute(used).fetchall())
    if len(classes) > MAX_LABELS:
        return ()
    make_codes(connection, "label_codes", classes)
    columns = f"{placing.columns}, h.code AS human, coalesce(l.code, {len(classes)}) AS label"
    coded = (
        "JOIN label_codes h ON h.value = r.human_label LEFT JOIN label_codes l ON l.value = r.label AND r.status = 'ok'"
    )
    connection.execute(
        f"CREATE TABLE labels AS SELECT judges.code::UTINYINT AS judge, {columns} FROM results r "
        f"JOIN judges ON judges.value = r.judge {placing.joins} {coded}"
    )
    if with_samples:
        connection.execute(
            f"INSERT INTO labels SELECT {VERDICT}::UTINYINT, {columns} FROM samples r {placing.joins} {coded}"
        )
    return classes


def _one(connection: Connection, sql: str) -> Any:
    """The one value that a query gives."""
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]
