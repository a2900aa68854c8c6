"""The index of finished requests: which ones have a row, which ones are in a batch, which ones are sent again.

A later run sends the difference between the dataset's requests and this index.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from runner.results.part_check import check_parts
from runner.results.parts import part_paths, read_part_batches
from runner.results.row_block import RowBlock
from runner.results.row_counts import RowCounts
from runner.results.schema import TRANSIENT_ERROR_TYPES
from runner.types import Row

# Judge name, swapped, repeat.
VariantKey = tuple[str, bool, int]

ROWS_PER_READ = 65536

# The columns that are read of every row.
INDEX_COLUMNS = (
    *("ordinal", "judge", "swapped", "repeat", "status", "error_type", "error_message"),
    *("prompt_tokens", "completion_tokens", "cost", "cached_tokens", "served_model"),
)

# The columns whose values a replaced row adds to the row that replaces it.
USAGE_COLUMNS = ("attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cost")

# The other columns of a replaced row that are counted, so that it can be counted again if it is kept after all.
_COUNTED_COLUMNS = ("status", "judge", "served_model", "error_type", "error_message")

# The states of a request: it has no row; it has one; it is in a batch whose results are not collected yet.
MISSING, ANSWERED, SUBMITTED = 0, 1, 2


class CompletionIndex:
    """The state of every request in one byte, ordered by ordinal and then by variant.

    Attributes:
        variants: the number of each variant.
        samples: the number of samples of this run.
        counts: counts of the rows that are stored and kept.
        beyond: the number of stored rows about later samples than those of this run.
        owners: for the custom_id of each request that is sent again, the number of the part that holds its old row.
    """

    def __init__(self, samples: int, variants: Mapping[VariantKey, int]) -> None:
        self.variants = variants
        self.samples = samples
        self.counts = RowCounts()
        self.beyond = 0
        self.owners: dict[str, int] = {}
        self._old_usage: dict[str, Row] = {}
        self._old_counted: dict[str, Row] = {}
        self._states = bytearray(samples * len(variants))
        self._batch_tries: dict[int, int] = {}

    def is_done_or_submitted(self, ordinal: int, variant: int) -> bool:
        """Returns True if this request has a row or is in a batch that may give it one."""
        return self._states[ordinal * len(self.variants) + variant] != MISSING

    def has_row(self, ordinal: int, variant: int) -> bool:
        """Returns True if this request has a row."""
        return self._states[self._index(ordinal, variant)] == ANSWERED

    def next_wanted(self, ordinal: int) -> int:
        """Returns the first sample at or after `ordinal` that lacks a row; `sys.maxsize` if there is none."""
        width = len(self.variants)
        found = self._states.find(MISSING, ordinal * width)
        return sys.maxsize if found < 0 else found // width

    def missing(self) -> int:
        """Returns the number of requests that have no row and are in no batch."""
        return self._states.count(MISSING)

    def submitted(self) -> int:
        """Returns the number of requests in batches whose results are not collected yet."""
        return self._states.count(SUBMITTED)

    def answered(self) -> int:
        """Returns the number of requests that have a row that stays."""
        return self._states.count(ANSWERED)

    def submit(self, ordinal: int, variant: int) -> None:
        """Mark a request as part of a batch, so that no other lane sends it; has no effect if it has a row."""
        index = self._index(ordinal, variant)
        if self._states[index] == MISSING:
            self._states[index] = SUBMITTED

    def withdraw(self, ordinal: int, variant: int) -> None:
        """Undo `submit`: the request is in no batch after all."""
        index = self._index(ordinal, variant)
        if self._states[index] == SUBMITTED:
            self._states[index] = MISSING

    def mark_unanswered(self, ordinal: int, variant: int) -> None:
        """Record that a batch gave this request no answer; has no effect if it has a row."""
        index = self._index(ordinal, variant)
        if self._states[index] != ANSWERED:
            self._states[index] = MISSING
            self._batch_tries[index] = self._batch_tries.get(index, 0) + 1

    def mark_answered(self, row: Row, variant: int) -> None:
        """Record that a request has this row."""
        self._states[self._index(row["ordinal"], variant)] = ANSWERED
        self.counts.add(row)

    def mark_all_answered(self, rows: RowBlock, variants: Iterable[int]) -> None:
        """Record that the requests of a block have its rows; `variants` are the variants of the rows, in order."""
        states, width = self._states, len(self.variants)
        for ordinal, variant in zip(rows["ordinal"], variants, strict=True):
            states[ordinal * width + variant] = ANSWERED
        self.counts.add_block(rows)

    def mark_stored(self, ordinals: Iterable[int], variant: int) -> None:
        """Record that these samples have a row of `variant`, without counting it."""
        states, width = self._states, len(self.variants)
        for ordinal in ordinals:
            states[ordinal * width + variant] = ANSWERED

    def mark_for_retry(self, row: Row, part: int, variant: int) -> None:
        """Record that this counted row, which is in part `part`, is to be replaced; its request is missing again."""
        if row["ordinal"] < self.samples:
            custom_id = row["custom_id"]
            self._states[self._index(row["ordinal"], variant)] = MISSING
            self.owners[custom_id] = part
            self._old_usage[custom_id] = {name: row.get(name) for name in USAGE_COLUMNS}
            self._old_counted[custom_id] = {name: row.get(name) for name in _COUNTED_COLUMNS}
            self.counts.add(row, -1)

    def replaces_any(self) -> bool:
        """Returns True if any stored row is to be replaced."""
        return bool(self.owners)

    def replaces_row(self, custom_id: str) -> bool:
        """Returns True if a new row of this request replaces a stored one."""
        return custom_id in self.owners

    def old_usage(self, custom_id: str) -> Row | None:
        """Returns the usage columns of the row that a new row of this request replaces; None if there is no old row."""
        return self._old_usage.get(custom_id)

    def replaces_answer(self, custom_id: str) -> bool:
        """Returns True if the old row of this request is an answer without a readable verdict, not a failure."""
        return self._old_counted.get(custom_id, {}).get("status") == "unparsed"

    def keep_old(self, row: Row, variant: int) -> None:
        """Record that a request keeps its old row, an answer without a readable verdict, instead of this one."""
        self._states[self._index(row["ordinal"], variant)] = ANSWERED
        custom_id = row["custom_id"]
        self.counts.add({**self._old_counted[custom_id], **self._old_usage[custom_id]})

    def keep_all_old(self, locate: Callable[[str], tuple[int, int] | None]) -> None:
        """Count every old row as it is stored, as if its request were not sent again.

        Args:
            locate: returns the ordinal and the variant of a custom_id; None if the run has no such request.
        """
        for custom_id, usage in self._old_usage.items():
            place = locate(custom_id)
            if place is not None:
                ordinal, variant = place
                self.mark_answered({"ordinal": ordinal, **self._old_counted[custom_id], **usage}, variant)

    def batch_tries(self, ordinal: int, variant: int) -> int:
        """Returns the number of batches that gave this request no answer."""
        return self._batch_tries.get(self._index(ordinal, variant), 0) if self._batch_tries else 0

    def missing_by_tries(self) -> dict[int, int]:
        """Returns the number of missing requests by the number of batches that gave them no answer."""
        counts = Counter(tries for index, tries in self._batch_tries.items() if self._states[index] == MISSING)
        never_submitted = self.missing() - counts.total()
        return {**({0: never_submitted} if never_submitted else {}), **dict(sorted(counts.items()))}

    def _index(self, ordinal: int, variant: int) -> int:
        return ordinal * len(self.variants) + variant


def load_completion_index(
    directory: Path,
    samples: int,
    variants: Mapping[VariantKey, int],
    retry: Collection[str] = (),
    replaced: Mapping[str, str | None] | None = None,
) -> CompletionIndex:
    """Build the index from the closed parts of a run directory.

    Args:
        directory: the run directory, already recovered.
        samples: the number of samples of this run; rows with a larger ordinal are not counted.
        variants: the number of each variant of this run; rows of other variants are ignored.
        retry: statuses (`failed`, `unparsed`) whose requests are sent again. Requests that failed for a transient
            cause are always sent again.
        replaced: for the custom_id of each request in an open batch that replaces a stored row, the batch_id that
            its new row will have.

    Raises:
        RunDirectoryError: a part cannot be read, or a request has several rows.
    """
    index = CompletionIndex(samples, variants)
    replaced = replaced or {}
    for number, path in part_paths(directory / "results").items():
        has_retries = bool(replaced)
        for batch in read_part_batches(path, INDEX_COLUMNS, ROWS_PER_READ):
            has_retries = _add_rows(index, batch, retry) or has_retries
        if has_retries:
            _add_retries(index, path, number, retry, replaced)
    if index.counts.done != index.answered():  # a request was counted twice
        check_parts(directory / "results")
    return index


def _add_rows(index: CompletionIndex, batch: pa.RecordBatch, retry: Collection[str]) -> bool:
    """Record the rows of a batch; returns True if any of their requests is sent again."""
    has_retries = False
    index.beyond += pc.greater_equal(batch["ordinal"], index.samples).true_count
    for variant, rows in _by_variant(batch, index):
        index.mark_stored(_integers(rows["ordinal"]), variant)
        all_ok = index.counts.add_batch(rows)
        has_retries = has_retries or (not all_ok and _is_retried(rows, retry).true_count > 0)
    return has_retries


def _is_retried(rows: pa.RecordBatch, retry: Collection[str]) -> pa.BooleanArray:
    """Returns for each row True if its status or its cause sends the request again."""
    transient = pc.and_(
        pc.equal(rows["status"], "failed"), pc.is_in(rows["error_type"], pa.array(TRANSIENT_ERROR_TYPES))
    )
    return pc.or_(transient, pc.is_in(rows["status"], pa.array(retry, pa.string()))) if retry else transient


def _add_retries(
    index: CompletionIndex, path: Path, part: int, retry: Collection[str], replaced: Mapping[str, str | None]
) -> None:
    """Read a part a second time, with the columns that only the rows to be replaced need."""
    columns = [*INDEX_COLUMNS, "custom_id", *(name for name in USAGE_COLUMNS if name not in INDEX_COLUMNS)]
    columns += ["batch_id"] if replaced else []
    for batch in read_part_batches(path, columns, ROWS_PER_READ):
        for variant, rows in _by_variant(batch, index):
            retried = _is_retried(rows, retry)
            if replaced:
                ids = zip(rows["custom_id"].to_pylist(), rows["batch_id"].to_pylist(), strict=True)
                retried = pc.or_(
                    retried, pa.array([replaced.get(name, batch_id) != batch_id for name, batch_id in ids])
                )
            for row in rows.filter(retried).to_pylist():
                index.mark_for_retry(row, part, variant)


def _by_variant(batch: pa.RecordBatch, index: CompletionIndex) -> Iterator[tuple[int, pa.RecordBatch]]:
    inside = pc.less(batch["ordinal"], index.samples)
    for (judge, swapped, repeat), variant in index.variants.items():
        same_judge = pc.and_(pc.equal(batch["judge"], judge), pc.equal(batch["swapped"], swapped))
        selected = pc.and_(pc.and_(same_judge, pc.equal(batch["repeat"], repeat)), inside)
        count = selected.true_count
        if count:
            yield variant, batch if count == batch.num_rows else batch.filter(selected)


def _integers(column: pa.Int64Array) -> Iterable[int]:
    """Returns the values of a column without nulls; a list takes longer to build than this view takes to iterate."""
    return memoryview(column.buffers()[1]).cast("q")[column.offset : column.offset + len(column)]
