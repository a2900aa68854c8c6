"""Turn each request and its result into a stored row: with its cost, counted, and passed to the writer."""

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
    """Records the result of every request.

    Attributes:
        done: the index of finished requests; the recorder keeps it and its counts up to date.

    Args:
        writer: stores the rows.
        shared: for each variant, the columns that have the same value for all its rows.
        prices: for each variant, the price of its tokens.
        done: the index of finished requests.
    """

    def __init__(
        self,
        writer: ResultWriter,
        shared: Sequence[Mapping[str, Any]],
        prices: Sequence[Price],
        done: CompletionIndex,
    ) -> None:
        self.done = done
        self._writer = writer
        self._shared = shared
        self._prices = prices

    def record(self, request: JudgeRequest, result: RequestResult) -> None:
        """Write one row; once this returns, SIGKILL does not lose it.

        A failure never replaces an answer, not even one without a readable verdict.

        Raises:
            RunStopped: the output can no longer be written.
        """
        self._record(request, result)

    def record_all(self, results: Sequence[tuple[JudgeRequest, RequestResult]]) -> list[tuple[Row, int]]:
        """Write several rows, as `record` does.

        Rows that replace older ones are rare and are written one by one; the others are written together.

        Returns:
            The rows without a readable verdict, each with the number of the part that will hold it.

        Raises:
            RunStopped: the output can no longer be written.
        """
        new, written = results, []
        if self.done.replaces_any():
            replacing = [each for each in results if self.done.replaces_row(each[0].custom_id)]
            new = [each for each in results if not self.done.replaces_row(each[0].custom_id)]
            written = [row for row in starmap(self._record, replacing) if row is not None]
        unparsed = [(row, part) for row, part in written if row["status"] == "unparsed"]
        return unparsed + self._record_new(new) if new else unparsed

    def _record(self, request: JudgeRequest, result: RequestResult) -> tuple[Row, int] | None:
        """Write one row and return it with the number of its part; None if the old row is kept."""
        row = self._row(request, result)
        if row["status"] == "failed" and self.done.replaces_answer(row["custom_id"]):
            self.done.keep_old(row, request.variant)
            return None
        part = self._writer.append(row)
        self.done.mark_answered(row, request.variant)
        return row, part

    def _record_new(self, results: Sequence[tuple[JudgeRequest, RequestResult]]) -> list[tuple[Row, int]]:
        costs = [self._prices[request.variant](result.usage, result.route) for request, result in results]
        attempts = [
            result.attempts and result.attempts + self.done.batch_tries(request.sample.ordinal, request.variant)
            for request, result in results
        ]
        block = make_block(results, self._shared, attempts, costs)
        part = self._writer.extend_block(block)
        self.done.mark_all_answered(block, [request.variant for request, _ in results])
        return [(block.row(index), part) for index, status in enumerate(block["status"]) if status == "unparsed"]

    def _row(self, request: JudgeRequest, result: RequestResult) -> Row:
        cost = self._prices[request.variant](result.usage, result.route)
        old_usage = self.done.old_usage(request.custom_id)
        row = make_row(request, self._shared[request.variant], result, cost, old_usage)
        if old_usage is None and result.attempts:
            row["attempts"] += self.done.batch_tries(request.sample.ordinal, request.variant)
        return row

    async def reopen(self, rows: Iterable[tuple[Row, int, int]]) -> None:
        """Send the requests of these stored rows again, and count one more unsuccessful batch for each.

        Args:
            rows: each row, the number of the part that holds it, and its variant.

        Raises:
            RunStopped: the output can no longer be written.
        """
        await self._writer.compact_all()
        for row, part, variant in rows:
            self.done.mark_for_retry(row, part, variant)
            self.done.mark_unanswered(row["ordinal"], variant)

    async def wait_for_capacity(self) -> None:
        """Wait while the writer is behind; raises RunStopped if the output can no longer be written."""
        await self._writer.wait_for_capacity()

    async def flush(self) -> None:
        """Wait until every row is on the disk, safe from a power cut; raises RunStopped if that failed."""
        await self._writer.sync()
        await self._writer.flush()
