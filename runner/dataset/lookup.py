"""Read chosen rows of the dataset again, by ordinal, in one forward pass if possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Generic, TypeVar

from runner.dataset.readers import RawRow

Read = TypeVar("Read")
Open = Callable[[], Iterator[list[RawRow]]]


class RowLookup(Generic[Read]):
    """Reads forward through the dataset; it starts again only if a row before its position is wanted.

    Result parts hold rows nearly in the dataset's order. A caller that goes through them part by part therefore reads
    the dataset about once for each time that it was judged: twice if a repeat was added to the run later.

    Args:
        open_chunks: opens the dataset at its first row.
        read: converts each wanted row.
    """

    def __init__(self, open_chunks: Open, read: Callable[[RawRow], Read]) -> None:
        self._open = open_chunks
        self._read = read
        self._chunks: Iterator[list[RawRow]] = iter(())
        self._held: list[RawRow] = []
        self._next = -1

    def at(self, ordinals: Collection[int]) -> dict[int, Read]:
        """Return the converted rows by ordinal; ordinals that the dataset does not have are left out."""
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
