"""One line per sample: the verdict after both orders, all repeats and the whole panel."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from runner.results.completion import VariantKey
from runner.results.parts import PartWriter, open_part, part_paths
from runner.results.schema import DIMENSION, to_batch
from runner.types import Row

WINDOW_SAMPLES = 4096
TEXT_SAMPLES_PER_READ = 256
"""Lines get their texts so many at a time: they are most of what there is, in memory and for the processor's cache."""

CACHED_ROW_GROUPS = 4
"""Row groups that are kept, as neighbouring windows share them."""

VOTE = pa.struct(
    [
        ("judge", pa.string()),
        ("swapped", pa.bool_()),
        ("repeat", pa.int16()),
        ("winner", pa.string()),
        ("score", pa.float64()),
    ]
)
_VERDICT = (
    pa.field("sample_id", pa.string()),
    pa.field("ordinal", pa.int64()),
    pa.field("winner", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("score1", pa.float64()),
    pa.field("score2", pa.float64()),
    pa.field("label", pa.string()),
    pa.field("dimensions", pa.list_(DIMENSION)),
    pa.field("votes", pa.list_(VOTE)),
    pa.field("agreement", pa.float64()),
    pa.field("consistent", pa.bool_()),
    pa.field("status", pa.string()),
    pa.field("cost", pa.float64()),
)
TEXT_FIELDS = ("question", "answer", "answer1", "answer2", "reference")

Texts = Callable[[Sequence[int]], Sequence[pa.Array]]
"""The texts of the samples of some ordinals, in their order, a column for each name."""


class Aggregation(msgspec.Struct, frozen=True):
    """How votes become one verdict (the YAML's `aggregate`), and over which variants.

    Attributes:
        score: `mean` or `median`.
        min_valid: with fewer votes there is no verdict.
        variants: the requests of a sample.
        swap: whether any judge is asked in both orders.
        criteria: the dimension of each judge that has one: its rows are no votes on the whole.
    """

    score: str
    min_valid: int
    variants: frozenset[VariantKey]
    swap: bool
    criteria: Mapping[str, str] = {}

    @property
    def whole(self) -> bool:
        """Whether any judge votes on the whole."""
        return any(judge not in self.criteria for judge, _, _ in self.variants)


def samples_schema(extra: Sequence[pa.Field], texts: Sequence[str]) -> pa.Schema:
    """Columns of samples.parquet: the verdict, the dataset's own columns, and the texts where they are kept."""
    return pa.schema([*_VERDICT, *extra, *(pa.field(name, pa.string()) for name in texts)])


def write_samples(
    directory: Path,
    extra: Sequence[pa.Field],
    aggregation: Aggregation,
    compression: str,
    text_columns: Sequence[str],
    texts: Texts,
) -> int:
    """Write `samples.parquet` from the closed parts, a window of ordinals at a time; returns its number of lines."""
    schema = samples_schema(extra, text_columns)
    names = [field.name for field in extra]
    verdicts = pa.schema([*_VERDICT, *extra])
    writer = PartWriter(directory / "samples.parquet", schema, compression)
    try:
        for rows in _windows(directory / "results", names):
            if len(aggregation.variants) == 1 and aggregation.whole:
                lines = _of_one(rows, verdicts, aggregation)
            else:
                lines = to_batch(_lines(rows.to_pylist(), names, aggregation), verdicts)
            for start in range(0, lines.num_rows, TEXT_SAMPLES_PER_READ):
                writer.add_batch(_with_texts(lines.slice(start, TEXT_SAMPLES_PER_READ), schema, text_columns, texts))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return writer.rows


def _with_texts(lines: pa.RecordBatch, schema: pa.Schema, names: Sequence[str], texts: Texts) -> pa.RecordBatch:
    if not names:
        return lines
    return pa.RecordBatch.from_arrays([*lines.columns, *texts(lines["ordinal"].to_pylist())], schema=schema)


def _of_one(rows: pa.Table, schema: pa.Schema, how: Aggregation) -> pa.RecordBatch:
    """The same as `aggregate` for a run that asks each sample once, whole columns at a time: the usual run."""
    ((judge, swapped, repeat),) = how.variants
    mine = pc.and_(pc.equal(rows["judge"], judge), pc.equal(rows["repeat"], repeat))
    rows = rows.filter(pc.and_(mine, pc.equal(rows["swapped"], swapped))).sort_by("ordinal").combine_chunks()
    voted = pc.equal(rows["status"], "ok")
    valid = voted if how.min_valid <= 1 else pc.and_(voted, False)
    columns = {name: rows[name] for name in rows.column_names}
    for name in ("winner", "score", "score1", "score2", "label"):
        columns[name] = pc.if_else(valid, rows[name], None)
    decided = pc.or_(pc.is_valid(columns["winner"]), pc.is_valid(columns["label"]))
    columns["agreement"] = pc.if_else(decided, 1.0, None)
    columns["status"] = pc.if_else(valid, "ok", "unparsed")
    columns["consistent"] = pa.nulls(rows.num_rows, pa.bool_())
    vote = [rows[field.name].filter(voted).combine_chunks() for field in VOTE]
    columns["votes"] = _lists(voted.cast(pa.int32()), pa.StructArray.from_arrays(vote, fields=list(VOTE)))
    lengths = pc.if_else(valid, pc.fill_null(pc.list_value_length(rows["dimensions"]), 0), 0)
    columns["dimensions"] = _lists(lengths, rows["dimensions"].filter(valid).combine_chunks().flatten())
    lines = pa.table([columns[field.name] for field in schema], schema=schema).combine_chunks().to_batches()
    return lines[0] if lines else pa.RecordBatch.from_pylist([], schema)


def _lists(lengths: pa.ChunkedArray, values: pa.Array) -> pa.Array:
    """A list column from the length of each list and all their values in a row."""
    ends = pc.cumulative_sum(lengths).combine_chunks().cast(pa.int32())
    return pa.ListArray.from_arrays(pa.concat_arrays([pa.array([0], pa.int32()), ends]), values)


def aggregate(rows: Sequence[Row], how: Aggregation) -> Row:
    """The verdict of one sample over its rows: every `ok` row is one vote, but those of judges of one criterion.

    Most votes win and equal top counts are a tie; scores are averaged; fewer than `min_valid` votes leave nothing but
    the criteria. Where no judge votes on the whole, the criteria's rows count for `min_valid` and the status instead.
    `consistent` says whether every pair of orders names the same answer; None without swap or without such a pair.
    """
    read = sorted((row for row in rows if row["status"] == "ok"), key=_order)
    votes = [row for row in read if row["judge"] not in how.criteria]
    criteria = [_only(row, how.criteria[row["judge"]]) for row in read if row["judge"] in how.criteria]
    middle = statistics.median if how.score == "median" else statistics.fmean
    winners = Counter(row["winner"] for row in votes if row["winner"] is not None)
    labels = Counter(row["label"] for row in votes if row["label"] is not None)
    verdict: Row = {
        "votes": [{name: row[name] for name in ("judge", "swapped", "repeat", "winner", "score")} for row in votes],
        "agreement": None,
        "consistent": _consistent(votes) if how.swap else None,
        "status": "ok",
        "cost": _sum(row["cost"] for row in rows),
        "dimensions": _dimensions(criteria, middle),
    }
    if len(votes if how.whole else criteria) < how.min_valid:
        return {**verdict, "status": "unparsed"}
    verdict["winner"], verdict["agreement"] = _most(winners, "tie")
    label, labels_agree = _most(labels, None)
    verdict["label"] = label
    if verdict["agreement"] is None:
        verdict["agreement"] = labels_agree
    for name in ("score", "score1", "score2"):
        values = [row[name] for row in votes if row[name] is not None]
        verdict[name] = middle(values) if values else None
    alone = len(votes) == len(read) == 1
    verdict["dimensions"] = votes[0]["dimensions"] or [] if alone else _dimensions([*votes, *criteria], middle)
    return verdict


def _only(row: Row, name: str) -> Row:
    """A row with no score but that of one criterion."""
    return {**row, "dimensions": [item for item in row["dimensions"] or () if item["name"] == name]}


def _order(row: Row) -> tuple[str, bool, int]:
    """Answers come in any order; votes stand in one."""
    return row["judge"], row["swapped"], row["repeat"]


def _lines(rows: Sequence[Row], names: Sequence[str], how: Aggregation) -> list[Row]:
    by_ordinal: dict[int, list[Row]] = {}
    for row in rows:
        if (row["judge"], row["swapped"], row["repeat"]) in how.variants:
            by_ordinal.setdefault(row["ordinal"], []).append(row)
    lines = []
    for ordinal, group in sorted(by_ordinal.items()):
        first = group[0]
        own = {name: first[name] for name in ("sample_id", *names)}
        lines.append({"ordinal": ordinal, **own, **aggregate(group, how)})
    return lines


def _windows(results: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """All rows, a window of ordinals at a time; only row groups whose statistics touch the window are read."""
    columns = ["sample_id", "ordinal", "judge", "swapped", "repeat", "status", "winner", "score", "score1", "score2"]
    columns += ["label", "dimensions", "cost", *names]
    groups = [
        (low, high, path, index)
        for path in part_paths(results).values()
        for index, (low, high) in enumerate(_spans(path))
    ]
    read = lru_cache(CACHED_ROW_GROUPS)(partial(_group, columns=columns))
    last = max((high for _, high, _, _ in groups), default=-1)
    for begin in range(0, last + 1, WINDOW_SAMPLES):
        end = begin + WINDOW_SAMPLES
        near = [read(path, index) for low, high, path, index in groups if low < end and high >= begin]
        if near:
            yield pa.concat_tables(_inside(table, begin, end) for table in near)


def _spans(path: Path) -> list[tuple[int, int]]:
    """Lowest and highest ordinal of each row group, from the file's own statistics."""
    part = open_part(path)
    try:
        meta = part.metadata
        column = part.schema_arrow.get_field_index("ordinal")
        groups = (meta.row_group(index).column(column).statistics for index in range(meta.num_row_groups))
        return [(group.min, group.max) for group in groups]
    finally:
        part.close()


def _group(path: Path, index: int, columns: Sequence[str]) -> pa.Table:
    part = open_part(path)
    try:
        return part.read_row_group(index, columns=list(columns)).select(columns)
    finally:
        part.close()


def _inside(table: pa.Table, begin: int, end: int) -> pa.Table:
    return table.filter(pc.and_(pc.greater_equal(table["ordinal"], begin), pc.less(table["ordinal"], end)))


def _most(counts: Mapping[Any, int], draw: Any) -> tuple[Any, float | None]:
    """The value with most votes and its share; equal top counts give `draw`."""
    if not counts:
        return None, None
    top = max(counts.values())
    leaders = [value for value, count in counts.items() if count == top]
    verdict = leaders[0] if len(leaders) == 1 else draw
    return verdict, counts.get(verdict, 0) / sum(counts.values())


def _consistent(votes: Sequence[Row]) -> bool | None:
    by_pair: dict[tuple[str, int], dict[bool, str]] = {}
    for row in votes:
        if row["winner"] is not None:
            by_pair.setdefault((row["judge"], row["repeat"]), {})[row["swapped"]] = row["winner"]
    pairs = [pair for pair in by_pair.values() if len(pair) == 2]
    return all(pair[False] == pair[True] for pair in pairs) if pairs else None


def _dimensions(votes: Sequence[Row], middle: Callable[[list[float]], float]) -> list[Row]:
    """Every named dimension once, in the order in which it was first named."""
    values: dict[tuple[str, int | None], list[float]] = {}
    for row in votes:
        for item in row["dimensions"] or ():
            values.setdefault((item["name"], item["answer"]), []).append(item["score"])
    return [{"name": name, "answer": answer, "score": middle(found)} for (name, answer), found in values.items()]


def _sum(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
