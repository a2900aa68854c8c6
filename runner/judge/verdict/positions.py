"""Finds a verdict on the first line, or on the last line that has one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner.judge.verdict.common import PAD, UNIT

# Longest line that is read as a verdict.
MAX_LINE_CHARS = 200

# Text after a number that makes it more than a single number: `7-8`, `7, 8`, `7 or 8`, `2.0.1`.
RANGE = r"(?:[ \t]?[-–—−~～/／:：,，][ \t]?|[ \t](?:to|and|or)[ \t]|[ \t]?[到至或和、][ \t]?|[.．]?)\d"

# Optional text after a number: its unit, and the top of its scale.
SCALED = (
    rf"(?>(?:{PAD}{UNIT})?)"
    rf"(?>(?:{PAD}(?:[/／]|(?i:out of)){PAD}(?P<top>\d++(?>(?:[.．]\d++)?))(?>(?:{PAD}{UNIT})?))?)"
)

# A single number: `8`, `7.5`, `4分`, `8/10`, `8 out of 10`.
ONE_NUMBER = rf"(?P<value>[-−]?\d++(?>(?:[.．]\d++)?)){SCALED}(?!{RANGE}|[A-Za-z]|_\w)"


def first_line(text: str) -> str:
    """Return the first non-blank line, stripped, or the empty text if it is longer than `MAX_LINE_CHARS`."""
    line = text.lstrip().partition("\n")[0].rstrip()
    return line if len(line) <= MAX_LINE_CHARS else ""


def after_first_line(text: str) -> str | None:
    """Return the text after the first non-blank line, or None if there is none."""
    return text.lstrip().partition("\n")[2].strip() or None


def last_line(text: str) -> str:
    """Return the end of the last non-blank line, at most `MAX_LINE_CHARS` characters."""
    return text.rstrip().rpartition("\n")[2][-MAX_LINE_CHARS:].lstrip()


def on_last_line(text: str, found: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """Return the matches that begin on the same line as the last one; `found` must be in text order."""
    matches = list(found)
    if not matches:
        return []
    line = text.rfind("\n", 0, matches[-1].start()) + 1
    return [match for match in matches if match.start() >= line]
