"""What is left to ask: the dataset minus the rows there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from runner.dataset import Prefetcher, SampleReader
from runner.results import CompletionIndex
from runner.types import Sample

SampleVariant = tuple[Sample, int]
"""A sample and the number of one of its variants that lacks a row."""


class PendingWork:
    """Hands out what is left, sample by sample, the variants of a sample together.

    Args:
        rows: raw rows of the samples that lack a row.
        reader: makes samples of them.
        done: which requests have their row.
        accept: whether a request is for this lane, by how many batches it went unanswered in; None: each is.
    """

    def __init__(
        self, rows: Prefetcher, reader: SampleReader, done: CompletionIndex, accept: Callable[[int], bool] | None = None
    ) -> None:
        self._rows = rows
        self._reader = reader
        self._done = done
        self._accept = accept
        self._ready: deque[SampleVariant] = deque()
        self._variants = range(len(done.variants))

    def next_now(self) -> SampleVariant | None:
        """The next request to ask; None where `refill` is needed first."""
        while not self._ready:
            raw = self._rows.next_now()
            if raw is None:
                return None
            sample = self._reader.sample(raw)
            wanted = [variant for variant in self._variants if self._is_left(sample.ordinal, variant)]
            self._ready.extend((sample, variant) for variant in wanted)
        return self._ready.popleft()

    def _is_left(self, ordinal: int, variant: int) -> bool:
        if self._done.is_done_or_submitted(ordinal, variant):
            return False
        return self._accept is None or self._accept(self._done.batch_tries(ordinal, variant))

    async def fill(self) -> bool:
        """Wait for the next chunk of the dataset; False where it ends."""
        return await self._rows.fill()
