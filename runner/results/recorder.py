"""From request and outcome to a row that is kept: priced, counted, handed to the sink."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any

from runner.core import Price
from runner.results.completion import CompletionIndex
from runner.results.row_block import make_block
from runner.results.schema import make_row
from runner.results.writer import ResultWriter
from runner.types import JudgeRequest, RequestResult, Row


class ResultRecorder:
    """Takes what each request came to.

    Args:
        sink: where the rows go.
        shared: for each variant, the columns that all its rows share.
        prices: for each variant, what its tokens cost.
        done: which requests have their row; kept up to date, its counts too.
    """

    def __init__(
        self,
        sink: ResultWriter,
        shared: Sequence[Mapping[str, Any]],
        prices: Sequence[Price],
        done: CompletionIndex,
    ) -> None:
        self.done = done
        self._sink = sink
        self._shared = shared
        self._prices = prices
        self._earlier: Mapping[str, Row] = done.earlier

    def record(self, request: JudgeRequest, asked: RequestResult) -> None:
        """Write one row; when this returns, SIGKILL does not lose it. Raises RunStopped where it cannot be written.

        A failure does not take the place of an answer, be it one without a readable verdict.
        """
        self._record(request, asked)

    def record_all(self, came: Sequence[tuple[JudgeRequest, RequestResult]]) -> list[tuple[Row, int]]:
        """The same for several; returns the answers without a readable verdict, each with the part it will stand in.

        Rows that take the place of older ones, of which there are few, are written one by one, the others in one go.
        """
        fresh, written = came, []
        if self._earlier:
            replacing = [each for each in came if each[0].custom_id in self._earlier]
            fresh = [each for each in came if each[0].custom_id not in self._earlier]
            written = [row for row in starmap(self._record, replacing) if row is not None]
        unread = [(row, part) for row, part in written if row["status"] == "unparsed"]
        return unread + self._record_fresh(fresh) if fresh else unread

    def _record(self, request: JudgeRequest, asked: RequestResult) -> tuple[Row, int] | None:
        """Write one row and return it with its part; None where the old one is kept."""
        row = self._row(request, asked)
        if self._keeps_old(row):
            self.done.keep_old(row, request.variant)
            return None
        part = self._sink.append(row)
        self.done.mark_answered(row, request.variant)
        return row, part

    def _record_fresh(self, came: Sequence[tuple[JudgeRequest, RequestResult]]) -> list[tuple[Row, int]]:
        costs = [self._prices[request.variant](asked.usage, asked.route) for request, asked in came]
        attempts = [
            asked.attempts and asked.attempts + self.done.batch_tries(request.sample.ordinal, request.variant)
            for request, asked in came
        ]
        block = make_block(came, self._shared, attempts, costs)
        part = self._sink.extend_block(block)
        self.done.mark_all_answered(block, [request.variant for request, _ in came])
        return [(block.row(index), part) for index, status in enumerate(block["status"]) if status == "unparsed"]

    def _row(self, request: JudgeRequest, asked: RequestResult) -> Row:
        cost = self._prices[request.variant](asked.usage, asked.route)
        earlier = self._earlier.get(request.custom_id) if self._earlier else None
        row = make_row(request, self._shared[request.variant], asked, cost, earlier)
        if earlier is None and asked.attempts:
            row["attempts"] += self.done.batch_tries(request.sample.ordinal, request.variant)
        return row

    def _keeps_old(self, row: Row) -> bool:
        return row["status"] == "failed" and row["custom_id"] in self.done.unreadable

    async def reopen(self, rows: Iterable[tuple[Row, int, int]]) -> None:
        """Have rows (with their parts and variants) asked again, as often as they were in batches once more."""
        await self._sink.compact_all()
        for row, part, variant in rows:
            self.done.mark_for_retry(row, part, variant)
            self.done.mark_unanswered(row["ordinal"], variant)

    async def wait_for_capacity(self) -> None:
        """Wait while the disk is behind."""
        await self._sink.wait_for_capacity()

    async def flush(self) -> None:
        """Wait until every row is on the disk, safe from a power cut; raises RunStopped where that failed."""
        await self._sink.sync()
        await self._sink.flush()
