"""From result files to rows: every line of both files is looked at, and whoever got no answer is told apart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

import msgspec
import pyarrow as pa

from runner.judge import Panel
from runner.lanes.batch.ledger import Ledger, Shard, ShardEntry
from runner.lanes.batch.result_lines import Leftover, LineResult, ResultFiles
from runner.lanes.batch.shard_budget import ShardBudget
from runner.lanes.batch.submitted import place_of
from runner.limits import ZERO_SPEND, Reservation, Spend
from runner.results import ResultRecorder, needing_revival, revive
from runner.types import Failure, JudgeRequest, JudgeResponse, RequestResult, Row, Sample, Usage

log = logging.getLogger(__name__)

REQUESTS_PER_SLICE = 512
"""So many rows are made between two looks at the event loop."""

LOST = {
    "expired": ("batch_expired", "the batch expired before this request was answered"),
    "failed": ("batch_lost", "the batch failed as a whole"),
    "cancelled": ("batch_lost", "the batch was cancelled before this request was answered"),
    "completed": ("batch_lost", "the batch ended without a line for this request"),
}
"""What is said of a request without a line, by how its batch ended."""

_NOT_ASKED: Mapping[str, Any] = {}
_columns = msgspec.json.Decoder(dict[str, Any]).decode


class ReconcileResult(msgspec.Struct):
    """What became of a shard's requests, and what they took of the budget."""

    answered: int = 0
    left: list[str] = []
    spent: Spend = ZERO_SPEND


class Reconciler:
    """Turns the results of one shard at a time into rows.

    Args:
        ledger: where result files and members are.
        panel: reads the verdicts.
        recorder: takes the rows.
        own: the dataset's own columns.
        dialects: of each service, by its name.
        reasks: for each variant, how often it is asked again when its verdict cannot be read.
        give_up: from how often a request was in a batch without an answer to whether its row says so now; else it is
            left for another try.
        purse: what shards may take; None without a budget.
    """

    def __init__(
        self,
        ledger: Ledger,
        panel: Panel,
        recorder: ResultRecorder,
        own: Collection[pa.Field],
        dialects: Mapping[str, str],
        reasks: Sequence[int],
        give_up: Callable[[int], bool],
        purse: ShardBudget | None = None,
    ) -> None:
        self._ledger = ledger
        self._panel = panel
        self._recorder = recorder
        self._odd = needing_revival(own)
        self._dialects = dialects
        self._reasks = reasks
        self._give_up = give_up
        self._budget = purse
        self._unreadable: list[tuple[Row, int, int]] = []
        self._lock = asyncio.Lock()

    async def write_rows(self, shard: Shard) -> ReconcileResult:
        """Write a row for each request that has an answer or is refused; returns who has none.

        When this returns, every row is on the disk, and so is what the shard took of the budget. A request that has its
        row of this shard already, because this was cut off before, is passed over. Raises RunStopped and OSError.
        """
        async with self._lock:
            members = list(self._ledger.read_members(shard.number))
            files = (self._ledger.output(shard.number), self._ledger.errors(shard.number))
            wanted = {member.custom_id for member in members}
            dialect = self._dialects[shard.service]
            with ResultFiles([path for path in files if path.exists()], wanted, dialect) as results:
                tally = await self._write_slices(shard, members, results)
            self._warn(shard, results)
            await self._recorder.flush()
            if self._budget is not None:
                await self._budget.charge(tally.spent)
            return tally

    def mark_leftovers(self, custom_ids: Iterable[str]) -> None:
        """Note that these requests got no answer: whoever asks what is left meets them again."""
        for custom_id in custom_ids:
            self._recorder.done.mark_unanswered(*place_of(self._panel, custom_id))

    async def withdraw(self, shard: Shard, *, was_sent: bool) -> None:
        """Note that the requests of a shard are in no batch; where they were sent, they may have been run and paid."""
        for member in self._ledger.read_members(shard.number):
            self._recorder.done.withdraw(*place_of(self._panel, member.custom_id))
        if was_sent and self._budget is not None and shard.reserved is not None:
            await self._budget.charge(shard.reserved)

    def release_budget(self, shard: Shard) -> None:
        """Give back what was reserved for a shard, now that its state file says that nothing more comes of it."""
        if self._budget is not None:
            self._budget.release(shard.reserved)

    async def _write_slices(self, shard: Shard, members: list[ShardEntry], results: ResultFiles) -> ReconcileResult:
        tally = ReconcileResult()
        lines: Iterator[Reservation | None] = (
            repeat(None) if self._budget is None else self._budget.members_with_cost(shard)
        )
        queue = zip(members, lines, strict=False)
        while some := list(islice(queue, REQUESTS_PER_SLICE)):
            self._write_slice(shard, some, results, tally)
            self._ledger.record_job(msgspec.structs.replace(shard, answered=tally.answered))
            await self._recorder.wait_for_capacity()
            await asyncio.sleep(0)
        return tally

    def _write_slice(
        self,
        shard: Shard,
        members: list[tuple[ShardEntry, Reservation | None]],
        results: ResultFiles,
        tally: ReconcileResult,
    ) -> None:
        """Write the rows of some members, in one go."""
        came, done = [], self._recorder.done
        for member, reserved in members:
            ordinal, variant = place_of(self._panel, member.custom_id)
            found = results.find(member.custom_id)
            if self._budget is not None and reserved is not None:
                tally.spent += self._budget.used(shard, reserved, found)
            if done.has_row(ordinal, variant):
                tally.answered += 1
                continue
            finding = self._final(found or lost(shard), member, variant)
            if finding is None:
                tally.left.append(member.custom_id)
                continue
            request = JudgeRequest(self._sample(member), variant, member.custom_id, b"", member.request_hash)
            came.append((request, self._result(shard, request, finding)))
        for row, part in self._recorder.record_all(came):
            ordinal, variant = place_of(self._panel, row["custom_id"])
            if done.batch_tries(ordinal, variant) < self._reasks[variant]:
                self._unreadable.append((row, part, variant))
        tally.answered += len(came)

    def _final(self, finding: LineResult, member: ShardEntry, variant: int) -> JudgeResponse | Failure | None:
        """What a request came to; None where it is left for another try."""
        if not isinstance(finding, Leftover):
            return finding
        if not self._give_up(self._recorder.done.batch_tries(member.ordinal, variant) + 1):
            return None
        return Failure(finding.error_type, finding.message)

    async def reask(self) -> None:
        """Have answers whose verdict could not be read asked again, now that no shard is out."""
        if self._unreadable:
            log.info("%d answers without a readable verdict are asked again", len(self._unreadable))
            await self._recorder.reopen(self._unreadable)
            self._unreadable = []

    def _result(self, shard: Shard, request: JudgeRequest, finding: JudgeResponse | Failure) -> RequestResult:
        if isinstance(finding, Failure):
            return RequestResult(finding, None, 1, Usage(), None, "batch", shard.batch_id, shard.service)
        verdict = self._panel.read_variant(request.variant, finding)
        return RequestResult(finding, verdict, 1, finding.usage, None, "batch", shard.batch_id, shard.service)

    def _sample(self, member: ShardEntry) -> Sample:
        columns = _columns(member.columns)
        if self._odd:
            columns = revive(columns, self._odd)
        return Sample(member.ordinal, member.sample_id, _NOT_ASKED, _NOT_ASKED, columns, "")

    def _warn(self, shard: Shard, results: ResultFiles) -> None:
        for count, what in (
            (results.torn, "lines that are no whole JSON"),
            (results.strangers, "lines for requests that are not in it"),
            (results.doubled, "further lines for requests that have one"),
        ):
            if count:
                log.warning("batch %s: %d %s were ignored", shard.batch_id, count, what)


def lost(shard: Shard) -> Leftover:
    """What is said of a request that no line of its batch's results names."""
    error_type, message = LOST[shard.ended or "completed"]
    return Leftover(error_type, f"{message}: {shard.reason}" if shard.reason else message)
