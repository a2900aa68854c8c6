"""PAI-Judge's built-in format for one answer: `...综合评分为[[3]],理由如下。`, followed by scored criteria.

The first number in double brackets is the overall score. The numbers after it are the criteria's scores.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from runner.config import JudgeConfig
from runner.judge.verdict.common import (
    BRACKETED_SCORE,
    CLOSE,
    OPEN,
    Reader,
    Scale,
    ScoreMention,
    fitting,
    mentions,
    plain_brackets,
    unreadable,
)
from runner.judge.verdict.criteria_list import announces_overall, in_list_item, items, rationale
from runner.judge.verdict.own_words import is_quoted, is_reported
from runner.judge.verdict.scales import scale_of
from runner.types import Dimension, Verdict

RULE = "pai_single.first_number"

_BRACKETED_SCORE = re.compile(BRACKETED_SCORE)
_ANY = re.compile(rf"{OPEN}[^\[\]\n]{{0,40}}{CLOSE}")
# A second number after the opening sentence: "... is [[3]]. Or maybe [[4]]."
_CORRECTION = re.compile(
    r"[。.\s]{1,4}(?:或者?|也可|不|or|maybe|perhaps|no\b|rather|actually|wait)[^\n\[。:：]{0,24}\[\[", re.IGNORECASE
)
_OPENING_ENDS = re.compile(r"\n|。|\.\s|理由|reason|Reason")


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of PAI's single texts, on this judge's scale."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    original, text = text, plain_brackets(text)
    start, first = 0, next(mentions(text), None)
    quoted = _is_quoted(text, first)
    while quoted and first is not None and is_reported(text, first.start, first.end):
        start, first = first.end, next(mentions(text, first.end), None)
        quoted = _is_quoted(text, first)
    if first is None:
        return unreadable("no_verdict", "no number in double brackets")
    refused = _ANY.search(text, start, first.start) if text.find("[[", start, first.start) >= 0 else None
    if refused and announces_overall(text, refused.start()):
        return unreadable("no_verdict", f"the overall score is {refused[0]}")
    announced = announces_overall(text, first.start)
    if not announced and in_list_item(text, first.start):
        return unreadable("no_verdict", "only criteria have a number in double brackets")
    ends = _OPENING_ENDS.search(text, first.end)
    others = _other_overall_scores(text, first, announced and not quoted, ends)
    if others:
        found = ", ".join(sorted({str(first), *others})[:5])
        return unreadable("conflict", f"different overall scores: {found}", RULE)
    if not first.fits(scale):
        return unreadable("out_of_scale", f"{first} is not on the scale {scale}", RULE)
    dimensions = _dimensions(text, first.end, scale)
    return Verdict(
        rule=RULE, score=first.value, dimensions=dimensions, explanation=rationale(original, first.end, ends)
    )


def _other_overall_scores(text: str, first: ScoreMention, announced: bool, ends: re.Match[str] | None) -> set[str]:
    """Return the different numbers in the opening sentence, directly after it, and in an overall score at the end.

    If the first number is not announced as overall, every announced one counts.
    """
    end = ends.start() if ends else len(text)
    others: set[str] = set()
    if text.find("[[", first.end, end) >= 0:
        others |= {str(mention) for mention in _unquoted(text, first.end, end)}
    if ends and ends[0][0] in ".。" and (correction := _CORRECTION.match(text, end)):
        others |= {str(mention) for mention in mentions(text, correction.end() - 2, correction.end() + 40)}
    if not announced:
        others |= {str(each) for each in _unquoted(text, end) if announces_overall(text, each.start)}
    else:
        last = text.rfind("[[", end)
        line = text.rfind("\n", end, last) + 1
        if last >= 0 and not text[line : line + 1].isdigit() and announces_overall(text, last):
            others |= {str(mention) for mention in _unquoted(text, last, last + 40)}
    return others - {str(first)} if others else others


def _is_quoted(text: str, mention: ScoreMention | None) -> bool:
    return mention is not None and is_quoted(text, mention.start, mention.end)


def _unquoted(text: str, start: int, end: int = sys.maxsize) -> Iterator[ScoreMention]:
    """Generate the numbers in double brackets in a range, without quotations."""
    return (each for each in mentions(text, start, end) if not is_quoted(text, each.start, each.end))


def _dimensions(text: str, position: int, scale: Scale) -> tuple[Dimension, ...]:
    found = []
    for name, start, end in items(text, position):
        match = _BRACKETED_SCORE.search(text, start, end)
        value = None if match is None else fitting(match, scale)
        if value is not None:
            found.append(Dimension(name, None, value))
    return tuple(found)
