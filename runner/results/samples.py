"""Write samples.parquet: for each sample one line with the verdict of both orders, all repeats and the whole panel.

If each sample has one vote, as in most runs, `_aggregate_single_votes` works on whole columns; else `aggregate` works
row by row, and tests/results/test_samples.py compares both. Without the first, a run over 200,000 finished samples that
only writes samples.parquet again uses 85 % more CPU (6.1 instead of 3.2 s user + system time, median of 8 alternating
pairs).
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from runner.results.common_scale import POSITIONS_KEY, CommonScale
from runner.results.completion import VariantKey
from runner.results.parts import PartWriter, open_part, part_paths
from runner.results.schema import DIMENSION, to_batch
from runner.types import Row
from runner.values import exact_rows

WINDOW_SAMPLES = 4096

# Texts are read for this many lines at a time: they take most of the memory and of the processor's cache.
TEXT_SAMPLES_PER_READ = 256

# Row groups that are kept in memory, because adjacent windows share them.
CACHED_ROW_GROUPS = 4

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
    pa.field("undecided", pa.bool_()),
    pa.field("consistent", pa.bool_()),
    pa.field("status", pa.string()),
    pa.field("cost", pa.float64()),
    pa.field("served_model", pa.string()),
)

# Returns for some ordinals the texts of their samples in the same order: a column for each name.
Texts = Callable[[Sequence[int]], Sequence[pa.Array]]


class Aggregation(msgspec.Struct, frozen=True):
    """How votes become one verdict (the YAML's `aggregate`).

    Attributes:
        score: `mean` or `median`.
        min_valid: the number of votes below which there is no verdict.
        variants: the requests of a sample; rows of other variants are ignored.
        swap: True if any judge gets both orders.
        criteria: for each judge with a dimension its name; the rows of these judges are not votes on the overall
            verdict.
        common_scale: which scores are averaged as positions; None if the judges' scales do not differ.
    """

    score: str
    min_valid: int
    variants: frozenset[VariantKey]
    swap: bool
    criteria: Mapping[str, str] = {}
    common_scale: CommonScale | None = None

    @property
    def has_overall_votes(self) -> bool:
        """True if any judge votes on the overall verdict."""
        return any(judge not in self.criteria for judge, _, _ in self.variants)


def samples_schema(extra: Sequence[pa.Field], texts: Sequence[str]) -> pa.Schema:
    """Returns the columns of samples.parquet: the verdict, the dataset's columns and the texts that are kept."""
    return pa.schema([*_VERDICT, *extra, *(pa.field(name, pa.string()) for name in texts)])


def write_samples(
    directory: Path,
    extra: Sequence[pa.Field],
    aggregation: Aggregation,
    compression: str,
    text_columns: Sequence[str],
    texts: Texts,
) -> int:
    """Write samples.parquet from the closed parts, one window of ordinals at a time.

    Args:
        directory: the run directory.
        extra: the dataset's columns, which every part has.
        aggregation: how votes become one verdict.
        compression: the Parquet compression.
        text_columns: the names of the texts to add.
        texts: returns the texts of some ordinals.

    Returns the number of lines. Raises OSError if the file cannot be written, RunDirectoryError if a part is damaged.
    """
    schema = samples_schema(extra, text_columns)
    if aggregation.common_scale is not None:
        schema = schema.with_metadata({POSITIONS_KEY: json.dumps(aggregation.common_scale.names)})
    names = [field.name for field in extra]
    verdicts = pa.schema([*_VERDICT, *extra])
    writer = PartWriter(directory / "samples.parquet", schema, compression)
    try:
        for rows in _windows(directory / "results", names):
            if len(aggregation.variants) == 1 and aggregation.has_overall_votes:
                lines = _aggregate_single_votes(rows, verdicts, aggregation)
            else:
                lines = to_batch(_aggregate_all(_rows(rows), names, aggregation), verdicts)
            for start in range(0, lines.num_rows, TEXT_SAMPLES_PER_READ):
                writer.add_batch(_with_texts(lines.slice(start, TEXT_SAMPLES_PER_READ), schema, text_columns, texts))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return writer.rows


def _rows(table: pa.Table) -> list[Row]:
    return [row for batch in table.to_batches() for row in exact_rows(batch)]


def _with_texts(lines: pa.RecordBatch, schema: pa.Schema, names: Sequence[str], texts: Texts) -> pa.RecordBatch:
    if not names:
        return lines
    return pa.RecordBatch.from_arrays([*lines.columns, *texts(lines["ordinal"].to_pylist())], schema=schema)


def _aggregate_single_votes(rows: pa.Table, schema: pa.Schema, aggregation: Aggregation) -> pa.RecordBatch:
    """Aggregate rows of samples with one request each, as `aggregate` does, in whole columns."""
    ((judge, swapped, repeat),) = aggregation.variants
    selected = pc.and_(pc.equal(rows["judge"], judge), pc.equal(rows["repeat"], repeat))
    rows = rows.filter(pc.and_(selected, pc.equal(rows["swapped"], swapped))).sort_by("ordinal").combine_chunks()
    voted = pc.equal(rows["status"], "ok")
    valid = voted if aggregation.min_valid <= 1 else pc.and_(voted, False)
    columns = {name: rows[name] for name in rows.column_names}
    for name in ("winner", "score", "score1", "score2", "label"):
        columns[name] = pc.if_else(valid, rows[name], None)
    decided = pc.or_(pc.is_valid(columns["winner"]), pc.is_valid(columns["label"]))
    columns["agreement"] = pc.if_else(decided, 1.0, None)
    columns["undecided"] = pc.if_else(decided, pa.scalar(False), pa.scalar(None, pa.bool_()))
    columns["status"] = pc.if_else(valid, "ok", "unparsed")
    columns["consistent"] = pa.nulls(rows.num_rows, pa.bool_())
    votes = [rows[field.name].filter(voted).combine_chunks() for field in VOTE]
    columns["votes"] = _list_column(voted.cast(pa.int32()), pa.StructArray.from_arrays(votes, fields=list(VOTE)))
    lengths = pc.if_else(valid, pc.fill_null(pc.list_value_length(rows["dimensions"]), 0), 0)
    columns["dimensions"] = _list_column(lengths, rows["dimensions"].filter(valid).combine_chunks().flatten())
    lines = pa.table([columns[field.name] for field in schema], schema=schema).combine_chunks().to_batches()
    return lines[0] if lines else pa.RecordBatch.from_pylist([], schema)


def _list_column(lengths: pa.ChunkedArray, values: pa.Array) -> pa.Array:
    """Returns a list column, given the length of each list and the values of all lists one after the other."""
    ends = pc.cumulative_sum(lengths).combine_chunks().cast(pa.int32())
    return pa.ListArray.from_arrays(pa.concat_arrays([pa.array([0], pa.int32()), ends]), values)


def aggregate(rows: Sequence[Row], aggregation: Aggregation) -> Row:
    """Aggregate the rows of one sample: every `ok` row is a vote, except those of judges of one criterion.

    The answer with most votes wins, and equal top counts are a tie; `undecided` tells this tie from one that most votes
    name. Scores are averaged, as positions if the judges' scales differ. With fewer than `min_valid`
    votes the verdict is empty except for the criteria. If no judge votes on the overall verdict, the rows of the
    criteria count for `min_valid` and for the status instead. `consistent` is True if both orders of every pair name
    the same answer; None without swap or without such a pair.
    """
    parsed = sorted((row for row in rows if row["status"] == "ok"), key=_variant_key)
    votes = [row for row in parsed if row["judge"] not in aggregation.criteria]
    criteria = [
        _with_one_dimension(row, aggregation.criteria[row["judge"]])
        for row in parsed
        if row["judge"] in aggregation.criteria
    ]
    average = statistics.median if aggregation.score == "median" else statistics.fmean
    winners = Counter(row["winner"] for row in votes if row["winner"] is not None)
    labels = Counter(row["label"] for row in votes if row["label"] is not None)
    verdict: Row = {
        "votes": [{name: row[name] for name in ("judge", "swapped", "repeat", "winner", "score")} for row in votes],
        "agreement": None,
        "undecided": None,
        "consistent": _consistent(votes) if aggregation.swap else None,
        "status": "ok",
        "cost": _sum(row["cost"] for row in rows),
        "served_model": ", ".join(sorted({name for row in rows if (name := row.get("served_model"))})) or None,
    }
    if aggregation.common_scale is not None:
        votes, criteria = ([aggregation.common_scale.converted(row) for row in rows] for rows in (votes, criteria))
    verdict["dimensions"] = _dimensions(criteria, average)
    if len(votes if aggregation.has_overall_votes else criteria) < aggregation.min_valid:
        return {**verdict, "status": "unparsed"}
    verdict["winner"], verdict["agreement"], verdict["undecided"] = _most_common(winners, "tie")
    verdict["label"], *of_labels = _most_common(labels, None)
    if verdict["agreement"] is None:
        verdict["agreement"], verdict["undecided"] = of_labels
    for name in ("score", "score1", "score2"):
        values = [row[name] for row in votes if row[name] is not None]
        verdict[name] = average(values) if values else None
    is_single = len(votes) == len(parsed) == 1
    verdict["dimensions"] = votes[0]["dimensions"] or [] if is_single else _dimensions([*votes, *criteria], average)
    return verdict


def _with_one_dimension(row: Row, name: str) -> Row:
    """Returns the row without its other dimensions."""
    return {**row, "dimensions": [item for item in row["dimensions"] or () if item["name"] == name]}


def _variant_key(row: Row) -> VariantKey:
    return row["judge"], row["swapped"], row["repeat"]


def _aggregate_all(rows: Sequence[Row], names: Sequence[str], aggregation: Aggregation) -> list[Row]:
    by_ordinal: dict[int, list[Row]] = {}
    for row in rows:
        if _variant_key(row) in aggregation.variants:
            by_ordinal.setdefault(row["ordinal"], []).append(row)
    lines = []
    for ordinal, group in sorted(by_ordinal.items()):
        first = group[0]
        extra = {name: first[name] for name in ("sample_id", *names)}
        lines.append({"ordinal": ordinal, **extra, **aggregate(group, aggregation)})
    return lines


def _windows(results: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield all rows by windows of ordinals; only row groups whose statistics overlap the window are read."""
    columns = ["sample_id", "ordinal", "judge", "swapped", "repeat", "status", "winner", "score", "score1", "score2"]
    columns += ["label", "dimensions", "cost", "served_model", *names]
    groups = [
        (low, high, path, index)
        for path in part_paths(results).values()
        for index, (low, high) in enumerate(_ordinal_ranges(path))
    ]
    read = lru_cache(CACHED_ROW_GROUPS)(partial(_read_row_group, columns=columns))
    last = max((high for _, high, _, _ in groups), default=-1)
    for begin in range(0, last + 1, WINDOW_SAMPLES):
        end = begin + WINDOW_SAMPLES
        overlapping = [read(path, index) for low, high, path, index in groups if low < end and high >= begin]
        if overlapping:
            yield pa.concat_tables(_in_window(table, begin, end) for table in overlapping)


def _ordinal_ranges(path: Path) -> list[tuple[int, int]]:
    """Returns the lowest and the highest ordinal of each row group, from the file's statistics."""
    part = open_part(path)
    try:
        meta = part.metadata
        column = part.schema_arrow.get_field_index("ordinal")
        groups = (meta.row_group(index).column(column).statistics for index in range(meta.num_row_groups))
        return [(group.min, group.max) for group in groups]
    finally:
        part.close()


def _read_row_group(path: Path, index: int, columns: Sequence[str]) -> pa.Table:
    part = open_part(path)
    try:
        return part.read_row_group(index, columns=list(columns)).select(columns)
    finally:
        part.close()


def _in_window(table: pa.Table, begin: int, end: int) -> pa.Table:
    return table.filter(pc.and_(pc.greater_equal(table["ordinal"], begin), pc.less(table["ordinal"], end)))


def _most_common(counts: Mapping[Any, int], on_tie: Any) -> tuple[Any, float | None, bool | None]:
    """Returns the value with most votes, its share of the votes, and True if top counts are equal.

    `on_tie` is the value if they are.
    """
    if not counts:
        return None, None, None
    top = max(counts.values())
    leaders = [value for value, count in counts.items() if count == top]
    verdict = leaders[0] if len(leaders) == 1 else on_tie
    return verdict, counts.get(verdict, 0) / sum(counts.values()), len(leaders) > 1


def _consistent(votes: Sequence[Row]) -> bool | None:
    by_pair: dict[tuple[str, int], dict[bool, str]] = {}
    for row in votes:
        if row["winner"] is not None:
            by_pair.setdefault((row["judge"], row["repeat"]), {})[row["swapped"]] = row["winner"]
    pairs = [pair for pair in by_pair.values() if len(pair) == 2]
    return all(pair[False] == pair[True] for pair in pairs) if pairs else None


def _dimensions(votes: Sequence[Row], average: Callable[[list[float]], float]) -> list[Row]:
    """Returns the average of each dimension, in the order in which the dimensions first occur."""
    values: dict[tuple[str, int | None], list[float]] = {}
    for row in votes:
        for item in row["dimensions"] or ():
            values.setdefault((item["name"], item["answer"]), []).append(item["score"])
    return [{"name": name, "answer": answer, "score": average(scores)} for (name, answer), scores in values.items()]


def _sum(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
