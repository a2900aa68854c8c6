"""The pending requests: those of the dataset that still need a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from runner.dataset import Prefetcher, SampleReader
from runner.results import CompletionIndex
from runner.types import Sample

SampleVariant = tuple[Sample, int]
"""A sample and the number of one of its variants that needs a row."""


class PendingWork:
    """Hands out the pending requests sample by sample, with the variants of a sample together.

    Args:
        rows: the raw rows of samples that need a row of results.
        reader: makes samples of raw rows.
        done: which requests have their row.
        accept: returns True if a request is for this lane, given how many batches did not answer it; None: all are.
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
        """Return the next request, or None if `fill` must be called first."""
        while not self._ready:
            raw = self._rows.next_now()
            if raw is None:
                return None
            sample = self._reader.sample(raw)
            wanted = [variant for variant in self._variants if self._is_pending(sample.ordinal, variant)]
            self._ready.extend((sample, variant) for variant in wanted)
        return self._ready.popleft()

    def _is_pending(self, ordinal: int, variant: int) -> bool:
        if self._done.is_done_or_submitted(ordinal, variant):
            return False
        return self._accept is None or self._accept(self._done.batch_tries(ordinal, variant))

    async def fill(self) -> bool:
        """Wait for the next chunk of the dataset; returns False at its end."""
        return await self._rows.fill()
