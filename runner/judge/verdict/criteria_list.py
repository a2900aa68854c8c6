"""Splits the list of criteria that PAI-Judge writes after an overall verdict: `1. Accuracy: ... [[4]]`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from runner.judge.verdict.common import NAME, before

# The start of a line that is a list item.
ITEM = r"[ \t#>]{0,8}+(?:[*_]{0,3}\d{1,3}[.、．)）]|[-*•·][ \t])"

# The end of a criterion: a blank line, or the heading of the next criterion.
BREAK = (
    r"\n(?:[ \t]*(?=\n)|[ \t#>*_•·-]{0,8}+(?:\d{1,3}[.、．)）][ \t*_]{0,4}+)?"
    r"(?P<heading>[^\s:：\[\]，。,.;；!?！？“”\"][^:：\n\[\]，。,.;；!?！？“”\"]{0,39})[:：])"
)
_ITEM = re.compile(ITEM)
_MAX_ITEM_CHARS = 1000
_BREAK = re.compile(BREAK)
_OVERALL = ("综合", "綜合", "总体", "總體", "整体", "整體", "overall", "Overall")
_OVERALL_BEFORE = re.compile(rf"(?:{'|'.join(_OVERALL)})[^\n。.\[]{{0,40}}\Z")
# The usual words, which need no pattern.
_USUAL = ("综合评分为", "綜合評分為", "overall rating is ", "overall rating of this response is ", "overall score is ")
_REASONS = re.compile(r"(?:理由如下|理由是|理由|[Rr]easons?(?: (?:are|is))?(?: as follows)?)[ \t]*[。.:：,，]?")


def items(text: str, position: int) -> Iterator[tuple[str, int, int]]:
    """Generate the name, start and end of each criterion after a position that contains double brackets.

    A criterion begins with its heading on a new line and ends at the next heading or at a blank line.
    """
    name: str | None = None
    start = position
    for found in _BREAK.finditer(text, position):
        heading = found["heading"]
        begins = None if heading is None else criterion(heading)
        if begins == "":
            continue
        until, end = found.span()
        if name is not None and text.find("[[", start, until) >= 0:
            yield name, start, until
        name, start = begins, end
    if name is not None and text.find("[[", start) >= 0:
        yield name, start, len(text)


def in_list_item(text: str, position: int) -> bool:
    """Return True if the line of a position is a list item; the item begins at most `_MAX_ITEM_CHARS` before it."""
    line = text.rfind("\n", max(0, position - _MAX_ITEM_CHARS), position) + 1
    return (line > 0 or position <= _MAX_ITEM_CHARS) and _ITEM.match(text, line) is not None


def announces_overall(text: str, position: int) -> bool:
    """Return True if the words just before a position announce an overall score."""
    earlier = before(text, position, 60)
    return earlier.endswith(_USUAL) or _OVERALL_BEFORE.search(earlier) is not None


def rationale(text: str, position: int, ends: re.Match[str] | None) -> str | None:
    """Return the text after the opening sentence: after "for the following reasons", else after its line.

    Args:
        text: the judge's text.
        position: the end of the verdict.
        ends: where the opening ends; if that is at the word "reason", the search begins there, else at `position`.
    """
    start = position if ends is None or ends[0][0] not in "理rR" else ends.start()
    reasons = _REASONS.search(text, start, position + 400)
    start = reasons.end() if reasons else text.find("\n", position) + 1
    return (text[start:].strip() or None) if start else None


@lru_cache(maxsize=256)
def criterion(heading: str) -> str | None:
    """Return a criterion's name without emphasis, or None if the heading repeats the overall score.

    The name is empty for a heading such as "Response 1:", which continues the criterion before it.
    """
    if NAME.match(heading):
        return ""
    return None if any(word in heading for word in _OVERALL) else heading.strip(" \t*_") or None
