"""Counts why rows are not `ok`: messages of the same kind together, with one example each, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from runner.core import without_values

# Kinds of messages that are counted apart. A service may word each one differently: further ones count by `error_type`.
MAX_CAUSES = 100
MAX_EXAMPLE_CHARS = 300
_KEY_CHARS = 160  # enough to tell kinds apart; what follows is often the text of the sample

CAUSES_SHOWN = 5


class Cause(msgspec.Struct):
    """One kind of failure.

    Attributes:
        error_type: as in the rows.
        count: how many rows have it.
        example: the `error_message` of one of them.
    """

    error_type: str
    count: int
    example: str

    def __str__(self) -> str:
        return f"{self.count:,} x {self.error_type}" + (f": {self.example}" if self.example else "")


def add_cause(causes: dict[str, Cause], error_type: str | None, message: str | None, count: int) -> None:
    """Count rows that are not `ok`; a negative `count` takes them back.

    Args:
        causes: the kinds so far, by what their messages have in common.
        error_type: of the rows; None in rows of an earlier version.
        message: their `error_message`.
        count: how many rows.
    """
    kind, text = error_type or "unknown", " ".join((message or "").split())
    key = f"{kind}: {without_values(text[: 2 * _KEY_CHARS])[:_KEY_CHARS]}"
    if key not in causes and (count < 0 or len(causes) >= MAX_CAUSES):
        key = kind
    cause = causes.get(key)
    if cause is None:
        cause = causes[key] = Cause(kind, 0, text[:MAX_EXAMPLE_CHARS])
    cause.count += count
    if cause.count <= 0:
        del causes[key]


def commonest(causes: Iterable[Cause]) -> list[Cause]:
    """Return the commonest causes, the most frequent first."""
    return sorted(causes, key=lambda cause: -cause.count)[:CAUSES_SHOWN]
