"""Turn the results of a shard into rows, and find the requests that got no answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

import msgspec

from runner.judge import Panel
from runner.lanes.batch.ledger import Ledger, Shard, ShardEntry
from runner.lanes.batch.missing import MissingLines, missing_lines
from runner.lanes.batch.result_lines import Leftover, LineResult, ResultFiles
from runner.lanes.batch.shard_budget import ShardBudget
from runner.lanes.batch.submitted import ordinal_and_variant
from runner.limits import ZERO_SPEND, Reservation, Spend
from runner.results import ResultRecorder
from runner.service import emulated
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Sample

log = logging.getLogger(__name__)

# Rows that are made before the event loop gets a turn.
REQUESTS_PER_SLICE = 512

# The error of a request without a result line, by how its batch ended.
LOST = {
    "expired": ("batch_expired", "the batch expired before this request was answered"),
    "failed": ("batch_lost", "the batch failed as a whole"),
    "cancelled": ("batch_lost", "the batch was cancelled before this request was answered"),
    "completed": ("batch_lost", "the batch ended without a line for this request"),
}

_NO_FIELDS: Mapping[str, Any] = {}
_decode_columns = msgspec.json.Decoder(dict[str, Any]).decode


class ReconcileResult(msgspec.Struct):
    """What a shard's requests led to.

    Attributes:
        answered: requests that have their row.
        leftovers: custom_ids of those that got no answer and are tried again.
        spent: what they used of the budget.
        missing: lines that the service counts and that are not in its files.
        is_settled: False if the requests without a line were left as they are, because their lines may still come.
    """

    answered: int = 0
    leftovers: list[str] = []
    spent: Spend = ZERO_SPEND
    missing: MissingLines = MissingLines()
    is_settled: bool = False


class _Pass(msgspec.Struct):
    """One pass over the requests of a shard.

    Attributes:
        find: returns the line of a request, or None.
        holds_back: True if requests without a line are kept for a second pass.
        held_back: those requests.
        answered: requests with an answer, or with a row and no line.
        failed: requests with any other line, readable or not.
    """

    find: Callable[[str], LineResult | None]
    holds_back: bool
    held_back: list[tuple[ShardEntry, Reservation | None]] = []
    answered: int = 0
    failed: int = 0


class ReaskPolicy(msgspec.Struct, frozen=True):
    """Which requests of a collected batch are sent again.

    Attributes:
        reasks: for each variant, how often a request is sent again if its verdict cannot be read.
        is_final: returns True if a request that this many batches did not answer gets a failed row now; otherwise it
            is left for another try.
    """

    reasks: Sequence[int]
    is_final: Callable[[int], bool]


class Reconciler:
    """Turns the results of one shard at a time into rows.

    Args:
        ledger: has the result files and the entries of shards.
        panel: reads the verdicts.
        recorder: takes the rows.
        dialects: the dialect of each service, by its name.
        reask: which requests are sent again.
        budget: charges what shards used; None without a budget.
    """

    def __init__(
        self,
        ledger: Ledger,
        panel: Panel,
        recorder: ResultRecorder,
        dialects: Mapping[str, str],
        reask: ReaskPolicy,
        budget: ShardBudget | None = None,
    ) -> None:
        self._ledger = ledger
        self._panel = panel
        self._recorder = recorder
        self._dialects = dialects
        self._reask = reask
        self._budget = budget
        self._unreadable: dict[int, list[tuple[Row, int, int]]] = {}
        self._lock = asyncio.Lock()

    async def write_rows(self, shard: Shard, settles: Callable[[MissingLines], bool]) -> ReconcileResult:
        """Write a row for each request that was answered or refused, and return the counts and the leftovers.

        When this returns, every row is on the disk. A request that has its row of this shard already, from an earlier
        download or because an earlier run died here, is skipped. Requests without a line are leftovers only if
        `settles` says so about the lines that are missing. Raises RunDirectoryError, RunStopped and OSError.
        """
        async with self._lock:
            result = ReconcileResult()
            files = (self._ledger.output(shard.number), self._ledger.errors(shard.number))
            entries = list(self._ledger.read_members(shard.number))
            wanted = {entry.custom_id for entry in entries}
            dialect = self._dialects[shard.service]
            with ResultFiles([path for path in files if path.exists()], wanted, dialect) as lines:
                first = _Pass(lines.find, holds_back=True)
                await self._write_slices(shard, self._with_costs(shard, entries), first, result)
            self._warn(shard, lines)
            unreadable = sum(entry.custom_id in lines.unreadable for entry, _ in first.held_back)
            result.missing = missing_lines(
                shard,
                first.answered,
                first.failed + unreadable,
                lines.cut_files,
                lines.torn - len(lines.unreadable) + lines.unknown_ids,
            )
            result.is_settled = settles(result.missing)
            if result.is_settled:
                second = _Pass(lambda _: None, holds_back=False)
                await self._write_slices(shard, iter(first.held_back), second, result)
            await self._recorder.flush()
            return result

    async def charge(self, result: ReconcileResult) -> None:
        """Charge what a shard used of the budget; it is on the disk when this returns. Raises RunStopped."""
        if self._budget is not None:
            await self._budget.charge(result.spent)

    def mark_leftovers(self, custom_ids: Iterable[str]) -> None:
        """Mark these requests as unanswered, so that they are pending again."""
        for custom_id in custom_ids:
            self._recorder.done.mark_unanswered(*ordinal_and_variant(self._panel, custom_id))

    async def withdraw(self, shard: Shard, *, was_sent: bool) -> None:
        """Mark the requests of a shard as in no batch.

        If they were sent, they may have been run and paid for, so the whole reservation is charged. Raises RunStopped.
        """
        for entry in self._ledger.read_members(shard.number):
            self._recorder.done.withdraw(*ordinal_and_variant(self._panel, entry.custom_id))
        if was_sent and self._budget is not None and shard.reserved is not None:
            await self._budget.charge(shard.reserved)

    def release_budget(self, shard: Shard) -> None:
        """Release what was reserved for a shard, once its state file says that it is no longer needed."""
        if self._budget is not None:
            self._budget.release(shard.reserved)

    def _with_costs(self, shard: Shard, entries: list[ShardEntry]) -> Iterator[tuple[ShardEntry, Reservation | None]]:
        costs: Iterator[Reservation | None] = (
            repeat(None) if self._budget is None else self._budget.members_with_cost(shard)
        )
        return zip(entries, costs, strict=False)

    async def _write_slices(
        self,
        shard: Shard,
        queue: Iterator[tuple[ShardEntry, Reservation | None]],
        this_pass: _Pass,
        result: ReconcileResult,
    ) -> None:
        while some := list(islice(queue, REQUESTS_PER_SLICE)):
            self._write_slice(shard, some, this_pass, result)
            self._ledger.record_job(msgspec.structs.replace(shard, answered=result.answered))
            await self._recorder.wait_for_capacity()
            await asyncio.sleep(0)

    def _write_slice(
        self,
        shard: Shard,
        entries: list[tuple[ShardEntry, Reservation | None]],
        this_pass: _Pass,
        result: ReconcileResult,
    ) -> None:
        """Write the rows of some entries together, and add to `this_pass` and `result`."""
        finished, done = [], self._recorder.done
        for entry, reserved in entries:
            ordinal, variant = ordinal_and_variant(self._panel, entry.custom_id)
            found, has_row = this_pass.find(entry.custom_id), done.has_row(ordinal, variant)
            if found is None and not has_row and this_pass.holds_back:
                this_pass.held_back.append((entry, reserved))
                continue
            if self._budget is not None and reserved is not None:
                result.spent += self._budget.used(shard, reserved, found)
            if found is None or isinstance(found, JudgeResponse):
                this_pass.answered += 1
            else:
                this_pass.failed += 1
            if has_row:
                result.answered += 1
                continue
            final = self._final(found or lost(shard), entry, variant)
            if final is None:
                result.leftovers.append(entry.custom_id)
                continue
            request = JudgeRequest(self._sample(entry), variant, entry.custom_id, b"", entry.request_hash)
            finished.append((request, self._result(shard, request, final)))
        self._record(shard, finished)
        result.answered += len(finished)

    def _record(self, shard: Shard, finished: list[tuple[JudgeRequest, RequestResult]]) -> None:
        for row, part in self._recorder.record_all(finished):
            ordinal, variant = ordinal_and_variant(self._panel, row["custom_id"])
            if self._recorder.done.batch_tries(ordinal, variant) < self._reask.reasks[variant]:
                self._unreadable.setdefault(shard.number, []).append((row, part, variant))

    def _final(self, result: LineResult, entry: ShardEntry, variant: int) -> JudgeResponse | Failure | None:
        """Return the answer or failure of a request, or None if it is left for another try."""
        if not isinstance(result, Leftover):
            return result
        if not self._reask.is_final(self._recorder.done.batch_tries(entry.ordinal, variant) + 1):
            return None
        return Failure(result.error_type, result.message)

    async def reask(self) -> None:
        """Make requests whose verdict could not be read pending again. Call it once no shard is being worked on.

        Those of a shard that is still open, because a person must decide about it, keep their rows.
        """
        for number in [number for number in self._unreadable if self._ledger.shards[number].is_collected]:
            rows = self._unreadable.pop(number)
            log.info("%d requests without a readable verdict are sent again", len(rows))
            await self._recorder.reopen(rows)

    def _result(self, shard: Shard, request: JudgeRequest, final: JudgeResponse | Failure) -> RequestResult:
        if isinstance(final, Failure):
            return RequestResult(final, None, 1, final.usage, None, "batch", shard.batch_id, shard.service)
        final = emulated(final) if shard.emulated else final
        verdict = self._panel.read_variant(request.variant, final)
        return RequestResult(final, verdict, 1, final.usage, None, "batch", shard.batch_id, shard.service)

    def _sample(self, entry: ShardEntry) -> Sample:
        return Sample(entry.ordinal, entry.sample_id, _NO_FIELDS, _NO_FIELDS, _decode_columns(entry.columns), "")

    def _warn(self, shard: Shard, results: ResultFiles) -> None:
        for count, what in (
            (results.torn, "lines that are not complete JSON"),
            (results.unknown_ids, "lines for requests that are not in it"),
            (results.duplicates, "duplicate lines for requests"),
        ):
            if count:
                log.warning("batch %s: %d %s were ignored", shard.batch_id, count, what)


def lost(shard: Shard) -> Leftover:
    """Return the result of a request for which the batch's result files have no line."""
    error_type, message = LOST[shard.ended or "completed"]
    return Leftover(error_type, f"{message}: {shard.reason}" if shard.reason else message)
