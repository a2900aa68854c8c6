"""What is left to ask: the dataset minus the rows there are."""

from __future__ import annotations

from collections import deque

from runner.dataset import Feed, SampleReader
from runner.results.resume import Done
from runner.types import Sample

Ticket = tuple[Sample, int]
"""A sample and the number of one of its variants that lacks a row."""


class Remaining:
    """Hands out what is left, sample by sample, the variants of a sample together.

    Args:
        feed: raw rows of the samples that lack a row.
        reader: makes samples of them.
        done: which requests have their row.
    """

    def __init__(self, feed: Feed, reader: SampleReader, done: Done) -> None:
        self._feed = feed
        self._reader = reader
        self._done = done
        self._tickets: deque[Ticket] = deque()
        self._variants = range(len(done.variants))

    def take(self) -> Ticket | None:
        """The next request to ask; None where `refill` is needed first."""
        if self._tickets:
            return self._tickets.popleft()
        raw = self._feed.take()
        if raw is None:
            return None
        sample = self._reader.sample(raw)
        missing = [variant for variant in self._variants if not self._done.has(sample.ordinal, variant)]
        self._tickets.extend((sample, variant) for variant in missing)
        return self._tickets.popleft() if self._tickets else self.take()

    async def refill(self) -> bool:
        """Wait for the next chunk of the dataset; False where it ends."""
        return await self._feed.refill()
