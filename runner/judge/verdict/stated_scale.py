"""Recognizes the numbers with which a judge states its scale: they are not its score.

`10-point scale`, `10分制`, `(1-10)`, `on a scale of 1 to 10`, `out of 10`, `满分10分`, `共10分`,
`(1=worst, 10=best)`, `1 (worst) to 10 (best)`. A number that may be either is doubtful. It is not skipped, since
another number would then be the verdict.
"""

from __future__ import annotations

import re

from runner.judge.verdict.common import RATING, Scale, before, to_number

_NUMBER = r"\d++(?>(?:[.．]\d++)?)"
_TOP_BEFORE = re.compile(
    r"(?:out of(?: an?)?(?: possible| maximum(?: of)?| total(?: of)?)?|scale (?:of|from)|range (?:of|from)"
    r"|(?:max|min)(?:imum)?(?: score)?(?: of| is)?|[满滿満][分点點]|만점"
    r"|(?:best|highest|top|perfect|worst|lowest)(?: score| mark)?(?: is| being)?"
    r"|(?P<sum>[总總]分|[总總一]?共|合[计計]|\btotal(?: of)?))[^\w\n]{0,4}(?:为|為|是|有|is)?[^\w\n]{0,2}\Z",
    re.IGNORECASE,
)
# The last words of `_TOP_BEFORE`; testing for them first takes a tenth of the time of the pattern.
_TOP_WORDS = (
    *("of", "OF", "Of", "of a", "of an", "possible", "min", "Min"),
    *("from", "FROM", "From", "max", "Max", "MAX", "imum", "IMUM", "score", "Score", "SCORE", "is"),
    *("mark", "being", "best", "highest", "top", "perfect", "worst", "lowest"),
    *("分", "点", "點", "점", "共", "合", "计", "計", "total", "Total", "TOTAL"),
)
_BEFORE_NUMBER, _LINKS = " \t:：*_=~≈'\"“‘`(（[【{-/.,，", "为為是有"
_EARLIER_CHARS = 60
_LABELLED = re.compile(rf"{RATING}|[得评評打给給]")
_SCORED_NEXT = re.compile(
    r"(?:分|点|點|points?)?[ \t]?[,，、;；。.][^\d\n]{0,12}?(?:[得评評打给給]|score|rat)[^\d\n]{0,8}\d", re.I
)
_SENTENCE_END = re.compile(r"[.!?][ \t]|[。！？\n]")
_DIGITS = re.compile(_NUMBER)
_OPEN, _CLOSE = "([{（【［", ")]}）】］"

_RANGE_BEFORE = re.compile(
    r"(?:scales?|ranges?|scored?|scores|rate[sd]?|ratings?|grades?|graded|numbers?|integers?|values?|likert|[评評]分|得分|打分|分[数數])"
    r"[^\w\n]{0,3}(?:of|from|between|is)?[^\w\n]{0,3}\Z",
    re.IGNORECASE,
)
_RANGE_AFTER = re.compile(r"[ \t]?(?:scale\b|point|分制|分|点|點|점)", re.IGNORECASE)

_EXTREME = (
    r"(?:worst|best|lowest|highest|perfect|minimum|maximum|top\b|min\b|max\b|poor(?:est)?|terrible|excellent|flawless"
    r"|useless|outstanding|exceptional|unacceptable|ideal"
    r"|[最极極很非][常]?[差好低高佳优優]|完美|[满滿]分)"
)
_ENTRY = (
    rf"[ \t]?(?:分|points?)?[ \t]?(?:[=＝→][ \t]?[^\W\d]|[:：][ \t]?{_EXTREME}"
    r"|(?:as(?=[ \t](?:the|an?)[ \t])|being|means?|meaning|represents?|indicates?|denotes?|stands for)[ \t](?=[^\W\d])"
    rf"|(?:(?:is|would be)[ \t]"
    r"|为|為|是|表示|代表|指|(?=最))"
    rf"(?:(?:the|a|an|very|considered)[ \t]){{0,2}}{_EXTREME})"
)
_ENTRY_TAIL = re.compile(_ENTRY, re.IGNORECASE)
_ENTRIES = re.compile(rf"{_NUMBER}{_ENTRY}", re.IGNORECASE)
# "1 low, 10 high": such words state a scale only if there are two of them.
_WEAK_ENTRY = (
    r"[ \t](?:low(?:est)?|high(?:est)?|bad|good|poor(?:est)?|great|excellent|worst|best|perfect"
    r"|flawless|useless|unusable|min|max)\b"
)
_WEAK_TAIL, _WEAK_ENTRIES = re.compile(_WEAK_ENTRY), re.compile(rf"{_NUMBER}{_WEAK_ENTRY}")
_WHERE = re.compile(r"\b(?:where|with|and|while)[ \t]\Z|[其且][中]?\Z", re.IGNORECASE)
_ENTRY_DISTANCE_CHARS = 80
_TO = r"[ \t]?(?:to|through|[-–—~～]|至|到)[ \t]?"
_WORDS = r"[ \t]?[(（][^()（）\d\n]{1,40}[)）]"
_TO_WORDS = ("to", "through", *"-–—~～至到")
_SPAN_TAIL = re.compile(rf"{_WORDS}{_TO}\d")
_SPAN_HEAD = re.compile(rf"\d{_WORDS}{_TO}\Z")
_LOWEST, _HIGHEST_MIN = (0.0, 1.0), 3.0


def is_range_of_scale(text: str, match: re.Match[str], scale: Scale) -> bool:
    """Return True if two numbers such as `1-10` are the ends of the scale, not two scores.

    Args:
        match: has the groups `value` and `high`.
        scale: the judge's scale, or None.
    """
    low, high = to_number(match["value"].replace(",", "")), to_number(match["high"])
    if scale == (low, high):
        return True
    if low not in _LOWEST or high < _HIGHEST_MIN:
        return False
    earlier, after = before(text, match.start(), 40), _RANGE_AFTER.match(text, match.end())
    if after is not None or _RANGE_BEFORE.search(earlier):
        return True
    return earlier.endswith(tuple(_OPEN)) and text.startswith(tuple(_CLOSE), match.end())


def top_or_doubt(text: str, match: re.Match[str], scale: Scale) -> bool | None:
    """Return True if a number states the scale, None if that is doubtful, False if it does not.

    Args:
        match: has the group `value`, and ends where the number, its unit and its top end.
        scale: the judge's scale, or None.
    """
    start, end = match.span()
    if start > 0 and text[start - 1] != "\n":
        earlier = before(text, start, _EARLIER_CHARS).rpartition("\n")[2]
        if earlier.rstrip(_BEFORE_NUMBER).rstrip(_LINKS).endswith(_TOP_WORDS):
            found = _TOP_BEFORE.search(earlier)
            if found is not None:
                return True if found["sum"] is None else _is_top_of_sum(text, match, scale)
        if earlier.rstrip(" \t").endswith(_TO_WORDS) and _SPAN_HEAD.search(earlier):
            return True
    after = match.end("value")
    if text[after : after + 1] in "\n":
        return False
    near = max(0, start - _ENTRY_DISTANCE_CHARS), end + _ENTRY_DISTANCE_CHARS
    if _ENTRY_TAIL.match(text, after):
        certain = len(_ENTRIES.findall(text, *near)) > 1 or _in_brackets(text, start, end)
        return True if certain or _WHERE.search(before(text, start, _EARLIER_CHARS)) else None
    if _WEAK_TAIL.match(text, after) and len(_WEAK_ENTRIES.findall(text, *near)) > 1:
        return True
    return _SPAN_TAIL.match(text, end) is not None


def _is_top_of_sum(text: str, match: re.Match[str], scale: Scale) -> bool | None:
    """Decide whether 共10分, 总分10分 or "total 10" is the top of the scale, or the sum of a judge's scores."""
    start, end = match.span()
    sentence = _SENTENCE_END.split(before(text, start, 120))[-1]
    scores = len(_DIGITS.findall(sentence))
    if scores == 0:
        return _SCORED_NEXT.match(text, end) is not None
    if not _LABELLED.search(sentence[: _last_number(sentence)]):
        return False
    is_top = scale is not None and to_number(match["value"].replace(",", "")) == scale[1]
    return True if scores == 1 and (is_top or _in_brackets(text, start, end)) else None


def _last_number(sentence: str) -> int:
    return [found.start() for found in _DIGITS.finditer(sentence)][-1]


def _in_brackets(text: str, start: int, end: int) -> bool:
    """Return True if a position is in round or square brackets on its line, near by."""
    head, tail = before(text, start, 60).rpartition("\n")[2], text[end : end + 60].partition("\n")[0]
    opened = max(map(head.rfind, _OPEN))
    return opened > max(map(head.rfind, _CLOSE)) and any(mark in tail for mark in _CLOSE)
