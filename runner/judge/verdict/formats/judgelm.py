"""JudgeLM's format, which Vicuna's reviews introduced: two scores on the first line, `8 7`, then the explanation.

The higher score wins; equal scores are a tie. baaivision/JudgeLM reads an unreadable line as -1 -1, and so as a tie;
here it is `no_verdict`.
"""

from __future__ import annotations

import re

import msgspec

from runner.config import JudgeConfig
from runner.judge.verdict.answer_scores import answer_of
from runner.judge.verdict.common import NAME, NUMBER, PAD, Reader, Scale, ScoreMention, mention_of, unreadable
from runner.judge.verdict.positions import SCALED, after_first_line, first_line
from runner.judge.verdict.scales import scale_of
from runner.types import Verdict, Winner

RULE = "judgelm.first_line"
NAMED = "judgelm.named"

_SCORE = re.compile(rf"(?<![\d.．\-−–/])(?P<value>{NUMBER}){SCALED}(?!\w|[.．]\d)")
_LABEL = re.compile(rf"{PAD}(?i:scores?|ratings?|评分|評分|打分|得分|分数|分數){PAD}[:：]")
_AROUND = re.compile(
    r"[\s,，、;；|:：=*_`()（）\[\]【】.。]*(?:and|和)?[\s,，、;；|:：=*_`()（）\[\]【】.。]*", re.IGNORECASE
)
# Text after a number that makes it a list number: `1. 8`, `1: 8`, `1) 8`. Two scores in brackets are not a list.
_LIST_NUMBER = re.compile(r"[\s*_`]*+(?:[.。:：=]|[)）\]】](?![^(（\[【]*[(（\[【]))")


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of two scores on the first line; the scale of each is 1 to 10 by default."""
    scale = scale_of(judge)

    def read(text: str) -> Verdict:
        verdict = _read_line(first_line(text), scale)
        return verdict if verdict.problem else msgspec.structs.replace(verdict, explanation=after_first_line(text))

    return read


def _read_line(line: str, scale: Scale) -> Verdict:
    found = list(_SCORE.finditer(line))
    names = [] if line.isascii() and line.upper() == line.lower() else list(NAME.finditer(line))
    if len(found) != 2 and not names:
        return unreadable("no_verdict", "the first line is not two scores")
    if names:
        return _named(line, names, scale)
    label = _LABEL.match(line)
    rest = [line[label.end() if label else 0 : found[0].start()], line[found[0].end() : found[1].start()]]
    rest.append(line[found[1].end() :])
    if not all(_AROUND.fullmatch(piece) for piece in rest) or _LIST_NUMBER.match(rest[1]):
        return unreadable("no_verdict", f"the first line has other text than two scores: {line[:80]!r}")
    return _verdict(mention_of(found[0]), mention_of(found[1]), scale, RULE)


def _named(line: str, names: list[re.Match[str]], scale: Scale) -> Verdict:
    """Read `Assistant 1: 8, Assistant 2: 7`: each score directly follows the name of its answer."""
    mentions: dict[int, ScoreMention] = {}
    position = 0
    for name in names:
        score = _SCORE.search(line, name.end())
        between = line[position : name.start()], line[name.end() : score.start() if score else None]
        if score is None or not all(_AROUND.fullmatch(piece) for piece in between):
            return unreadable("no_verdict", f"the first line is not two scores: {line[:80]!r}")
        if answer_of(name[0]) in mentions:
            return unreadable("conflict", f"two scores of one answer: {line[:80]!r}", NAMED)
        mentions[answer_of(name[0])] = mention_of(score)
        position = score.end()
    if len(mentions) != 2 or not _AROUND.fullmatch(line, position):
        return unreadable("no_verdict", f"the first line is not two scores: {line[:80]!r}")
    return _verdict(mentions[1], mentions[2], scale, NAMED)


def _verdict(first: ScoreMention, second: ScoreMention, scale: Scale, rule: str) -> Verdict:
    for mention in (first, second):
        if not mention.fits(scale):
            return unreadable("out_of_scale", f"{mention} is not on the scale {scale}", rule)
    winner: Winner = "tie" if first.value == second.value else "1" if first.value > second.value else "2"
    return Verdict(rule=rule, winner=winner, score1=first.value, score2=second.value)
