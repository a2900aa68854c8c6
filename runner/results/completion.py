"""Which requests have their row, read from the parts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from runner.results.parts import part_paths, read_batches
from runner.results.row_block import RowBlock
from runner.results.schema import TRANSIENT_ERROR_TYPES
from runner.types import Row

VariantKey = tuple[str, bool, int]
"""Judge name, swapped, repeat."""

ROWS_PER_READ = 65536

INDEX_COLUMNS = (
    *("ordinal", "judge", "swapped", "repeat", "status", "error_type"),
    *("prompt_tokens", "completion_tokens", "cost"),
)
"""What is read of every row."""

USAGE_COLUMNS = ("attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost")
"""What a replaced row hands on to the row that replaces it."""


class RowCounts(msgspec.Struct):
    """How many rows there are, by status, and what they took."""

    ok: int = 0
    unparsed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    @property
    def done(self) -> int:
        """All rows."""
        return self.ok + self.unparsed + self.failed

    def add(self, row: Row, sign: int = 1) -> None:
        """Count one row, or with `sign` -1 take one back."""
        status = row["status"]
        if status == "ok":
            self.ok += sign
        elif status == "unparsed":
            self.unparsed += sign
        else:
            self.failed += sign
        self.prompt_tokens += sign * (row["prompt_tokens"] or 0)
        self.completion_tokens += sign * (row["completion_tokens"] or 0)
        if cost := row["cost"]:
            self.cost += sign * cost

    def add_block(self, rows: RowBlock) -> None:
        """Count some rows."""
        ok, unparsed = (rows["status"].count(name) for name in ("ok", "unparsed"))
        self.ok += ok
        self.unparsed += unparsed
        self.failed += len(rows) - ok - unparsed
        self.prompt_tokens += sum(filter(None, rows["prompt_tokens"]))
        self.completion_tokens += sum(filter(None, rows["completion_tokens"]))
        self.cost = sum(filter(None, rows["cost"]), self.cost)

    def add_all(self, rows: pa.RecordBatch) -> bool:
        """Count rows of a part; whether all of them are ok."""
        ok, unparsed = (pc.equal(rows["status"], name).true_count for name in ("ok", "unparsed"))
        self.ok += ok
        self.unparsed += unparsed
        self.failed += rows.num_rows - ok - unparsed
        self.prompt_tokens += pc.sum(rows["prompt_tokens"]).as_py() or 0
        self.completion_tokens += pc.sum(rows["completion_tokens"]).as_py() or 0
        self.cost += pc.sum(rows["cost"]).as_py() or 0.0
        return bool(ok == rows.num_rows)


MISSING, ANSWERED, SUBMITTED = 0, 1, 2
"""What is known of a request: it lacks its row, has it, or is in a batch that is not collected yet."""


class CompletionIndex:
    """Which requests have their row: one byte for each, ordinal by ordinal, variant by variant.

    Attributes:
        counts: of the rows there are.
        owners: for each request that is asked again, the part that holds its present row.
        earlier: what those present rows hand on, by custom_id.
        unreadable: those of them that are answers without a readable verdict.
    """

    def __init__(self, samples: int, variants: Mapping[VariantKey, int]) -> None:
        self.variants = variants
        self.samples = samples
        self.counts = RowCounts()
        self.owners: dict[str, int] = {}
        self.earlier: dict[str, Row] = {}
        self.unreadable: set[str] = set()
        self._flags = bytearray(samples * len(variants))
        self._tries: dict[int, int] = {}

    def is_done_or_submitted(self, ordinal: int, variant: int) -> bool:
        """Whether this request has its row, or is in a batch that will say."""
        return self._flags[ordinal * len(self.variants) + variant] != MISSING

    def next_wanted(self, ordinal: int) -> int:
        """The first sample from `ordinal` on that lacks a row; `sys.maxsize` where there is none."""
        width = len(self.variants)
        found = self._flags.find(0, ordinal * width)
        return sys.maxsize if found < 0 else found // width

    def missing(self) -> int:
        """How many requests lack their row and are in no batch."""
        return self._flags.count(MISSING)

    def submitted(self) -> int:
        """How many requests are in batches that are not collected yet."""
        return self._flags.count(SUBMITTED)

    def submit(self, ordinal: int, variant: int) -> None:
        """Note that a request is in a batch, so that nobody else asks it; one that has its row is left as it is."""
        index = self._index(ordinal, variant)
        if self._flags[index] == MISSING:
            self._flags[index] = SUBMITTED

    def withdraw(self, ordinal: int, variant: int) -> None:
        """Note that a request is in no batch after all."""
        index = self._index(ordinal, variant)
        if self._flags[index] == SUBMITTED:
            self._flags[index] = MISSING

    def mark_unanswered(self, ordinal: int, variant: int) -> None:
        """Note that a request was in a batch and got no answer there; one that has its row is left as it is."""
        index = self._index(ordinal, variant)
        if self._flags[index] != ANSWERED:
            self._flags[index] = MISSING
            self._tries[index] = self._tries.get(index, 0) + 1

    def mark_answered(self, row: Row, variant: int) -> None:
        """Note that a request has its row now."""
        self._flags[self._index(row["ordinal"], variant)] = ANSWERED
        self.counts.add(row)

    def mark_all_answered(self, rows: RowBlock, variants: Iterable[int]) -> None:
        """The same for some rows."""
        flags, width = self._flags, len(self.variants)
        for ordinal, variant in zip(rows["ordinal"], variants, strict=True):
            flags[ordinal * width + variant] = ANSWERED
        self.counts.add_block(rows)

    def keep_old(self, row: Row, variant: int) -> None:
        """Note that a request keeps the row it had, an answer without a readable verdict."""
        self._flags[self._index(row["ordinal"], variant)] = ANSWERED
        self.counts.add({"status": "unparsed", **self.earlier[row["custom_id"]]})

    def has_row(self, ordinal: int, variant: int) -> bool:
        """Whether a request has its row."""
        return self._flags[self._index(ordinal, variant)] == ANSWERED

    def batch_tries(self, ordinal: int, variant: int) -> int:
        """In how many batches a request went unanswered."""
        return self._tries.get(self._index(ordinal, variant), 0) if self._tries else 0

    def missing_by_tries(self) -> dict[int, int]:
        """How many of the missing requests went unanswered in no batch, in one, in two ..."""
        counts = Counter(tries for index, tries in self._tries.items() if self._flags[index] == MISSING)
        fresh = self.missing() - counts.total()
        return {**({0: fresh} if fresh else {}), **dict(sorted(counts.items()))}

    def _index(self, ordinal: int, variant: int) -> int:
        return ordinal * len(self.variants) + variant

    def mark(self, ordinals: Iterable[int], variant: int) -> None:
        """Note that these samples have their row of `variant`."""
        flags, width = self._flags, len(self.variants)
        for ordinal in ordinals:
            flags[ordinal * width + variant] = ANSWERED

    def mark_for_retry(self, row: Row, part: int, variant: int) -> None:
        """Note that this row is to be replaced."""
        if row["ordinal"] < self.samples:
            self._flags[row["ordinal"] * len(self.variants) + variant] = 0
            self.owners[row["custom_id"]] = part
            self.earlier[row["custom_id"]] = {name: row[name] for name in USAGE_COLUMNS}
            self.counts.add(row, -1)
            if row["status"] == "unparsed":
                self.unreadable.add(row["custom_id"])


def scan(
    directory: Path,
    samples: int,
    variants: Mapping[VariantKey, int],
    retry: Collection[str] = (),
    replaced: Mapping[str, str | None] | None = None,
) -> CompletionIndex:
    """Read from the parts which requests have their row, and which of those are asked again.

    Args:
        directory: the run directory, recovered.
        samples: how many samples this run is about (ordinals from there on are not counted).
        variants: the number of each variant of this run; rows of others are left alone.
        retry: statuses (`failed`, `unparsed`) whose rows are asked again; rows that failed for a transient cause
            always are.
        replaced: requests in open batches that replace their row, by custom_id, and the batch its new row names.
    """
    done = CompletionIndex(samples, variants)
    replaced = replaced or {}
    for number, path in part_paths(directory / "results").items():
        again = bool(replaced)
        for batch in read_batches(path, INDEX_COLUMNS, ROWS_PER_READ):
            again = _note(done, batch, retry) or again
        if again:
            _ask_again(done, path, number, retry, replaced)
    return done


def _note(done: CompletionIndex, batch: pa.RecordBatch, retry: Collection[str]) -> bool:
    """Note the rows that are there; whether any of them is to be asked again."""
    again = False
    for variant, rows in _by_variant(batch, done):
        done.mark(_numbers(rows["ordinal"]), variant)
        all_ok = done.counts.add_all(rows)
        again = again or (not all_ok and _is_open(rows, retry).true_count > 0)
    return again


def _is_open(rows: pa.RecordBatch, retry: Collection[str]) -> pa.BooleanArray:
    """Which rows are asked again for their status or their cause."""
    transient = pc.and_(
        pc.equal(rows["status"], "failed"), pc.is_in(rows["error_type"], pa.array(TRANSIENT_ERROR_TYPES))
    )
    return pc.or_(transient, pc.is_in(rows["status"], pa.array(retry, pa.string()))) if retry else transient


def _ask_again(
    done: CompletionIndex, path: Path, part: int, retry: Collection[str], replaced: Mapping[str, str | None]
) -> None:
    """Read those rows of a part that are asked again; what only they are needed for is not read of all."""
    columns = [*INDEX_COLUMNS, "custom_id", *(name for name in USAGE_COLUMNS if name not in INDEX_COLUMNS)]
    columns += ["batch_id"] if replaced else []
    for batch in read_batches(path, columns, ROWS_PER_READ):
        for variant, rows in _by_variant(batch, done):
            again = _is_open(rows, retry)
            if replaced:
                ids = zip(rows["custom_id"].to_pylist(), rows["batch_id"].to_pylist(), strict=True)
                again = pc.or_(again, pa.array([replaced.get(name, batch_id) != batch_id for name, batch_id in ids]))
            for row in rows.filter(again).to_pylist():
                done.mark_for_retry(row, part, variant)


def _by_variant(batch: pa.RecordBatch, done: CompletionIndex) -> Iterator[tuple[int, pa.RecordBatch]]:
    inside = pc.less(batch["ordinal"], done.samples)
    for (judge, swapped, repeat), variant in done.variants.items():
        same = pc.and_(pc.equal(batch["judge"], judge), pc.equal(batch["swapped"], swapped))
        mine = pc.and_(pc.and_(same, pc.equal(batch["repeat"], repeat)), inside)
        count = mine.true_count
        if count:
            yield variant, batch if count == batch.num_rows else batch.filter(mine)


def _numbers(column: pa.Int64Array) -> Iterable[int]:
    """The numbers of a column without nulls, one by one: a list of them takes longer to make than to go through."""
    return memoryview(column.buffers()[1]).cast("q")[column.offset : column.offset + len(column)]
