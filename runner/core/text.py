"""Durations, counts and names as messages show them, and text that can be stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches

# What a terminal obeys instead of showing it: C0 (without tab and newline), DEL, C1, line separators, and the marks
# that turn the direction of text around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


# What differs in two messages that say the same: UUIDs, times, ids with digits, long numbers. Short numbers are what a
# message says ("requested 9000 tokens").
_IDS = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?"
    r"|\b(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{12,}"
    r"|\b(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}\b"
    r"|\d{7,}"
)
# Quotations, numbers, and short ids with digits.
_VALUES = re.compile(r"""(["'`])[^"'`]{1,200}\1|\b(?=[A-Za-z]*\d)[A-Za-z0-9]+\b|\d+""")


def duration(seconds: float | None) -> str:
    """Format seconds as `42s`, `3m05s`, `2h07m` or `4d03h`; `-` if the duration is unknown."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def counted(count: int, one: str, many: str) -> str:
    """Format a count with its noun: `1 batch`, `3,000 batches`."""
    return f"{count:,} {one if count == 1 else many}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `word`, for "did you mean"; None if none is close.

    The comparison is case-sensitive.
    """
    found = get_close_matches(word, list(known), n=1)
    return found[0] if found else None


def storable(text: str) -> str:
    """Return the text with U+FFFD in place of every lone surrogate.

    JSON escapes can spell half of a surrogate pair, but UTF-8 cannot encode it.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def without_ids(text: str) -> str:
    """Return a message without what tells one call from another: `(request id: req_8f2a...)` is `(request id: #)`."""
    return _IDS.sub("#", text)


def without_values(text: str) -> str:
    """Return a message without its ids, numbers and quotations, for counting messages of the same kind."""
    return _VALUES.sub("#", without_ids(text))


def escape_controls(text: str) -> str:
    r"""Return the text with `\x1b` in place of an escape character, and likewise for every other control character.

    Tabs and newlines stay. What a service, a dataset or a judge says cannot steer a terminal then.
    """
    return _CONTROLS.sub(_escaped, text)


def escape_controls_in_json(text: str) -> str:
    """Return a JSON text with an escape in place of every control character; it has the same value."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def now() -> str:
    """Return the current UTC time in ISO 8601 with seconds, as run.json and status.json hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
