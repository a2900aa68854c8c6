"""Finds a verdict on the first line, or on the last line that has one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner.judge.verdict.common import PAD, UNIT

# Longest line that is read as a verdict.
MAX_LINE_CHARS = 200

_SEPARATOR = (
    r"(?:[ \t]?(?:[-–—−~～/／:：,，;；|&→]|--|->|\.{2,3}|…)[ \t]?|[ \t]?[,，]?[ \t]?[(（]?[到至或和、][者许許]?[ \t]?)"
)
_OR = (
    r"[ \t]?[-–—,，;；]?[ \t]?[(（]?(?:(?:or|to|and|maybe|perhaps|possibly|leaning|almost|nearly|even"
    r"|vs\.?|versus|bis|through|à)[ \t]){1,3}"
    r"(?:an?[ \t])?"
)
_CLOSED, _OPENED = r"[\])）】*_]{1,4}", r"[\[(（【*_]{1,4}"

# Text after a number that makes it more than a single number: `7-8`, `7, 8`, `7 or 8`, `[7] to [8]`, `2.0.1`.
RANGE = rf"(?:{_CLOSED}(?:{_SEPARATOR}|[ \t]{_OR}){_OPENED}|{_SEPARATOR}|[ \t](?:to|and|or)[ \t]|{_OR}|[.．]?)(?=\d)"

# The same after a number whose closing bracket is already read: `[7` `] - [8]`.
RANGE_AFTER_BRACKET = rf"(?:{_SEPARATOR}|[ \t]?{_OR}){_OPENED}(?=\d)"

# Text after a number that makes it a mixed number: `4½`, `4 1/2`, `4分半`, `4 and a half`.
FRACTION = r"[+＋](?!\d)|[ \t]?[½¼¾⅓⅔⅛⅜⅝⅞半]|[ \t]and a (?:half|quarter)|[ \t][1-9][/／⁄][2-9](?!\d)"

# Text after a number that makes it the top of a scale: `10-point`, `10-point scale`, `10分制`, `10分满分`, `10分中的`.
SCALE_TOP = (
    r"[-‐‑][ \t]?(?:point|pts?\b|star|level|step|grade|scale)|[ \t](?:(?:rating|grading|likert|point)[ \t])?scale\b"
    r"|[ \t](?:(?:stars?|points?|marks?)[ \t])?max(?:imum)?\b|[ \t](?:steps|levels|grades)\b"
    r"|[ \t]?(?:制|[为為是]?[满滿満]|[中里裡内內][的得]|만점)"
)

# The scale in brackets between a label and its score: `Rating (1-10): 7`, `评分（满分10分）：7`.
STATED = r"[(（\[【][^()（）\[\]【】\n]{1,30}[)）\]】]"

# Optional text after a number: its unit, and the top of its scale.
SCALED = (
    rf"(?>(?:{PAD}{UNIT})?)"
    rf"(?>(?:{PAD}(?:[/／]|(?i:(?:out )?of)){PAD}(?P<top>\d++(?>(?:[.．]\d++)?))(?>(?:{PAD}{UNIT})?))?)"
)

# A single number: `8`, `7.5`, `4分`, `8/10`, `8 out of 10`.
ONE_NUMBER = (
    rf"(?P<value>[-−]?\d++(?>(?:[.．]\d++)?)){SCALED}(?!{RANGE}|{FRACTION}|{SCALE_TOP}|[ \t]?[=＝]|[A-Za-z]|_\w)"
)


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
