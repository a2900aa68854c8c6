"""MT-Bench's formats: `Rating: [[5]]`, and `[[A]]`, `[[B]]` or `[[C]]` (a tie).

The verdict is in double brackets, before or after the explanation (judges write both). If a text has different
verdicts, the one that is announced as the rating or the final verdict counts, provided that there is only one.
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
from runner.judge.verdict.scales import scale_of
from runner.types import Verdict, Winner

_BETWEEN = r"[^\w\n]{0,12}(?:is|of|为|為|是|は|은|는)?\W{0,12}\Z"
_LABELLED = re.compile(rf"{RATING}{_BETWEEN}", re.IGNORECASE)
_OVERALL = re.compile(
    rf"(?:overall|final|total|综合|綜合|总|總|最终|最終|総合|종합|최종|전체)[^\n.。]{{0,16}}{RATING}{_BETWEEN}"
    rf"|[总總]分{_BETWEEN}",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    rf"(?:for example|e\.g\.|例如|比如|例えば|예를 들어|예시|예)\W{{0,6}}(?:{RATING}\W{{0,6}})?\Z", re.IGNORECASE
)
_PLAIN = re.compile(
    rf"(?:(?:^|[.。!?！？])[^\w\n]{{0,8}}(?:(?:my|the|overall|final|total|综合|总|最终) ?){{0,3}}{RATING}"
    rf"|{OPEN}{PAD}{RATING}{PAD}{CLOSE})"
    rf"{PAD}[:：=]{PAD}"
    rf"(?:(?P<single>[\[【]){PAD})?(?P<value>{NUMBER})(?P<unit>{PAD}{UNIT})?{OUT_OF}(?(single){PAD}[\]】])"
    r"(?P<ends>[^\w\n]{0,8}$)?",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_NAME = r"(?:(?:assistant|model|response|answer|助手|回答|어시스턴트)\s{0,3})?"
_LETTER = re.compile(
    rf"{OPEN}{PAD}(?i:{_ANSWER_NAME}(?P<side>[ABＡＢ])(?:\s{{1,3}}(?:is better|wins))?"
    r"|(?P<tie>[CＣ]|tie|draw|平局|동점|무승부|引き分け))"
    rf"{PAD}{CLOSE}"
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
        found = [mention_of(match) for match in _PLAIN.finditer(text) if match["single"] or _is_certain(match)]
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
    """Return True if a number in double brackets is the prompt's example, or an index in code without a label."""
    earlier = before(text, mention.start, 40)
    if _EXAMPLE.search(earlier):
        return True
    return is_index(text, mention.start) and not _LABELLED.search(earlier)


def _choose(text: str, found: Sequence[ScoreMention], rule: str) -> tuple[ScoreMention | None, str]:
    """Return the rating and its rule: the only rating, else the only overall one, else the only labelled one."""
    if len({(mention.value, mention.top) for mention in found}) == 1:
        return found[0], rule
    for label, name in ((_OVERALL, "mt_bench_single.overall"), (_LABELLED, "mt_bench_single.labelled")):
        announced = [mention for mention in found if label.search(before(text, mention.start, 60))]
        if len({(mention.value, mention.top) for mention in announced}) == 1:
            return announced[0], name
    return None, rule


def _is_certain(match: re.Match[str]) -> bool:
    """Return True if a bare number after a label is a rating: it ends its line, or has a unit or a top."""
    return match["ends"] is not None or match["unit"] is not None or match["top"] is not None


def _read_letter(text: str) -> Verdict:
    text = plain_brackets(text)
    found = [match for match in _LETTER.finditer(text) if not is_index(text, match.start())]
    if not found:
        return unreadable("no_verdict", "no [[A]], [[B]] or [[C]]")
    rule = "mt_bench_pair.bracket"
    winners = set(map(_winner, found))
    if len(winners) > 1:
        rule = "mt_bench_pair.announced"
        kept = _without_legend([_Letter(*match.span(), _winner(match)) for match in found])
        winners = {letter.winner for letter in kept}
        if len(winners) > 1:
            winners = {letter.winner for letter in kept if _announced(text, letter)}
    if len(winners) != 1:
        return unreadable("conflict", "different verdicts in double brackets, none or several of them final", rule)
    return Verdict(rule=rule, winner=winners.pop())


def _winner(match: re.Match[str]) -> Winner:
    side = match["side"]
    return "tie" if side is None else "1" if side in "AaＡａ" else "2"


def _without_legend(found: Sequence[_Letter]) -> Sequence[_Letter]:
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
