"""From what is left to ask to upload files."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from io import BufferedWriter
from os import fsync

import msgspec

from runner.batch.api import ENDPOINT
from runner.batch.ledger import Ledger, Member, Shard
from runner.batch.members import columns_of, member_line
from runner.errors import BadRow
from runner.judge import Panel
from runner.remaining import Remaining
from runner.results.recorder import Recorder
from runner.results.schema import Asked
from runner.types import Failure, JudgeRequest

SLICE = 64
"""So many requests are written between two looks at the event loop."""

MB = 1_000_000

MODEL_FREE = frozenset({"pai"})
"""Dialects whose files may mix models, and whose lines carry no method and url."""

_encode = msgspec.json.Encoder().encode


def line_of(request: JudgeRequest, dialect: str) -> bytes:
    """One request as a line of an upload file, in UTF-8 as it is."""
    where = b"" if dialect in MODEL_FREE else b'"method":"POST","url":"' + ENDPOINT.encode() + b'",'
    return b'{"custom_id":' + _encode(request.custom_id) + b"," + where + b'"body":' + request.body + b"}\n"


class Draft:
    """A shard that is being written; it counts only when it is whole."""

    def __init__(self, ledger: Ledger, number: int) -> None:
        self.number = number
        self.requests = 0
        self.size = 0
        self.replaces = False
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


class Packer:
    """Writes shards, one at a time, of what is left to ask.

    Args:
        ledger: where they go.
        remaining: what is left to ask; it is told what was taken by `recorder.done`.
        panel: makes the requests.
        recorder: takes the rows of samples that cannot be asked.
        service, base_url, dialect: who will be asked.
        most_bytes, most_lines: of one shard.
        floats: the dataset's own columns that may hold numbers which JSON lacks.
    """

    def __init__(
        self,
        ledger: Ledger,
        remaining: Remaining,
        panel: Panel,
        recorder: Recorder,
        *,
        service: str,
        base_url: str,
        dialect: str,
        most_bytes: float,
        most_lines: int,
        floats: Collection[str],
    ) -> None:
        self._ledger = ledger
        self._remaining = remaining
        self._panel = panel
        self._recorder = recorder
        self._service = service
        self._base_url = base_url
        self._dialect = dialect
        self._most_bytes = most_bytes
        self._most_lines = most_lines
        self._floats = floats
        self._drafts: dict[str, Draft] = {}
        self._number = ledger.next_number
        self._empty = False
        self._turn = asyncio.Lock()

    async def next(self) -> Shard | None:
        """Write the next shard, whole and on the disk; None where nothing is left. Raises OSError, DatasetError."""
        async with self._turn:
            self._ledger.begin()
            while True:
                for _ in range(SLICE):
                    full = self._take()
                    if full is not None:
                        return await self._close(full)
                    if self._empty:
                        break
                if self._empty and not await self._remaining.refill():
                    if not self._drafts:
                        return None
                    return await self._close(self._drafts.pop(next(iter(self._drafts))))
                await self._recorder.room()
                await asyncio.sleep(0)

    def abandon(self) -> None:
        """Leave what is not whole; its requests are in no batch."""
        for draft in self._drafts.values():
            draft.abandon()
            for place in draft.places:
                self._recorder.done.withdraw(*place)
        self._drafts.clear()

    def _take(self) -> Draft | None:
        """Add the next request to its draft; a draft that was full before is given back."""
        ticket = self._remaining.take()
        self._empty = ticket is None
        if ticket is None:
            return None
        sample, variant = ticket
        custom_id = self._panel.custom_id(sample.ordinal, variant)
        try:
            request = self._panel.request(sample, variant)
            line = line_of(request, self._dialect)
            if len(line) > self._most_bytes:
                raise BadRow(f"{len(line):,} bytes, more than a whole upload file may have (batch.shard_mb)")
        except BadRow as error:
            failure = Failure(error.error_type, f"{sample.place}: {error}")
            self._recorder.record(JudgeRequest(sample, variant, custom_id, b"", ""), Asked(failure))
            return None
        return self._add(request, line)

    def _add(self, request: JudgeRequest, line: bytes) -> Draft | None:
        key, sample, done = self._file_of(request.variant), request.sample, self._recorder.done
        draft, full = self._drafts.get(key), None
        if draft is not None and (draft.size + len(line) > self._most_bytes or draft.requests >= self._most_lines):
            full, draft = self._drafts.pop(key), None
        if draft is None:
            draft = self._drafts[key] = Draft(self._ledger, self._number)
            self._number += 1
        columns = columns_of(sample, self._floats)
        member = Member(request.custom_id, request.request_hash, sample.id, sample.ordinal, columns)
        draft.add(line, member_line(member), (sample.ordinal, request.variant))
        draft.replaces = draft.replaces or request.custom_id in done.owners
        done.submit(sample.ordinal, request.variant)
        return full

    async def _close(self, draft: Draft) -> Shard:
        """Bring a draft to the disk; from here on its requests belong to a shard."""

        await asyncio.to_thread(draft.finish)
        return self._ledger.save(
            Shard(
                number=draft.number,
                step="upload",
                service=self._service,
                base_url=self._base_url,
                requests=draft.requests,
                size=draft.size,
                replaces=draft.replaces,
            )
        )

    def _file_of(self, variant: int) -> str:
        """What may stand in one file: everything, or the requests of one model."""
        if self._dialect in MODEL_FREE:
            return ""
        return self._panel.judges[self._panel.variants[variant].judge_index].model
