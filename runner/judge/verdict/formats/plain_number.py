"""The verdict is the first or last number, as the prompts of G-Eval, LLMBar (ratings) and RewardBench 2 request.

`8`, `**8**`, `8.`, `8/10`, `8 out of 10`, `[[8]]`, `得分：8分` are the number 8. A number in a word (`GPT-4`, `e5`),
the number of a list item or a source, a citation (`[1]`), a quoted score and the numbers of a stated scale
(`out of 10`, `10分制`, `(1-10)`) are not verdicts; two numbers instead of one (`7-8`, `7 or 8`) are a conflict.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from runner.config import JudgeConfig
from runner.judge.verdict.announced import (
    is_announced,
    is_announced_overall,
    is_for_aspect,
    is_of_criterion,
    is_plainly_announced,
    opens_text,
)
from runner.judge.verdict.common import RATING, Reader, Scale, ScoreMention, before, to_number, unreadable
from runner.judge.verdict.own_words import is_aside, is_claimed, is_quoted, is_reported
from runner.judge.verdict.positions import FRACTION, RANGE, SCALE_TOP, SCALED
from runner.judge.verdict.stated_scale import is_range_of_scale, top_or_doubt
from runner.types import Verdict

_NUMBER = re.compile(
    r"(?<![A-Za-z0-9.\-−/／^])(?<![A-Za-z0-9]_)"
    rf"(?P<value>[-−]?(?:\d{{1,3}}(?>(?:,\d{{3}})+)(?!\d)|\d++(?>(?:[.．]\d++)?))){SCALED}"
    rf"(?:(?P<top_of>{SCALE_TOP})|(?P<mixed>{FRACTION})|{RANGE}(?P<high>\d++(?>(?:[.．]\d++)?))|(?![A-Za-z]|_\w))"
)
# The usual reply to "reply with the number only"; it needs none of the rules below.
_ALONE = re.compile(r"\s*+(\d{1,3}(?:\.\d{1,3})?)\s*+")
# The usual end of a longer reply: its last line is a label and a number.
_LABELLED_ALONE = re.compile(
    r"[ \t*_#]*+(?:(?:final|overall)[ \t])?(?:score|rating|overall|(?:最终|综合)?[得评]分)[ \t*_]*+[:：][ \t*_]*+"
    r"(\d{1,3}(?:\.\d{1,3})?)[ \t*_]*+",
    re.IGNORECASE,
)
_ITEM = re.compile(r"[.、．)）][*_]{0,3}[ \t]+[^\s*_]|[、)）]\S")
_ITEM_BEFORE = re.compile(r"(?:\A|\n)[ \t>#*_(（]{0,8}\Z")
_LABEL_BEFORE = re.compile(rf"{RATING}[^\w\n]{{0,8}}(?:is|为|為|是)?[^\w\n]{{0,4}}\[\Z", re.IGNORECASE)
_LINE_BEFORE = re.compile(r"(?:\A|\n)[ \t*_]{0,8}\[\Z")
_CITED_AFTER = re.compile(r"(?:[ \t]?[,，;；–-][ \t]?\d{1,4}){0,20}\](?!\])")
_SOURCE = re.compile(r"[^\w\n]{0,8}\w")  # text after `[1]` at the start of a line
_SOURCE_LINE = re.compile(r"[ \t*_]{0,8}\[\^?\d{1,4}\](?!\])[^\w\n]{0,8}\w")
_OTHER_SOURCE = re.compile(r"\n[ \t*_]{0,8}\[\d{1,4}\](?!\])[^\w\n]{0,8}\w")
_NO_RANGE = (":", "：", ",", "，")
_SOURCE_BEFORE = re.compile(
    r"(?:\b(?:sources?|refs?\.?|references?|footnotes?|citations?|notes?)|来源|參考|参考|文献|注释|脚注)[ \t]?#?\Z",
    re.IGNORECASE,
)

# The last words of `_SOURCE_BEFORE`, in lower case.
_SOURCE_ENDS = (
    *("ource", "ources", "ref", "refs", "ref.", "refs.", "reference", "references", "otnote", "otnotes", "citation"),
    *("citations", "note", "notes", "来源", "参考", "參考", "文献", "注释", "脚注"),
)


_HIGH_IS_TOP = re.compile(r"[ \t]?(?:分|点|點)?[ \t]?[为為是]?[满滿]分")
# A number after such a word says how sure the judge is.
_CONFIDENCE = re.compile(
    r"(?:confidence|certainty|置信度|信心|把握)(?:[ \t](?:level|score))?[^\w\n]{0,6}(?:is|of|为|為|是)?[^\w\n]{0,4}\Z",
    re.IGNORECASE,
)
_CONFIDENCE_WORDS = ("onfidence", "ertainty", "ONFIDENCE", "置信", "信心", "把握")


class _Number(NamedTuple):
    """A number that may be the verdict; a doubtful one may state the scale instead."""

    match: re.Match[str]
    doubtful: bool


def first_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of a text's first number, on the judge's scale if it has one."""
    return lambda text: _read_first(text, judge.scale)


def last_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of a text's last number, on the judge's scale if it has one."""
    return lambda text: _read_last(text, judge.scale)


def _read_first(text: str, scale: Scale) -> Verdict:
    if (alone := _ALONE.fullmatch(text)) is not None:
        return _score(ScoreMention(*alone.span(), to_number(alone[1]), None), scale, "first_number")
    number = next(_numbers(text, scale), None)
    if number is not None:
        if _is_item(text, number.match):
            return unreadable("no_verdict", "the first number is the number of a list item")
        if is_quoted(text, *number.match.span()) and _differs(text, number.match, scale):
            return _unclear(number.match, "first_number")
        if _has_rival(text, number.match, scale):
            return _unclear(number.match, "first_number")
    return _meaning(number, scale, "first_number")


def _read_last(text: str, scale: Scale, with_confidence: bool = False) -> Verdict:
    if (alone := _ALONE.fullmatch(text)) is not None:
        return _score(ScoreMention(*alone.span(), to_number(alone[1]), None), scale, "last_number")
    if (usual := _LABELLED_ALONE.fullmatch(text.rstrip().rpartition("\n")[2])) is not None:
        return _score(ScoreMention(0, 0, to_number(usual[1]), None), scale, "last_number")
    end = len(text)
    ignored = not with_confidence and any(word in text for word in _CONFIDENCE_WORDS)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        last = _last_on_line(text, scale, start, end, ignored)
        if last is not None and not (start > 0 and _SOURCE_LINE.match(text, start)):
            if _is_unclear_last(text, last.match, scale):
                return _unclear(last.match, "last_number")
            return _meaning(last, scale, "last_number")
        end = start - 1
    return _read_last(text, scale, with_confidence=True) if ignored else _meaning(None, scale, "last_number")


def _last_on_line(text: str, scale: Scale, start: int, end: int, without_confidence: bool) -> _Number | None:
    for number in reversed(list(_candidates(text, scale, start, end))):
        if _is_item(text, number.match) or _is_of_others(text, number.match):
            continue
        if not (without_confidence and _CONFIDENCE.search(before(text, number.match.start(), 40))):
            return number
    return None


def _is_unclear_last(text: str, last: re.Match[str], scale: Scale) -> bool:
    """Return True if the last number is doubtful and the text has another number, or announces another as the score."""
    start, end = last.span()
    if is_aside(text, start) or is_quoted(text, start, end):
        return _differs(text, last, scale)
    claimed, announced = is_claimed(text, start), is_announced(text, start, end)
    if announced and not claimed and not is_for_aspect(text, end):
        return False
    any_other = claimed and not announced
    if (not announced or is_for_aspect(text, end)) and _is_one_of_criteria(text, last, scale):
        return True
    return any(any_other or is_announced(text, *other.span()) for other in _others(text, last, scale))


def _has_rival(text: str, first: re.Match[str], scale: Scale) -> bool:
    """Return True if a different number than the first one is announced as the score, or as the overall one."""
    start = first.start()
    if is_for_aspect(text, first.end()) and _is_one_of_criteria(text, first, scale):
        return True
    if opens_text(text, start) or is_plainly_announced(text, start):
        return False
    if is_announced(text, *first.span()):
        return any(is_announced_overall(text, other.start()) for other in _others(text, first, scale))
    return _is_one_of_criteria(text, first, scale) or any(
        is_announced(text, *other.span()) for other in _others(text, first, scale)
    )


def _is_one_of_criteria(text: str, one: re.Match[str], scale: Scale) -> bool:
    """Return True if a number is the score of a criterion, and a different one is that of another criterion."""
    if is_for_aspect(text, one.end()) and any(is_for_aspect(text, each.end()) for each in _others(text, one, scale)):
        return True
    return is_of_criterion(text, *one.span()) and any(
        is_of_criterion(text, *other.span()) for other in _others(text, one, scale)
    )


def _unclear(match: re.Match[str], rule: str) -> Verdict:
    return unreadable("conflict", f"a quoted number or one in a remark beside a different one: {match[0][:80]!r}", rule)


def _differs(text: str, one: re.Match[str], scale: Scale) -> bool:
    return any(True for _ in _others(text, one, scale))


def _others(text: str, one: re.Match[str], scale: Scale) -> Iterator[re.Match[str]]:
    """Generate the numbers of a text that differ from one of them."""
    for number in _numbers(text, scale):
        if number.match["value"] != one["value"] and not _is_item(text, number.match):
            yield number.match


def _meaning(number: _Number | None, scale: Scale, rule: str) -> Verdict:
    if number is None:
        return unreadable("no_verdict", "no standalone number")
    match = number.match
    value, top, _, mixed, high = match.groups()
    if high is not None and _HIGH_IS_TOP.match(match.string, match.end()):
        high = None  # "7分，10分为满分"
    if high is not None or mixed is not None:
        return unreadable("conflict", f"several numbers instead of one: {match[0][:80]!r}", rule)
    if number.doubtful:
        return unreadable("conflict", f"either the score or a number of the scale: {match[0][:80]!r}", rule)
    mention = ScoreMention(*match.span(), to_number(value.replace(",", "")), to_number(top) if top else None)
    return _score(mention, scale, rule)


def _score(mention: ScoreMention, scale: Scale, rule: str) -> Verdict:
    if not mention.fits(scale):
        return unreadable("out_of_scale", f"{mention} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mention.value)


def _numbers(text: str, scale: Scale) -> Iterator[_Number]:
    """Generate the numbers of a text that may be the verdict."""
    return (number for number in _candidates(text, scale) if not _is_of_others(text, number.match))


def _candidates(text: str, scale: Scale, start: int = 0, end: int = sys.maxsize) -> Iterator[_Number]:
    """Generate the numbers in a range of the text that do not state the scale; none spans a line break."""
    while (match := _NUMBER.search(text, start, end)) is not None:
        start, high = match.end(), match["high"]
        if match["top_of"] is not None or (high is not None and is_range_of_scale(text, match, scale)):
            continue
        states_scale = top_or_doubt(text, match, scale)
        if states_scale and high is not None and text[match.end("value") : match.start("high")].strip() in _NO_RANGE:
            start = match.start("high")  # "out of 10: 8"
        if not states_scale:
            yield _Number(match, states_scale is None)


def _is_of_others(text: str, match: re.Match[str]) -> bool:
    return _is_cited(text, match) or is_reported(text, match.start(), match.end())


def _is_cited(text: str, match: re.Match[str]) -> bool:
    """Return True if a number is that of a source: `source 2`, or in single brackets without a label before them.

    Brackets at the start of a line are the verdict if they are alone there, or open a text that has no list of sources.
    """
    start = match.start()
    earlier = text[max(0, start - 60) : start]
    bracket = earlier.endswith("[") and not earlier.endswith("[[")
    if not bracket:
        return earlier.rstrip(" \t#").lower().endswith(_SOURCE_ENDS) and _SOURCE_BEFORE.search(earlier) is not None
    after = _CITED_AFTER.match(text, match.end("value"))
    if after is None or _LABEL_BEFORE.search(earlier):
        return False
    if not _LINE_BEFORE.search(("\n" if start < 60 else "") + earlier):
        return True
    opens = not text[:start].strip(" \t\n*_[")
    if _SOURCE.match(text, after.end()) is None:
        return False
    return not opens or _OTHER_SOURCE.search(text, match.end()) is not None


def _is_item(text: str, match: re.Match[str]) -> bool:
    if match["top"] is not None or not _ITEM.match(text, match.end("value")):
        return False
    return bool(_ITEM_BEFORE.search(("\n" if match.start() < 24 else "") + before(text, match.start(), 24)))
