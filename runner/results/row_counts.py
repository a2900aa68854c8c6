"""Counts of the stored rows: by status, by model that answered, by cause of failure, and their tokens and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from runner.results.causes import Cause, add_cause
from runner.results.row_block import RowBlock
from runner.types import Row

_CAUSE_COLUMNS = ("status", "error_type", "error_message")

# Names of models beyond this number of a judge are counted together: a service may name each reply differently.
MAX_SERVED_NAMES = 100
OTHER_MODELS = "(others)"


class RowCounts(msgspec.Struct):
    """The number of rows by status, their total usage, and for each judge the number of rows by `served_model`.

    `causes` says why rows are not `ok`.
    """

    ok: int = 0
    unparsed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cached_tokens: int = 0
    served: dict[str, dict[str, int]] = {}
    causes: dict[str, Cause] = {}

    @property
    def done(self) -> int:
        """The number of rows of any status."""
        return self.ok + self.unparsed + self.failed

    def add(self, row: Row, sign: int = 1) -> None:
        """Count one row, or with `sign` -1 subtract it."""
        status = row["status"]
        if status == "ok":
            self.ok += sign
        elif status == "unparsed":
            self.unparsed += sign
        else:
            self.failed += sign
        if status != "ok":
            add_cause(self.causes, row["error_type"], row.get("error_message"), sign)
        self.prompt_tokens += sign * (row["prompt_tokens"] or 0)
        self.completion_tokens += sign * (row["completion_tokens"] or 0)
        if cost := row["cost"]:
            self.cost += sign * cost
        self.cached_tokens += sign * (row.get("cached_tokens") or 0)
        self._add_served(row["judge"], row.get("served_model"), sign)

    def add_block(self, rows: RowBlock) -> None:
        """Count the rows of a block."""
        ok, unparsed = (rows["status"].count(name) for name in ("ok", "unparsed"))
        self.ok += ok
        self.unparsed += unparsed
        self.failed += len(rows) - ok - unparsed
        if ok < len(rows):
            self._add_causes(zip(rows["status"], rows["error_type"], rows["error_message"], strict=True))
        self.prompt_tokens += sum(filter(None, rows["prompt_tokens"]))
        self.completion_tokens += sum(filter(None, rows["completion_tokens"]))
        self.cost = sum(filter(None, rows["cost"]), self.cost)
        self.cached_tokens += sum(filter(None, rows["cached_tokens"]))
        for (judge, name), n in Counter(zip(rows["judge"], rows["served_model"], strict=True)).items():
            self._add_served(judge, name, n)

    def add_batch(self, rows: pa.RecordBatch) -> bool:
        """Count the rows of one judge in an Arrow batch; returns True if all of them are `ok`."""
        ok, unparsed = (pc.equal(rows["status"], name).true_count for name in ("ok", "unparsed"))
        self.ok += ok
        self.unparsed += unparsed
        self.failed += rows.num_rows - ok - unparsed
        if ok < rows.num_rows:
            bad = rows.filter(pc.not_equal(rows["status"], "ok"))
            self._add_causes(zip(*(bad[name].to_pylist() for name in _CAUSE_COLUMNS), strict=True))
        self.prompt_tokens += pc.sum(rows["prompt_tokens"]).as_py() or 0
        self.completion_tokens += pc.sum(rows["completion_tokens"]).as_py() or 0
        self.cost += pc.sum(rows["cost"]).as_py() or 0.0
        if "served_model" in rows.schema.names:  # parts of an earlier version lack both
            self.cached_tokens += pc.sum(rows["cached_tokens"]).as_py() or 0
            for found in pc.value_counts(rows["served_model"]).to_pylist():
                self._add_served(rows["judge"][0].as_py(), found["values"], found["counts"])
        return bool(ok == rows.num_rows)

    def _add_causes(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for (status, error_type, message), count in Counter(rows).items():
            if status != "ok":
                add_cause(self.causes, error_type, message, count)

    def _add_served(self, judge: str, name: str | None, n: int) -> None:
        if name is None:
            return
        names = self.served.setdefault(judge, {})
        if name not in names and len(names) >= MAX_SERVED_NAMES:
            name = OTHER_MODELS
        names[name] = names.get(name, 0) + n
        if not names[name]:
            del names[name]
        if not names:
            del self.served[judge]
