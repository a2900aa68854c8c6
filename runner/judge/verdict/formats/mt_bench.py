"""MT-Bench's formats: `Rating: [[5]]`, and `[[A]]`, `[[B]]` or `[[C]]` (a tie).

The verdict is in double brackets, before or after the explanation (judges write both). If a text has different
verdicts, the last one counts if it is announced as the rating or the final verdict and no other one is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from runner.config import JudgeConfig
from runner.judge.verdict.common import (
    CLOSE,
    NUMBER,
    OPEN,
    OUT_OF,
    PAD,
    RATING,
    UNIT,
    Reader,
    Scale,
    ScoreMention,
    before,
    is_index,
    mention_of,
    mentions,
    plain_brackets,
    unreadable,
)
from runner.judge.verdict.own_words import is_discounted, is_doubtful, is_plainly_own, is_quoted, is_reported
from runner.judge.verdict.positions import FRACTION, RANGE, RANGE_AFTER_BRACKET, SCALE_TOP, STATED
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.winner_names import winner_named
from runner.types import Verdict, Winner

_BETWEEN = r"[^\w\n]{0,12}(?:is|of|为|為|是|は|은|는)?\W{0,12}\Z"
_LABELLED = re.compile(rf"{RATING}{_BETWEEN}", re.IGNORECASE)
_OVERALL = re.compile(
    rf"(?:overall|final|total|综合|綜合|总|總|最终|最終|総合|종합|최종|전체)[^\n.。]{{0,16}}{RATING}{_BETWEEN}"
    rf"|[总總]分{_BETWEEN}",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    rf"(?:for example|e\.g\.|例如|比如|例えば|예를 들어|예시|예)\W{{0,6}}(?:{RATING}\W{{0,6}})?\Z",
    re.IGNORECASE,
)
_SELF_RATED = re.compile(
    r"(?:(?:rate|give|award|grade|score)[sd]? (?:itself|themselves|himself|herself)|自评|自評|给自己)[^.。\n]{0,24}\Z",
    re.IGNORECASE,
)
_PLAIN = re.compile(
    rf"(?:(?:^|[.。!?！？])[^\w\n]{{0,8}}(?:(?:my|the|overall|final|total|综合|总|最终) ?){{0,3}}{RATING}"
    rf"|{OPEN}{PAD}{RATING}{PAD}{CLOSE})"
    rf"(?:[ \t]?{STATED})?{PAD}[:：=]{PAD}"
    rf"(?:(?P<single>[\[【]){PAD})?(?P<value>{NUMBER})(?P<unit>{PAD}{UNIT})?{OUT_OF}(?(single){PAD}[\]】])"
    rf"(?!{RANGE}|{RANGE_AFTER_BRACKET}|{FRACTION}|{SCALE_TOP})(?P<ends>[^\w\n]{{0,8}}$)?",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_NAME = r"(?:(?:assistant|model|response|answer|助手|回答|어시스턴트)\s{0,3})?"
_LETTER = re.compile(
    rf"{OPEN}(?:{PAD}(?i:{_ANSWER_NAME}(?P<side>[ABＡＢ])(?:\s{{1,3}}(?:is better|wins))?|[CＣ]){PAD}"
    rf"|(?P<words>[^\[\]\n]{{2,60}})){CLOSE}"
)
_VERDICT_BEFORE = re.compile(
    r"(?:verdict|final|decision|conclusion|judge?ment|choice|winner|最[终終]|判定|判断|裁[决決]|结论|結論|최종|판정|결론|결정)"
    r"[^\w\n]{0,12}(?:is|为|為|是|は|은|는)?\W{0,12}\Z",
    re.IGNORECASE,
)
_OTHER_TEXT = re.compile(r"[\w\[]")


class _Letter(NamedTuple):
    start: int
    end: int
    winner: Winner


def single_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of MT-Bench ratings; the scale is 1 to 10 by default."""
    scale = scale_of(judge)
    return lambda text: _read_rating(text, scale)


def pair_reader(_: JudgeConfig) -> Reader:
    """Return the reader of MT-Bench's pairwise verdicts."""
    return _read_letter


def _read_rating(text: str, scale: Scale) -> Verdict:
    text = plain_brackets(text)
    found = [mention for mention in mentions(text) if not _is_other(text, mention)]
    rule = "mt_bench_single.bracket"
    if not found:
        found = [_mention_of(match) for match in _PLAIN.finditer(text) if match["single"] or _is_certain(match)]
        rule = "mt_bench_single.label"
    if not found:
        return unreadable("no_verdict", "no rating in double brackets or after a label")
    chosen, rule = _choose(text, found, rule)
    if chosen is None:
        values = ", ".join(dict.fromkeys(str(mention) for mention in found[:9]))
        return unreadable("conflict", f"different ratings: {values}", rule)
    if not chosen.fits(scale):
        return unreadable("out_of_scale", f"{chosen} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=chosen.value)


def _is_other(text: str, mention: ScoreMention) -> bool:
    """Return True if a number in double brackets is the prompt's example, a quotation, or an index in code.

    An index that follows a label is a rating. Searching for the words first takes a tenth of the time of the pattern.
    """
    start = mention.start
    earlier = text[max(0, start - 40) : start]
    if (
        "xample" in earlier or ".g" in earlier or "例" in earlier or "예" in earlier or ".G" in earlier
    ) and _EXAMPLE.search(earlier):
        return True
    if ("sel" in earlier or "自" in earlier) and _SELF_RATED.search(earlier):
        return True
    if is_index(text, start):
        return not _LABELLED.search(earlier)
    return is_reported(text, start, mention.end)


def _choose(text: str, found: Sequence[ScoreMention], rule: str) -> tuple[ScoreMention | None, str]:
    """Return the rating and its rule; it is the last one, and no different rating has the same role or a higher one."""
    values = [(mention.value, mention.top) for mention in found]
    last = found[-1]
    if values.count(values[-1]) == len(values):
        return last, rule
    if is_doubtful(text, (last.start, last.end), values):
        return None, rule
    different = [mention for mention, value in zip(found, values, strict=True) if value != values[-1]]
    if all(is_discounted(text, each.start, each.end) for each in different) and (
        _role(text, last) or is_plainly_own(text, last.start, last.end)
    ):
        return last, rule
    roles = [_role(text, mention) for mention in found]
    others = max(role for role, value in zip(roles, values, strict=True) if value != values[-1])
    return (last if roles[-1] > others else None), ("mt_bench_single.labelled", "mt_bench_single.overall")[
        roles[-1] > 1
    ]


def _role(text: str, mention: ScoreMention) -> int:
    """Return 2 for a rating that is announced as overall, 1 for one after any label, 0 for others and quotations."""
    if is_quoted(text, mention.start, mention.end):
        return 0
    earlier = before(text, mention.start, 60)
    return 2 if _OVERALL.search(earlier) else 1 if _LABELLED.search(earlier) else 0


def _mention_of(match: re.Match[str]) -> ScoreMention:
    """Return the rating of a match of `_PLAIN`; its position is that of the number."""
    mention = mention_of(match)
    return ScoreMention(match.start("value"), mention.end, mention.value, mention.top)


def _is_certain(match: re.Match[str]) -> bool:
    """Return True if a bare number after a label is a rating: it ends its line, or has a unit or a top."""
    return match["ends"] is not None or match["unit"] is not None or match["top"] is not None


def _read_letter(text: str) -> Verdict:
    text = plain_brackets(text)
    matches = [(match, winner) for match in _LETTER.finditer(text) if (winner := _winner(text, match)) is not None]
    if not matches:
        return unreadable("no_verdict", "no [[A]], [[B]] or [[C]]")
    winner = matches[-1][1]
    if len(matches) == 1 or all(other == winner for _, other in matches):
        return Verdict(rule="mt_bench_pair.bracket", winner=winner)
    return _choose_letter(text, _without_legend([_Letter(*match.span(), winner) for match, winner in matches]))


def _choose_letter(text: str, found: list[_Letter]) -> Verdict:
    """Return the verdict of a text with different letters: the last one, if it alone is final."""
    rule = "mt_bench_pair.announced"
    last, winners = found[-1], [letter.winner for letter in found]
    if len(set(winners)) > 1:
        others = [letter for letter in found if letter.winner != last.winner]
        rivals = [each for each in others if not is_discounted(text, each.start, each.end)]
        if rivals:
            final = _announced(text, last) and not any(_announced(text, each) for each in rivals)
        else:
            final = _announced(text, last) or is_plainly_own(text, last.start, last.end)
        if not final or is_doubtful(text, (last.start, last.end), winners):
            return unreadable("conflict", "different verdicts in double brackets, the last is not plainly final", rule)
    return Verdict(rule=rule, winner=last.winner)


def _winner(text: str, match: re.Match[str]) -> Winner | None:
    """Return the winner, or None if the brackets are an index in code, a quotation, or have other words."""
    start, end = match.span()
    if is_index(text, start) or is_reported(text, start, end):
        return None
    side, words = match.groups()
    if side is not None:
        return "1" if side in "AaＡａ" else "2"
    return "tie" if words is None else winner_named(words)


def _without_legend(found: list[_Letter]) -> list[_Letter]:
    """Return the letters without any repetition of the prompt's rule: A, B and C close together in that order."""
    kept: list[_Letter] = []
    for letter in found:
        kept.append(letter)
        last = kept[-3:]
        if [each.winner for each in last] == ["1", "2", "tie"] and last[2].start - last[0].end < 160:
            del kept[-3:]
    return kept or found


def _announced(text: str, letter: _Letter) -> bool:
    """Return True if a verdict is announced as the final one, or is alone on its line."""
    if _VERDICT_BEFORE.search(before(text, letter.start, 40)):
        return True
    head = ("\n" * (letter.start < 24) + before(text, letter.start, 24)).rpartition("\n")
    tail = (text[letter.end : letter.end + 24] + "\n" * (len(text) < letter.end + 24)).partition("\n")
    return bool(head[1] and tail[1] and not _OTHER_TEXT.search(head[2] + tail[0]))
