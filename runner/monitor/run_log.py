"""`run.log`: the log of a run as JSON lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

import msgspec

from runner.core import escape_controls, open_private, storable


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message and, if there is one, the traceback."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": storable(escape_controls(record.getMessage())),
        }
        if record.exc_info:
            entry["traceback"] = storable(escape_controls(self.formatException(record.exc_info)))
        return msgspec.json.encode(entry).decode()


class _BestEffortHandler(logging.FileHandler):
    """Opens the file at once, so that a descriptor is left for it, and again for each record as long as that fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        with suppress(OSError):
            self.stream = self._open()

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open_private(Path(self.baseFilename), "ab"), self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if that is possible: opening the file may fail, which `logging` does not expect."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in `logging`
        """Ignore the error: an unwritable log must neither end the run nor fill the terminal."""

    def close(self) -> None:
        """Close the file; on a full disk, unwritten lines are lost."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append the log records of this package to a file, for the duration of the block."""
    logger = logging.getLogger("runner")
    handler = _BestEffortHandler(path)
    handler.setFormatter(JsonLines())
    previous_level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous_level)
        handler.close()
