"""PAI-Judge's built-in format for two answers: `我认为[[回复1更好]],其中回复1的综合评分为[[4]],...`.

The first double brackets without a number hold the verdict. The overall scores are the first score of each answer
after it, before the reasons begin. The service does not document its wording for ties, so the natural wordings count.
Scores are assigned to the answers by name, never by order.
"""

from __future__ import annotations

import re
from functools import lru_cache

from runner.config import JudgeConfig
from runner.judge.verdict.answer_scores import answer_of, scores
from runner.judge.verdict.common import (
    CLOSE,
    NAME,
    NUMBERED,
    OPEN,
    Reader,
    Scale,
    bracketed,
    fitting,
    plain_brackets,
    unreadable,
)
from runner.judge.verdict.criteria_list import items, rationale
from runner.judge.verdict.formats.pai_fast_path import fast_criteria
from runner.judge.verdict.scales import scale_of
from runner.types import Dimension, Verdict, Winner

RULE = "pai_pairwise.first_verdict"

_VERDICT = re.compile(rf"{OPEN}(?!\d{CLOSE}|{NUMBERED})(?P<words>[^\[\]\n]{{1,80}}){CLOSE}")
_REASONS = re.compile(r"理由|reason|Reason|\n[ \t#>*_]{0,8}\d{1,3}[.、．)）]")
_BETTER = re.compile(
    r"更好|更优|更優|更佳|较好|較好|较优|較優|较佳|較佳|胜|勝|\b(?:better|best|wins?|winner|superior)\b", re.I
)
_BETTER_THAN = re.compile(
    r"\s*(?:比|优于|優於|好于|好於|胜过|勝過|(?:is|was) (?:better|superior) (?:than|to)|beats)\s*", re.I
)
_TIE = re.compile(
    r"平局|平手|打平|持平|差不多|不相上下|不分上下|不分胜负|不分勝負|难分|難分|一样|一樣|同样|同樣|同等|相当|相當"
    r"|相同|相等|没有差别|没有区别|\b(?:tie|tied|draw|equal|equally|equivalent|comparable|same)\b",
    re.IGNORECASE,
)
_NEGATED_TIE = re.compile(
    r"(?:不是|并非|並非|不|没有|没|並不|并不)(?:相同|相等|相当|相當|平局|一样|一樣|同样|同樣|同等)|\b(?:not|no)\b|n't",
    re.I,
)
_NEGATIVE = re.compile(
    r"不|差|劣|弱|逊|遜|没|沒|无|無|\b(?:worse|worst|inferior|not|no|neither|less|loses?|n't)\b|n't", re.I
)


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of PAI's pairwise texts, on this judge's scale."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    original, text = text, plain_brackets(text)
    verdict = _VERDICT.search(text)
    if verdict is None:
        return unreadable("no_verdict", "no verdict in double brackets")
    start = verdict.end()
    winner = winner_of(verdict["words"])
    if winner is None:
        return unreadable("no_verdict", f"{verdict[0]} names no better answer")
    reasons = _REASONS.search(text, start)
    end = reasons.start() if reasons else len(text)
    if any(winner_of(other["words"]) not in (None, winner) for other in _VERDICT.finditer(text, start, end)):
        return unreadable("conflict", "different verdicts in double brackets", RULE)
    overall: dict[int, float] = {}
    for answer, match in scores(text, start, end).items():
        value = fitting(match, scale)
        if value is None:
            return unreadable("out_of_scale", f"{bracketed(match)} is not on the scale {scale}", RULE)
        overall[answer] = value
    score1, score2 = overall.get(1), overall.get(2)
    return Verdict(
        rule=RULE,
        winner=winner,
        score1=score1,
        score2=score2,
        contradiction=contradicts(winner, score1, score2),
        dimensions=_dimensions(text, _criteria_start(text, start, end), scale),
        explanation=rationale(original, start),
    )


@lru_cache(maxsize=256)
def winner_of(words: str) -> Winner | None:
    """Return the answer that some words call better, or None if they are unclear or name the worse answer."""
    named = [(match, answer_of(match)) for match in NAME.finditer(words)]
    answers = {answer for _, answer in named}
    if _TIE.search(words) and len(answers) != 1:
        return None if _NEGATED_TIE.search(words) else "tie"
    if not named or _NEGATIVE.search(words):
        return None
    first, answer = named[0]
    if len(answers) == 1:
        return _winner(answer) if _BETTER.search(words) else None
    return _winner(answer) if _BETTER_THAN.match(words, first.end()) else None


def contradicts(winner: Winner, score1: float | None, score2: float | None) -> bool | None:
    """Return True if the winner has the lower score, or a tie's scores differ by 1 or more; None if one is missing."""
    if score1 is None or score2 is None:
        return None
    if winner == "tie":
        return abs(score1 - score2) >= 1
    return score1 < score2 if winner == "1" else score2 < score1


def _winner(answer: int) -> Winner:
    return "1" if answer == 1 else "2"


def _criteria_start(text: str, start: int, end: int) -> int:
    """Return a position before all criteria: the first line break of the opening, else its end."""
    line = text.find("\n", start, end)
    return end if line < 0 else line


def _dimensions(text: str, position: int, scale: Scale) -> tuple[Dimension, ...]:
    found = fast_criteria(text, position)
    if found is not None:
        low, high = scale or (0.0, 9.0)
        return tuple([Dimension(*each) for each in found if low <= each[2] <= high])
    return tuple(
        Dimension(name, answer, value)
        for name, start, end in items(text, position)
        for answer, match in sorted(scores(text, start, end).items())
        if (value := fitting(match, scale)) is not None
    )
