"""The samples of rows that are there already, found again in the dataset in one forward pass where possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Generic, TypeVar

from runner.dataset.readers import RawRow

Read = TypeVar("Read")
Open = Callable[[], Iterator[list[RawRow]]]


class RowLookup(Generic[Read]):
    """Reads forward through the dataset; starts again only when something before its place is wanted.

    Parts hold rows nearly in the dataset's order, so going through them part by part reads the dataset about once for
    each time it was asked (a run that grew by a repeat was asked twice).

    Args:
        open_chunks: begins to read the dataset from its first row.
        read: what is made of each row that is wanted.
    """

    def __init__(self, open_chunks: Open, read: Callable[[RawRow], Read]) -> None:
        self._open = open_chunks
        self._read = read
        self._chunks: Iterator[list[RawRow]] = iter(())
        self._held: list[RawRow] = []
        self._next = -1

    def at(self, ordinals: Collection[int]) -> dict[int, Read]:
        """Return what these ordinals hold, as far as the dataset has them."""
        wanted = set(ordinals)
        if not wanted:
            return {}
        if self._next < 0 or min(wanted) < self._next:
            self._chunks, self._held, self._next = self._open(), [], 0
        last, found = max(wanted), dict[int, Read]()
        for raw in self._until(last):
            if raw.ordinal in wanted:
                found[raw.ordinal] = self._read(raw)
        return found

    def _until(self, last: int) -> Iterator[RawRow]:
        """Yield raw rows from the current position through ordinal `last`; the rest of the chunk is kept."""
        while self._next <= last:
            if not self._held:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._held = chunk
            rows = self._held
            inside = min(len(rows), last + 1 - rows[0].ordinal)
            self._held = rows[inside:]
            self._next = rows[inside - 1].ordinal + 1
            yield from rows[:inside]
