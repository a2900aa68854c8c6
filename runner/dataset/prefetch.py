"""Reads raw rows ahead in a thread and hands them to many workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from runner.dataset.readers import RawRow
from runner.errors import DatasetError


class Prefetcher:
    """Hands out the rows of one chunk while a thread reads the next chunk.

    A worker calls `next_now`, which does not wait; if that returns None, it awaits `fill`, and ends if that returns
    False. Each row goes to exactly one worker. Leaving the context stops the reading and waits for nothing.

    Args:
        source: a generator of chunks, as `chunks` returns it; it runs in a thread of its own and is closed there.
    """

    def __init__(self, source: Iterator[list[RawRow]]) -> None:
        self._source = source
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dataset")
        self._rows: list[RawRow] = []
        self._coming: asyncio.Future[list[RawRow] | None] | None = None

    async def __aenter__(self) -> Self:
        self._coming = self._read()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.clear()
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None
        close: Any = getattr(self._source, "close", None)
        if close is not None:
            self._thread.submit(close)
        self._thread.shutdown(wait=False)

    def next_now(self) -> RawRow | None:
        """Return the next row that is already read, or None."""
        return self._rows.pop() if self._rows else None

    async def fill(self) -> bool:
        """Wait until a row is read; returns False at the end of the dataset.

        Raises:
            DatasetError: the dataset cannot be read any further.
        """
        while not self._rows:
            coming = self._coming
            if coming is None:
                return False
            chunk = await asyncio.shield(coming)
            if coming is self._coming:  # the first waiter takes the chunk
                self._coming = None if chunk is None else self._read()
                self._rows = [] if chunk is None else chunk[::-1]
        return True

    async def next(self) -> RawRow | None:
        """Return the next row, or None at the end of the dataset.

        Raises:
            DatasetError: the dataset cannot be read any further.
        """
        while not self._rows:
            if not await self.fill():
                return None
        return self._rows.pop()

    def _read(self) -> asyncio.Future[list[RawRow] | None]:
        coming = asyncio.get_running_loop().run_in_executor(self._thread, next, self._source, None)
        coming.add_done_callback(_consume_error)
        return coming


def _consume_error(coming: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining about an error that no worker awaited."""
    with suppress(asyncio.CancelledError, DatasetError):
        coming.result()
