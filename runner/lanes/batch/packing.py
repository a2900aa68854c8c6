"""From what is left to ask to upload files."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from io import BufferedWriter
from os import fsync

import msgspec

from runner.errors import BadRow
from runner.judge import Panel
from runner.lanes import PendingWork
from runner.lanes.batch.api import ENDPOINT
from runner.lanes.batch.grouping import DIALECTS_WITHOUT_URL, BatchEndpoint, ShardGroup, group_variants
from runner.lanes.batch.ledger import Ledger, Shard, ShardEntry
from runner.lanes.batch.shard_budget import ShardBudget
from runner.lanes.batch.submitted import columns_of, member_line
from runner.limits import ZERO_SPEND, Spend
from runner.results import ResultRecorder
from runner.types import Failure, JudgeRequest, RequestResult

REQUESTS_PER_SLICE = 64
"""So many requests are written between two looks at the event loop."""

_encode = msgspec.json.Encoder().encode


def line_of(request: JudgeRequest, dialect: str) -> bytes:
    """One request as a line of an upload file, in UTF-8 as it is."""
    where = b"" if dialect in DIALECTS_WITHOUT_URL else b'"method":"POST","url":"' + ENDPOINT.encode() + b'",'
    return b'{"custom_id":' + _encode(request.custom_id) + b"," + where + b'"body":' + request.body + b"}\n"


class OpenShard:
    """A shard that is being written for a site; it counts only when it is whole."""

    def __init__(self, ledger: Ledger, number: int, endpoint: BatchEndpoint) -> None:
        self.number = number
        self.endpoint = endpoint
        self.requests = 0
        self.size = 0
        self.replaces = False
        self.reserved: Spend | None = None
        self.places: list[tuple[int, int]] = []
        self._lines: BufferedWriter = ledger.requests(number).open("wb")
        self._members: BufferedWriter = ledger.members(number).open("wb")

    def add(self, line: bytes, member: bytes, place: tuple[int, int]) -> None:
        """Take one request, the variant of a sample."""
        self._lines.write(line)
        self._members.write(member)
        self.places.append(place)
        self.requests += 1
        self.size += len(line)

    def finish(self) -> None:
        """Bring both files to the disk."""
        for file in (self._lines, self._members):
            file.flush()
            fsync(file.fileno())
            file.close()

    def abandon(self) -> None:
        """Leave it: the next start removes it."""
        for file in (self._lines, self._members):
            with suppress(OSError):  # a full disk: what was not written is not missed
                file.close()


class ShardPacker:
    """Writes shards, one at a time, of what is left to ask.

    With a budget, each line is reserved before it is written; where the next one does not fit, what is written becomes
    a shard that is not full.

    Args:
        ledger: where they go.
        pending: what is left to ask; it is told what was taken by `recorder.done`.
        panel: makes the requests.
        recorder: takes the rows of samples that cannot be asked.
        endpoints: for each judge, the services that may be asked, in turn.
        most_bytes, most_lines: of one shard.
        floats: the dataset's own columns that may hold numbers which JSON lacks.
        budget: what shards may take; None without a budget.
    """

    def __init__(
        self,
        ledger: Ledger,
        pending: PendingWork,
        panel: Panel,
        recorder: ResultRecorder,
        *,
        endpoints: Sequence[Sequence[BatchEndpoint]],
        max_bytes: float,
        max_lines: int,
        floats: Collection[str],
        budget: ShardBudget | None = None,
    ) -> None:
        self._ledger = ledger
        self._pending = pending
        self._panel = panel
        self._recorder = recorder
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._floats = floats
        self._budget = budget
        self._groups = group_variants(endpoints, [judge.model for judge in panel.judges], ledger.next_number)
        self._open: dict[ShardGroup, OpenShard] = {}
        self._held_back: JudgeRequest | None = None
        self._number = ledger.next_number
        self._needs_refill = False
        self._lock = asyncio.Lock()

    async def next(self) -> Shard | None:
        """Write the next shard, whole and on the disk; None where nothing is left.

        Raises OSError, DatasetError, and RunStopped where the budget has no room for another line.
        """
        async with self._lock:
            self._ledger.create()
            while True:
                for _ in range(REQUESTS_PER_SLICE):
                    full = self._take()
                    if full is not None:
                        return await self._close(full)
                    if self._needs_refill:
                        break
                if self._needs_refill and not await self._pending.fill():
                    if not self._open:
                        return None
                    return await self._close(self._open.pop(next(iter(self._open))))
                await self._recorder.wait_for_capacity()
                await asyncio.sleep(0)

    def release_all(self) -> None:
        """Leave what is not whole; its requests are in no batch."""
        for draft in self._open.values():
            draft.abandon()
            if self._budget is not None:
                self._budget.release(draft.reserved)
            for place in draft.places:
                self._recorder.done.withdraw(*place)
        self._open.clear()

    def _take(self) -> OpenShard | None:
        """Add the next request to its draft; a draft that is full, or for which there is no more, is given back."""
        request, self._held_back = self._held_back or self._next_request(), None
        if request is None:
            return None
        amount = None
        if self._budget is not None:
            amount = self._budget.reserve(request)
            if amount is None:
                self._held_back = request
                if not self._open:
                    raise self._budget.exhausted(request)
                return self._open.pop(next(iter(self._open)))
        return self._add(request, amount)

    def _next_request(self) -> JudgeRequest | None:
        """The next that can be asked; None where there is none at hand, or where it became a failed row."""
        ticket = self._pending.next_now()
        self._needs_refill = ticket is None
        if ticket is None:
            return None
        sample, variant = ticket
        try:
            request = self._panel.request(sample, variant)
            size = max(len(line_of(request, site.dialect)) for site in self._group_of(variant).endpoints)
            if size > self._max_bytes:
                raise BadRow(f"{size:,} bytes, more than a whole upload file may have (batch.shard_mb)")
        except BadRow as error:
            failure = Failure(error.error_type, f"{sample.place}: {error}")
            custom_id = self._panel.custom_id(sample.ordinal, variant)
            self._recorder.record(JudgeRequest(sample, variant, custom_id, b"", ""), RequestResult(failure))
            return None
        return request

    def _add(self, request: JudgeRequest, amount: Spend | None) -> OpenShard | None:
        pile, sample, done = self._group_of(request.variant), request.sample, self._recorder.done
        draft, full = self._open.get(pile), None
        line = b"" if draft is None else line_of(request, draft.endpoint.dialect)
        if draft is not None and (draft.size + len(line) > self._max_bytes or draft.requests >= self._max_lines):
            full, draft = self._open.pop(pile), None
        if draft is None:
            draft = self._open[pile] = OpenShard(self._ledger, self._number, pile.next_endpoint())
            line = line_of(request, draft.endpoint.dialect)
            self._number += 1
        columns = columns_of(sample, self._floats)
        member = ShardEntry(request.custom_id, request.request_hash, sample.id, sample.ordinal, columns)
        draft.add(line, member_line(member), (sample.ordinal, request.variant))
        draft.replaces = draft.replaces or request.custom_id in done.owners
        if amount is not None:
            draft.reserved = (draft.reserved or ZERO_SPEND) + amount
        done.submit(sample.ordinal, request.variant)
        return full

    async def _close(self, draft: OpenShard) -> Shard:
        """Bring a draft to the disk; from here on its requests belong to a shard."""

        await asyncio.to_thread(draft.finish)
        return self._ledger.save(
            Shard(
                number=draft.number,
                step="upload",
                service=draft.endpoint.service,
                base_url=draft.endpoint.base_url,
                requests=draft.requests,
                size=draft.size,
                replaces=draft.replaces,
                reserved=draft.reserved,
            )
        )

    def _group_of(self, variant: int) -> ShardGroup:
        return self._groups[self._panel.variants[variant].judge_index]
