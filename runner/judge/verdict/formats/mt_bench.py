"""MT-Bench's two formats: `Rating: [[5]]`, and `[[A]]`, `[[B]]` or `[[C]]` (a tie).

The format sets its verdict apart in double brackets, before or after the explanation (judges do either). Where a
text has different ones, the one that is announced as the rating or the verdict counts, if there is just one such.
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
    mark_of,
    marks,
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
_WHO = r"(?:(?:assistant|model|response|answer|助手|回答|어시스턴트)\s{0,3})?"
_LETTER = re.compile(
    rf"{OPEN}{PAD}(?i:{_WHO}(?P<side>[ABＡＢ])(?:\s{{1,3}}(?:is better|wins))?"
    r"|(?P<tie>[CＣ]|tie|draw|平局|동점|무승부|引き分け))"
    rf"{PAD}{CLOSE}"
)
_VERDICT_BEFORE = re.compile(
    r"(?:verdict|final|decision|conclusion|judge?ment|choice|winner|最[终終]|判定|判断|裁[决決]|结论|結論|최종|판정|결론|결정)"
    r"[^\w\n]{0,12}(?:is|为|為|是|は|은|는)?\W{0,12}\Z",
    re.IGNORECASE,
)
_SAYS = re.compile(r"[\w\[]")


class _Letter(NamedTuple):
    start: int
    end: int
    winner: Winner


def single_reader(judge: JudgeConfig) -> Reader:
    """Return the reader of MT-Bench ratings, 1 to 10 unless the judge has a scale."""
    scale = scale_of(judge)
    return lambda text: _read_rating(text, scale)


def pair_reader(_: JudgeConfig) -> Reader:
    """Return the reader of MT-Bench verdicts on two answers."""
    return _read_letter


def _read_rating(text: str, scale: Scale) -> Verdict:
    text = plain_brackets(text)
    found = [mark for mark in marks(text) if not _is_other(text, mark)]
    rule = "mt_bench_single.bracket"
    if not found:
        found = [mark_of(match) for match in _PLAIN.finditer(text) if match["single"] or _sure(match)]
        rule = "mt_bench_single.label"
    if not found:
        return unreadable("no_verdict", "no rating in double brackets or behind a label")
    chosen, rule = _choose(text, found, rule)
    if chosen is None:
        values = ", ".join(dict.fromkeys(str(mark) for mark in found[:9]))
        return unreadable("conflict", f"different ratings: {values}", rule)
    if not chosen.fits(scale):
        return unreadable("out_of_scale", f"{chosen} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=chosen.value)


def _is_other(text: str, mark: ScoreMention) -> bool:
    """Whether a number in double brackets is the prompt's example, or the index of a name that is no rating's."""
    earlier = before(text, mark.start, 40)
    if _EXAMPLE.search(earlier):
        return True
    return is_index(text, mark.start) and not _LABELLED.search(earlier)


def _choose(text: str, found: Sequence[ScoreMention], rule: str) -> tuple[ScoreMention | None, str]:
    """Return the one rating, else the only one announced as overall, else the only one announced as a rating."""
    if len({(mark.value, mark.top) for mark in found}) == 1:
        return found[0], rule
    for label, name in ((_OVERALL, "mt_bench_single.overall"), (_LABELLED, "mt_bench_single.labelled")):
        announced = [mark for mark in found if label.search(before(text, mark.start, 60))]
        if len({(mark.value, mark.top) for mark in announced}) == 1:
            return announced[0], name
    return None, rule


def _sure(match: re.Match[str]) -> bool:
    """Whether a bare number behind a label is a rating: it ends its line, or has a unit or a top."""
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
    """Leave out A, B and C close together in that order: it is the prompt's own rule, said again."""
    kept: list[_Letter] = []
    for letter in found:
        kept.append(letter)
        last = kept[-3:]
        if [each.winner for each in last] == ["1", "2", "tie"] and last[2].start - last[0].end < 160:
            del kept[-3:]
    return kept or found


def _announced(text: str, letter: _Letter) -> bool:
    """Whether a verdict is announced as the final one, or stands alone on its line."""
    if _VERDICT_BEFORE.search(before(text, letter.start, 40)):
        return True
    head = ("\n" * (letter.start < 24) + before(text, letter.start, 24)).rpartition("\n")
    tail = (text[letter.end : letter.end + 24] + "\n" * (len(text) < letter.end + 24)).partition("\n")
    return bool(head[1] and tail[1] and not _SAYS.search(head[2] + tail[0]))
