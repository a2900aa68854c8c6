"""Hand raw rows to many workers, read ahead in a thread."""

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
    """Rows for workers that pull: while one chunk is handed out, the next is being read.

    A worker calls `take`, which awaits nothing; when that gives None it awaits `refill`, and goes home when that
    gives False. Each row goes to exactly one worker. Leaving the context stops the reading and waits for nothing.

    Args:
        source: a generator of chunks, as `chunks` gives it; it runs in a thread of its own and is closed there.
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
        """Return the next row if one is at hand."""
        return self._rows.pop() if self._rows else None

    async def fill(self) -> bool:
        """Wait until a row is at hand; False when the dataset has ended.

        Raises:
            DatasetError: the dataset cannot be read any further.
        """
        while not self._rows:
            coming = self._coming
            if coming is None:
                return False
            chunk = await asyncio.shield(coming)
            if coming is self._coming:  # the first of those who waited takes the chunk in
                self._coming = None if chunk is None else self._read()
                self._rows = [] if chunk is None else chunk[::-1]
        return True

    async def next(self) -> RawRow | None:
        """Return the next row; None when the dataset has ended.

        Raises:
            DatasetError: the dataset cannot be read any further.
        """
        while not self._rows:
            if not await self.fill():
                return None
        return self._rows.pop()

    def _read(self) -> asyncio.Future[list[RawRow] | None]:
        coming = asyncio.get_running_loop().run_in_executor(self._thread, next, self._source, None)
        coming.add_done_callback(_look_at)
        return coming


def _look_at(coming: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining about an error that no worker stayed to see."""
    with suppress(asyncio.CancelledError, DatasetError):
        coming.result()
