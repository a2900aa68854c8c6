"""LLMBar's verdicts: `Output (a)` alone, or an explanation that ends with `Therefore, Output (a) is better.`

The prompts of princeton-nlp/LLMBar request either form, OffsetBias's prompt the first one; neither has a tie. The last
sentence counts, and every other statement that is a conclusion (`Therefore, ...`). If none of them names a better
output (the text was cut off, or the verdict came first), all statements in the text count, and so does an output that
opens it. The statements that count must agree.

Only the judge's own statements count: none after `if`, `whether` or a negation, and none that it reports of others
(`Assistant (a) argues that ...`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner.config import JudgeConfig
from runner.judge.verdict.common import PAD, Reader, before, unreadable
from runner.judge.verdict.own_words import is_reported
from runner.types import Verdict, Winner

_NAME = r"[Oo]utput[ \t]{0,2}[*_`]{0,2}[(（\[][ \t]?(?P<side>[abABａｂ])[ \t]?[)）\]]"
_ADVERB = (
    r"(?:(?:the|clearly|slightly|significantly|much|far|marginally|somewhat|definitely|overall|still|therefore|thus"
    r"|indeed|actually|generally)[ \t]){0,2}"
)
_ENDS = (
    r"(?=[ \t]{0,2}[*_`\"'”’)]{0,3}(?:[.。,;:!\n]|\Z)"
    r"|[ \t](?:than|because|as|since|for|overall|here|output|response|answer|option|choice|one)\b)"
)
_STATED = re.compile(
    rf"{_NAME}{PAD}is[ \t]{_ADVERB}[*_]{{0,2}}better\b{_ENDS}"
    rf"|better[ \t]output(?:[ \t]for[ \t]the[ \t](?:given[ \t])?instruction)?{PAD}is{PAD}"
    rf"{_NAME.replace('side', 'named')}{_ENDS}"
)
_OPENING = re.compile(
    rf"\s{{0,8}}+{PAD}{_NAME}[*_`\"'”’]{{0,4}}"
    r"(?=[.。]?[ \t]*(?:\n|\Z)|[.。][ \t]|[ \t]?[(（]|,?[ \t](?:because|as|since)\b)"
)
_CLOSING = re.compile(rf"(?:\A|(?i:answer|decision|verdict|choice|winner)\W{{0,12}}){PAD}{_NAME}{PAD}[.。]?{PAD}\Z")
_NOT_ASSERTED = re.compile(r"(?i:\b(?:if|whether|unless|not|never|cannot|neither|nor)\b|n['’]t\b)[^,;:，；]{0,120}\Z")
_REPORTED = re.compile(
    r"\b(?:argu|claim|stat|sa[iy]|suggest|assert|thinks?|thought|believ|feel|felt|contend|maintain|opinion|view|evaluation"
    r"|assessment|judge?ment|assum|prefer)\w{0,8}[ \t](?:that[ \t])?\Z"
    r"|\baccording to [^,]{1,60},[ \t]\Z"
)
_CONCLUDES = re.compile(r"\b[Tt]herefore,?[ \t][*_]{0,2}\Z")
_OWN = re.compile(r"\b(?:I|[Ww]e|[Mm]y|[Oo]ur|agree)\b[^,;]{0,60}\Z")
_SENTENCE = re.compile(r"[.!?。！？][\"'”’)*_]{0,3}\s|\n")
_CONTEXT_CHARS = 200


def reader(_: JudgeConfig) -> Reader:
    """Return the reader of LLMBar's verdicts."""
    return _read


def _read(text: str) -> Verdict:
    stripped = text.rstrip()
    last = _last_sentence(stripped)
    stated = list(_stated(stripped))
    winners = {winner for start, winner, concludes in stated if start >= last or concludes}
    rule = "output_ab.end"
    if not winners:
        closing = _CLOSING.search(stripped[last:])
        winners = {_winner(closing["side"])} if closing and len(stripped) - last < _CONTEXT_CHARS else set()
    if not winners:
        opening = _OPENING.match(stripped)
        winners = {winner for _, winner, _ in stated} | ({_winner(opening["side"])} if opening else set())
        rule = "output_ab.stated"
    if not winners:
        return unreadable("no_verdict", "neither Output (a) nor Output (b) is called better")
    if len(winners) > 1:
        return unreadable("conflict", "both outputs are called better", rule)
    return Verdict(rule=rule, winner=winners.pop())


def _stated(text: str) -> Iterator[tuple[int, Winner, bool]]:
    """Generate the judge's own statements: position, better output, and True if it is a conclusion."""
    may_quote = '"' in text or "“" in text or "'Out" in text
    for match in _STATED.finditer(text):
        earlier = _SENTENCE.split(before(text, match.start(), _CONTEXT_CHARS))[-1]
        reported = _REPORTED.search(earlier)
        if may_quote and is_reported(text, match.start(), match.end()):
            continue
        if _NOT_ASSERTED.search(earlier) or (reported and not _OWN.search(earlier[: reported.end()])):
            continue
        yield match.start(), _winner(match["side"] or match["named"]), bool(_CONCLUDES.search(earlier))


def _last_sentence(text: str) -> int:
    """Return the position at which the last sentence begins."""
    tail = max(0, len(text) - 5 * _CONTEXT_CHARS)
    ends = [match.end() for match in _SENTENCE.finditer(text, tail)]
    return ends[-1] if ends else tail


def _winner(side: str) -> Winner:
    return "1" if side in "aAａ" else "2"
