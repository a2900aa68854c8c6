"""Auto-J's formats: a critique ends with `Rating: [[5]]`, a comparison with `So, the final decision is Response 1`.

GAIR-NLP/auto-j takes the last occurrence of either, in English and in Chinese (`评分:[[5]]`, `打分:[[5]]`,
`所以，最终决定是回应1`, or 回应2, or 平局). Here the last line with one counts; different ones on it are a conflict,
and so is a different number in double brackets after the last rating.
"""

from __future__ import annotations

import re

from runner.config import JudgeConfig
from runner.judge.verdict.common import (
    BRACKETED_SCORE,
    PAD,
    RATING,
    Reader,
    Scale,
    before,
    bracketed,
    is_index,
    plain_brackets,
    unreadable,
)
from runner.judge.verdict.own_words import is_doubtful, own
from runner.judge.verdict.positions import on_last_line
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.tie_words import names_tie
from runner.types import Verdict, Winner

_BRACKETED_SCORE = re.compile(BRACKETED_SCORE)
_ANNOUNCED = re.compile(rf"{RATING}[^\w\n]{{0,8}}(?:is|为|為|是)?[^\w\n]{{0,8}}\Z")
# "Response 1 for style and Response 2 for facts": a decision for each of two aspects.
_BY_ASPECT = re.compile(
    r"[ \t](?:for|in|on|regarding)\b[^\n.。]{0,60}?(?:\b(?:and|but|while)\b|[,，;；])[^\w\n]{0,4}"
    r"(?:response|answer)[ \t]?[12１２][ \t](?:for|in|on|regarding)\b"
    r"|在[^\n.。]{1,40}[,，;；和而]{1,2}回[应應复複覆答][12１２]在",
    re.IGNORECASE,
)
_DECISION = re.compile(
    rf"(?:[Ff]inal [Dd]ecision(?i: is)?|最[终終]的?(?:决定|決定)(?:是|为|為)?)[^\w\n]{{0,8}}"
    rf"(?:(?i:response|answer)|回[应應复複覆答]|答案)?{PAD}"
    r"(?:(?P<side>[12１２])(?!\d|\.\d|[ \t]{0,2}(?:and|or|&|/|和|与|與|或|、))"
    r"|(?P<tie>(?i:(?:an? )?(?:tie|draw)\b(?![-‐’']))|平局|平手)|(?P<words>[^\n.。!！,，;；]{2,60}))"
)


def single_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of Auto-J's ratings; the scale is 1 to 10 by default."""
    scale = scale_of(judge)
    return lambda text: _read_rating(text, scale)


def pair_reader(_: JudgeConfig) -> Reader:
    """Return the reader of Auto-J's final decisions."""
    return _read_decision


def _read_rating(text: str, scale: Scale) -> Verdict:
    text = plain_brackets(text)
    found = own(text, [match for match in _BRACKETED_SCORE.finditer(text) if _is_rating(text, match)])
    if not found:
        return unreadable("no_verdict", "no rating in double brackets")
    announced = [match for match in found if _announced(text, match)]
    rule = "auto_j_single.rating" if announced else "auto_j_single.bracket"
    last = (announced or found)[-1]
    line = text.rfind("\n", 0, last.start()) + 1
    mentions = [bracketed(match) for match in found if match.start() >= line]
    if len(found) > 1 and (
        len({(mention.value, mention.top) for mention in mentions}) > 1
        or is_doubtful(text, last.span(), [str(bracketed(match)) for match in found])
    ):
        return unreadable("conflict", "different ratings on or after the last line with a rating", rule)
    if not mentions[0].fits(scale):
        return unreadable("out_of_scale", f"{mentions[0]} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mentions[0].value)


def _announced(text: str, match: re.Match[str]) -> bool:
    return _ANNOUNCED.search(before(text, match.start(), 40)) is not None


def _is_rating(text: str, match: re.Match[str]) -> bool:
    """Return True unless a number in double brackets is an index in code."""
    return not is_index(text, match.start()) or _announced(text, match)


def _read_decision(text: str) -> Verdict:
    rule = "auto_j_pair.decision"
    found = own(text, [match for match in _DECISION.finditer(text) if _winner(match)])
    if not found:
        return unreadable("no_verdict", "no final decision for response 1, response 2 or a tie")
    winners = [_winner(match) for match in on_last_line(text, found)]
    last = found[-1]
    if len(set(winners)) > 1 or is_doubtful(text, last.span(), map(_winner, found)):
        return unreadable("conflict", "different final decisions on the last line with a decision", rule)
    if last["side"] is not None and _BY_ASPECT.match(text, last.end()):
        return unreadable("conflict", "a decision for each of two aspects", rule)
    return Verdict(rule=rule, winner=winners[0])


def _winner(match: re.Match[str]) -> Winner | None:
    """Return the winner of a decision, or None if its words name neither an answer nor a tie."""
    if match["side"] is not None:
        return "1" if match["side"] in "1１" else "2"
    return "tie" if match["tie"] is not None or names_tie(match["words"]) else None
