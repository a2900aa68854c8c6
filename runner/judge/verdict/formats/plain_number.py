"""The verdict is the first or last number, as the prompts of G-Eval, LLMBar (ratings) and RewardBench 2 request.

`8`, `**8**`, `8.`, `8/10`, `8 out of 10`, `[[8]]`, `得分：8分` are the number 8. A number in a word (`GPT-4`, `e5`),
the number of a list item, a citation (`[1]`) and the top of a scale (`out of 10`, `满分10分`) are not verdicts; two
numbers instead of one (`7-8`, `7 or 8`) are a conflict.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from runner.config import JudgeConfig
from runner.judge.verdict.common import RATING, Reader, Scale, ScoreMention, before, to_number, unreadable
from runner.judge.verdict.positions import RANGE, SCALED
from runner.types import Verdict

_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.\-−/／])(?<![A-Za-z0-9]_)"
    rf"(?P<value>[-−]?(?:\d{{1,3}}(?>(?:,\d{{3}})+)(?!\d)|\d++(?>(?:[.．]\d++)?))){SCALED}"
    rf"(?P<more>{RANGE})?(?![A-Za-z]|_\w)"
)
_ITEM = re.compile(r"[.、．)）][*_]{0,3}[ \t]+[^\s*_]|[、)）]\S")
_ITEM_BEFORE = re.compile(r"(?:\A|\n)[ \t>#*_(（]{0,8}\Z")
_TOP_BEFORE = re.compile(
    r"(?:out of|scale (?:of|from)|range (?:of|from)|between|max(?:imum)?(?: score)?(?: of| is)?|[满滿]分|[满滿]点)"
    r"[^\w\n]{0,4}(?:为|為|是)?[^\w\n]{0,2}\Z",
    re.IGNORECASE,
)
_CITED = re.compile(r"(?<!\[)\[\Z")
_LABEL_BEFORE = re.compile(
    rf"(?:{RATING}[^\w\n]{{0,8}}(?:is|为|為|是)?[^\w\n]{{0,4}}|(?:\A|\n)[ \t*_]{{0,8}})\[\Z", re.IGNORECASE
)
_CITED_AFTER = re.compile(r"(?:[ \t]?[,，;；–-][ \t]?\d{1,4}){0,20}\](?!\])")


def first_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of a text's first number, on the judge's scale if it has one."""
    return lambda text: _read_first(text, judge.scale)


def last_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of a text's last number, on the judge's scale if it has one."""
    return lambda text: _read_last(text, judge.scale)


def _read_first(text: str, scale: Scale) -> Verdict:
    match = next(_numbers(text), None)
    if match is not None and _is_item(text, match):
        return unreadable("no_verdict", "the first number is the number of a list item")
    return _meaning(match, scale, "first_number")


def _read_last(text: str, scale: Scale) -> Verdict:
    end = len(text)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        found = [match for match in _numbers(text, start, end) if not _is_item(text, match)]
        if found:
            return _meaning(found[-1], scale, "last_number")
        end = start - 1
    return _meaning(None, scale, "last_number")


def _meaning(match: re.Match[str] | None, scale: Scale, rule: str) -> Verdict:
    if match is None:
        return unreadable("no_verdict", "no standalone number")
    if match["more"] is not None:
        return unreadable("conflict", f"several numbers instead of one: {match[0][:80]!r}", rule)
    value, top = to_number(match["value"].replace(",", "")), match["top"]
    mention = ScoreMention(*match.span(), value, to_number(top) if top else None)
    if not mention.fits(scale):
        return unreadable("out_of_scale", f"{mention} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mention.value)


def _numbers(text: str, start: int = 0, end: int = sys.maxsize) -> Iterator[re.Match[str]]:
    """Generate the numbers in a range of the text, except citations and tops of scales; none spans a line break."""
    for match in _NUMBER.finditer(text, start, end):
        earlier = before(text, match.start(), 40)
        if not _TOP_BEFORE.search(earlier) and not _is_cited(text, match, earlier):
            yield match


def _is_cited(text: str, match: re.Match[str], earlier: str) -> bool:
    """Return True if a number is in single brackets that follow neither a label nor the start of a line."""
    if not _CITED.search(earlier) or not _CITED_AFTER.match(text, match.end("value")):
        return False
    return not _LABEL_BEFORE.search(("\n" if match.start() < 40 else "") + earlier)


def _is_item(text: str, match: re.Match[str]) -> bool:
    if match["top"] is not None or not _ITEM.match(text, match.end("value")):
        return False
    return bool(_ITEM_BEFORE.search(("\n" if match.start() < 24 else "") + before(text, match.start(), 24)))
