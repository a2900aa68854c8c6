"""`journal/rejected.jsonl`: lines of the journal that are damaged, and rows that do not fit their columns.

Neither becomes a row of a part, and neither may stop the rest. They are kept here for a person; their requests are
asked again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

NAME = "rejected.jsonl"


class Rejected:
    """Keeps what cannot become a row.

    Attributes:
        count: how many lines and rows were kept by this process.

    Args:
        journal: the folder.
    """

    def __init__(self, journal: Path) -> None:
        self.count = 0
        self._path = journal / NAME

    def add(self, segment: Path, offset: int | None, content: bytes, why: str) -> None:
        """Keep one line or row durably, and log it.

        Args:
            segment: where it stands in the journal.
            offset: the byte at which its line begins, if that is known.
            content: the line, or the row as JSON.
            why: what is wrong with it.
        """
        self.count += 1
        place = f"{segment}" if offset is None else f"{segment}, the line at byte {offset}"
        log.warning("%s: %s; it is kept in %s, and its request is asked again", place, why, self._path)
        entry = {"file": segment.name, "offset": offset, "why": why, "content": content.decode("utf-8", "replace")}
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, msgspec.json.encode(entry) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)

    def note(self) -> str | None:
        """Return a sentence for the end of the run; None if nothing was rejected."""
        if not self.count:
            return None
        return (
            f"{self.count:,} journal lines or rows were damaged or did not fit their columns; they are kept in "
            f"{self._path}, and have no row"
        )
