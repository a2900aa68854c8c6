"""PAI-Judge's built-in format for one answer: `...综合评分为[[3]],理由如下。`, followed by scored criteria.

The first number in double brackets is the overall score. The numbers after it are the criteria's scores.
"""

from __future__ import annotations

import re

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
from runner.judge.verdict.criteria_list import ITEM, announces_overall, items, rationale
from runner.judge.verdict.scales import scale_of
from runner.types import Dimension, Verdict

RULE = "pai_single.first_number"

_ITEM = re.compile(ITEM)
_BRACKETED_SCORE = re.compile(BRACKETED_SCORE)
_ANY = re.compile(rf"{OPEN}[^\[\]\n]{{0,40}}{CLOSE}")
_OPENING_ENDS = re.compile(r"\n|。|\.\s|理由|reason|Reason")


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of PAI's single texts, on this judge's scale."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    original, text = text, plain_brackets(text)
    first = next(mentions(text), None)
    if first is None:
        return unreadable("no_verdict", "no number in double brackets")
    refused = _ANY.search(text, 0, first.start)
    if refused and announces_overall(text, refused.start()):
        return unreadable("no_verdict", f"the overall score is {refused[0]}")
    if _in_criteria(text, first):
        return unreadable("no_verdict", "only criteria have a number in double brackets")
    ends = _OPENING_ENDS.search(text, first.end)
    others = {str(mention) for mention in mentions(text, first.end, ends.start() if ends else len(text))} - {str(first)}
    if others:
        found = ", ".join(sorted({str(first), *others})[:5])
        return unreadable("conflict", f"different overall scores: {found}", RULE)
    if not first.fits(scale):
        return unreadable("out_of_scale", f"{first} is not on the scale {scale}", RULE)
    dimensions = _dimensions(text, first.end, scale)
    return Verdict(rule=RULE, score=first.value, dimensions=dimensions, explanation=rationale(original, first.end))


def _in_criteria(text: str, mention: ScoreMention) -> bool:
    """Return True if a number is in a list item; then the overall score is missing."""
    line = text.rfind("\n", 0, mention.start) + 1
    return _ITEM.match(text, line) is not None and not announces_overall(text, mention.start)


def _dimensions(text: str, position: int, scale: Scale) -> tuple[Dimension, ...]:
    found = []
    for name, start, end in items(text, position):
        match = _BRACKETED_SCORE.search(text, start, end)
        value = None if match is None else fitting(match, scale)
        if value is not None:
            found.append(Dimension(name, None, value))
    return tuple(found)
