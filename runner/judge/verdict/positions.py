"""Where in a text a format's verdict stands: its first line, or the last line that holds one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner.judge.verdict.common import PAD, UNIT

LABEL_LINE = 200
"""Characters at most in a line that is nothing but a verdict."""

RANGE = r"(?:[ \t]?[-–—−~～/／:：,，][ \t]?|[ \t](?:to|and|or)[ \t]|[ \t]?[到至或和、][ \t]?|[.．]?)\d"
"""What stands behind a number that is no single number: `7-8`, `7, 8`, `7 or 8`, `2.0.1`."""

SCALED = rf"(?:{PAD}{UNIT})?+(?:{PAD}(?:[/／]|(?i:out of)){PAD}(?P<top>\d++(?:[.．]\d++)?+)(?:{PAD}{UNIT})?+)?+"
"""What may stand behind a number: its unit, and the top of its scale."""

ONE_NUMBER = rf"(?P<value>[-−]?\d++(?:[.．]\d++)?+){SCALED}(?!{RANGE}|[A-Za-z]|_\w)"
"""A number that stands for itself: `8`, `7.5`, `4分`, `8/10`, `8 out of 10`."""


def first_line(text: str) -> str:
    """Return the first line with something on it, without the spaces around; empty where it is too long to be read."""
    line = text.lstrip().partition("\n")[0].rstrip()
    return line if len(line) <= LABEL_LINE else ""


def after_first_line(text: str) -> str | None:
    """Return what follows the first line with something on it."""
    return text.lstrip().partition("\n")[2].strip() or None


def last_line(text: str) -> str:
    """Return the end of the last line with something on it, at most as much as is read of a line."""
    return text.rstrip().rpartition("\n")[2][-LABEL_LINE:].lstrip()


def on_last_line(text: str, found: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """Return those of some matches, in the order of the text, that begin on the line where the last one begins."""
    matches = list(found)
    if not matches:
        return []
    line = text.rfind("\n", 0, matches[-1].start()) + 1
    return [match for match in matches if match.start() >= line]
