"""Write pending requests into shard files, up to the service's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from io import BufferedWriter
from os import fsync

import msgspec

from runner.core import open_private
from runner.errors import BadRow
from runner.judge import Panel
from runner.lanes import PendingWork
from runner.lanes.batch.api import ENDPOINT
from runner.lanes.batch.grouping import DIALECTS_WITHOUT_URL, BatchEndpoint, ShardGroup, group_variants
from runner.lanes.batch.ledger import Ledger, Shard, ShardEntry
from runner.lanes.batch.listing import new_mark
from runner.lanes.batch.shard_budget import ShardBudget
from runner.lanes.batch.submitted import encode_columns, entry_line
from runner.limits import ZERO_SPEND, Spend
from runner.results import ResultRecorder
from runner.types import Failure, JudgeRequest, RequestResult

# Requests that are written before the event loop gets a turn.
REQUESTS_PER_SLICE = 64

_encode = msgspec.json.Encoder().encode


# Characters that end a line for some readers (Python's `splitlines`) and that JSON does not escape of itself.
_LINE_ENDS = tuple((char.encode(), rf"\u{ord(char):04x}".encode()) for char in "\u0085\u2028\u2029")


def request_line(request: JudgeRequest, dialect: str) -> bytes:
    """Return a request as a line of an upload file: UTF-8, only what may end a line is escaped."""
    target = b"" if dialect in DIALECTS_WITHOUT_URL else b'"method":"POST","url":"' + ENDPOINT.encode() + b'",'
    line = b'{"custom_id":' + _encode(request.custom_id) + b"," + target + b'"body":' + request.body + b"}\n"
    for char, escape in _LINE_ENDS:
        line = line.replace(char, escape)
    return line


class ShardSpec(msgspec.Struct, frozen=True):
    """Where shards go, and how large one may be.

    Attributes:
        endpoints: for each judge, the services that may answer, in turn.
        max_bytes: of one upload file.
        max_lines: of one upload file.
    """

    endpoints: Sequence[Sequence[BatchEndpoint]]
    max_bytes: float
    max_lines: int


class OpenShard:
    """A shard that is being written for an endpoint. It does not count before it is complete and saved."""

    def __init__(self, ledger: Ledger, number: int, endpoint: BatchEndpoint) -> None:
        self.number = number
        self.endpoint = endpoint
        self.requests = 0
        self.size = 0
        self.replaces = False
        self.reserved: Spend | None = None
        self.places: list[tuple[int, int]] = []
        self._lines: BufferedWriter = open_private(ledger.requests(number))
        self._entries: BufferedWriter = open_private(ledger.members(number))

    def fits(self, line: bytes, spec: ShardSpec) -> bool:
        """Return True if a line fits within the limits of a shard."""
        return self.size + len(line) <= spec.max_bytes and self.requests < spec.max_lines

    def add(self, line: bytes, entry: bytes, place: tuple[int, int]) -> None:
        """Add one request; `place` is its ordinal and variant. Raises OSError."""
        self._lines.write(line)
        self._entries.write(entry)
        self.places.append(place)
        self.requests += 1
        self.size += len(line)

    def finish(self) -> None:
        """Write both files to the disk. Raises OSError."""
        for file in (self._lines, self._entries):
            file.flush()
            fsync(file.fileno())
            file.close()

    def abandon(self) -> None:
        """Close both files; the next start removes them."""
        for file in (self._lines, self._entries):
            with suppress(OSError):  # a full disk: these files are not needed
                file.close()


class ShardPacker:
    """Writes pending requests into shards, one shard at a time for each group.

    With a budget, each line is reserved before it is written. If the next line does not fit, the open shard is closed
    although it is not full.

    Args:
        ledger: where shards are saved.
        pending: the requests to write. It leaves out those that are marked as submitted in `recorder.done`.
        panel: makes the requests.
        recorder: takes the failed rows of samples of which no request can be made.
        spec: endpoints and limits.
        float_columns: the dataset's own columns that may hold numbers which JSON lacks.
        budget: reserves what shards may use; None without a budget.
    """

    def __init__(
        self,
        ledger: Ledger,
        pending: PendingWork,
        panel: Panel,
        recorder: ResultRecorder,
        spec: ShardSpec,
        *,
        float_columns: Collection[str],
        budget: ShardBudget | None = None,
    ) -> None:
        self._ledger = ledger
        self._pending = pending
        self._panel = panel
        self._recorder = recorder
        self._spec = spec
        self._float_columns = float_columns
        self._budget = budget
        self._groups = group_variants(spec.endpoints, [judge.model for judge in panel.judges], ledger.next_number)
        self._open: dict[ShardGroup, OpenShard] = {}
        self._deferred: JudgeRequest | None = None
        self._number = ledger.next_number
        self._needs_refill = False
        self._lock = asyncio.Lock()

    async def next(self) -> Shard | None:
        """Write the next shard to the disk and return it, or return None if no request is pending.

        Raises OSError, DatasetError, and RunStopped if the budget has no room for another line.
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
        """Abandon the open shards; their requests are in no batch."""
        for shard in self._open.values():
            shard.abandon()
            if self._budget is not None:
                self._budget.release(shard.reserved)
            for place in shard.places:
                self._recorder.done.withdraw(*place)
        self._open.clear()

    def _take(self) -> OpenShard | None:
        """Add the next request to its open shard; returns a shard that must be closed, or None."""
        request, self._deferred = self._deferred or self._next_request(), None
        if request is None:
            return None
        amount = None
        if self._budget is not None:
            amount = self._budget.reserve(request)
            if amount is None:
                self._deferred = request
                if not self._open:
                    raise self._budget.exhausted(request)
                return self._open.pop(next(iter(self._open)))
        return self._add(request, amount)

    def _next_request(self) -> JudgeRequest | None:
        """Return the next request, or None if none is ready or a failed row was recorded instead."""
        pending = self._pending.next_now()
        self._needs_refill = pending is None
        if pending is None:
            return None
        sample, variant = pending
        try:
            request = self._panel.request(sample, variant)
            size = max(len(request_line(request, endpoint.dialect)) for endpoint in self._group_of(variant).endpoints)
            if size > self._spec.max_bytes:
                raise BadRow(f"{size:,} bytes, more than an upload file may have (batch.shard_mb)")
        except BadRow as error:
            failure = Failure(error.error_type, f"{sample.place}: {error}")
            custom_id = self._panel.custom_id(sample.ordinal, variant)
            self._recorder.record(JudgeRequest(sample, variant, custom_id, b"", ""), RequestResult(failure))
            return None
        return request

    def _add(self, request: JudgeRequest, amount: Spend | None) -> OpenShard | None:
        group, sample, done = self._group_of(request.variant), request.sample, self._recorder.done
        shard, full = self._open.get(group), None
        line = b"" if shard is None else request_line(request, shard.endpoint.dialect)
        if shard is not None and not shard.fits(line, self._spec):
            full, shard = self._open.pop(group), None
        if shard is None:
            shard = self._open[group] = OpenShard(self._ledger, self._number, group.next_endpoint())
            line = request_line(request, shard.endpoint.dialect)
            self._number += 1
        columns = encode_columns(sample, self._float_columns)
        entry = ShardEntry(request.custom_id, request.request_hash, sample.id, sample.ordinal, columns)
        shard.add(line, entry_line(entry), (sample.ordinal, request.variant))
        shard.replaces = shard.replaces or done.replaces_row(request.custom_id)
        if amount is not None:
            shard.reserved = (shard.reserved or ZERO_SPEND) + amount
        done.submit(sample.ordinal, request.variant)
        return full

    async def _close(self, shard: OpenShard) -> Shard:
        """Write an open shard to the disk; from here on its requests are in a shard."""
        await asyncio.to_thread(shard.finish)
        return self._ledger.save(
            Shard(
                number=shard.number,
                step="upload",
                service=shard.endpoint.service,
                base_url=shard.endpoint.base_url,
                requests=shard.requests,
                size=shard.size,
                replaces=shard.replaces,
                reserved=shard.reserved,
                mark=new_mark(),
            )
        )

    def _group_of(self, variant: int) -> ShardGroup:
        return self._groups[self._panel.variants[variant].judge_index]
