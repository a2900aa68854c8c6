"""PAI-Judge's built-in format for two answers: `我认为[[回复1更好]],其中回复1的综合评分为[[4]],...`.

The first double brackets without a number hold the verdict; a different verdict in the opening, or after it outside of
the criteria, is a conflict. The overall scores are the first score of each answer after the verdict, before the reasons
begin. The service does not document its wording for ties, so the natural wordings count. Scores are assigned to the
answers by name, never by order.
"""

from __future__ import annotations

import re
from functools import lru_cache

from runner.config import JudgeConfig
from runner.judge.verdict.answer_scores import answer_of, scores
from runner.judge.verdict.common import (
    CLOSE,
    NAMES,
    NUMBERED,
    OPEN,
    Reader,
    Scale,
    bracketed,
    fitting,
    plain_brackets,
    unreadable,
)
from runner.judge.verdict.criteria_list import in_list_item, items, rationale
from runner.judge.verdict.formats.pai_fast_path import fast_criteria
from runner.judge.verdict.own_words import is_quoted, is_reported
from runner.judge.verdict.scales import scale_of
from runner.judge.verdict.tie_words import CHINESE_TIE
from runner.types import Dimension, Verdict, Winner

RULE = "pai_pairwise.first_verdict"

_VERDICT = re.compile(rf"{OPEN}(?!\d{CLOSE}|{NUMBERED})(?P<words>[^\[\]\n]{{1,80}}){CLOSE}")
_REASONS = re.compile(r"理由|reason|Reason|\n[ \t#>*_]{0,8}\d{1,3}[.、．)）]")
# Answers by letter also where the text around the brackets could mean the option of a question.
_NAME = re.compile(rf"{NAMES}|(?:回[答應应]|答案|模型|Answer|answer|Model|model)[ \t*_]{{0,3}}[ABＡＢ](?![A-Za-z0-9])")
# A letter without a word before it: `[[B更好]]`.
_LETTER = re.compile(r"\s*[ABＡＢ](?=\s*(?:更|[较較]|[略稍]|明[显顯]|[优優胜勝]|is\b|wins\b))")
_DEGREE = (
    r"(?:略微?|稍微?|稍稍|明[显顯]地?|[显顯]著地?|[远遠]|大大|[总總]体上?|[总總]體上?|整体上?|整體上?|[综綜]合来看|更|要|仍|[还還]是"
    r"|clearly |slightly |much |significantly |far |somewhat |overall ){0,3}"
)
_BETTER = re.compile(
    r"更好|更[优優]|更佳|[较較]好|[较較][优優]|[较較]佳|[胜勝]|[优優][于於]|好[于於]|[强強][于於]|[略稍]好|[略稍][优優]|[略稍]佳"
    r"|[质質]量更高|更出色|更[强強]|最好|最[优優]|最佳|占[优優]|好一些|好一[点點]|\b(?:better|best|wins?|winner|superior|outperforms?|beats)\b",
    re.I,
)
_BETTER_AFTER = re.compile(
    rf"[ \t*]{{0,3}}(?:(?:is|was)[ \t])?{_DEGREE}"
    r"(?:更好|更[优優]|更佳|[较較]好|[较較][优優]|[略稍]?[胜勝][出一]|[略稍明][显顯]?好"
    r"|(?:the )?better\b|wins\b|superior\b)"
    r"(?!.{0,4}(?:[吗嗎?？]|[还還]是|的[说說]法))",
    re.I,
)
_THAN = re.compile(
    rf"\s*(?:的?(?:整体|整體|总体|總體)?(?:质量|質量|表现|表現|水平))?{_DEGREE}(?:(?P<compared>比)|(?:[优優]|好|[强強]|高)[于於]|[略稍]?[胜勝][过過于於]|[领領]先|"
    rf"(?:is|was) {_DEGREE}(?:better|superior) (?:than|to)|{_DEGREE}(?:beats|outperforms))\s*",
    re.I,
)
_BETTER_END = re.compile(r"(?:好|[优優]|佳|[强強]|[胜勝]|出色)(?:一些|一[点點]|很多|得多)?\W*\Z|\bbetter\b", re.I)
_TIE = re.compile(
    rf"{CHINESE_TIE}|\b(?:tie|tied|draw|equal|equally|equivalent|comparable|same|on par|evenly matched)\b"
    r"|\bno (?:clear |real )?(?:winner|difference)\b|\bneither (?:\w+ )?is better\b",
    re.IGNORECASE,
)
_NEGATED_TIE = re.compile(
    r"(?:不是|并非|並非|不|没有|没|並不|并不)(?:相同|相等|相当|相當|平局|一样|一樣|同样|同樣|同等|持平|差不多)"
    r"|[难難]分(?!伯仲|高下|上下|[胜勝]|[优優]|[轩軒])[^,，]|\b(?:not|never)\b|n't",
    re.I,
)
_NEGATIVE = re.compile(
    r"不|差|劣|弱|逊|遜|没|沒|无|無|\b(?:worse|worst|inferior|not|no|neither|less|loses?|n't)\b|n't", re.I
)
_CONDITION = re.compile(
    r"如果|若|假如|要是|除非|是否|能否|不清楚|[吗嗎?？]|[还還]是[^,，]{0,6}回|\b(?:if|unless|whether|or)\b|或者?", re.I
)
_CLAUSE = re.compile(r"[,，;；。]|(?:但是?|不[过過]|然而|\bbut\b|\bhowever\b|\bthough\b)", re.I)


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of PAI's pairwise texts, on this judge's scale."""
    scale = scale_of(judge)
    return lambda text: _read(text, scale)


def _read(text: str, scale: Scale) -> Verdict:
    original, text = text, plain_brackets(text)
    verdict = _VERDICT.search(text)
    while verdict is not None and is_reported(text, verdict.start(), verdict.end()):
        verdict = _VERDICT.search(text, verdict.end())
    if verdict is None:
        return unreadable("no_verdict", "no verdict in double brackets")
    start = verdict.end()
    winner = winner_of(verdict["words"]) or _winner_at(text, verdict)
    if winner is None:
        return unreadable("no_verdict", f"{verdict[0]} names no better answer")
    reasons = _REASONS.search(text, start)
    end = reasons.start() if reasons else len(text)
    others = [other for other in _VERDICT.finditer(text, start, end) if _winner_at(text, other) not in (None, winner)]
    if any(not is_quoted(text, *other.span()) for other in others):
        return unreadable("conflict", "different verdicts in double brackets", RULE)
    overall: dict[int, float] = {}
    for answer, match in scores(text, start, end).items():
        value = fitting(match, scale)
        if value is None:
            return unreadable("out_of_scale", f"{bracketed(match)} is not on the scale {scale}", RULE)
        overall[answer] = value
    score1, score2 = overall.get(1), overall.get(2)
    criteria = _criteria_start(text, start, end)
    dimensions = _fast_dimensions(text, criteria, scale)
    if dimensions is None:
        if _differs(text, winner, end):
            return unreadable("conflict", "another verdict in double brackets after the criteria", RULE)
        dimensions = _dimensions(text, criteria, scale)
    return Verdict(
        rule=RULE,
        winner=winner,
        score1=score1,
        score2=score2,
        contradiction=contradicts(winner, score1, score2),
        dimensions=dimensions,
        explanation=rationale(original, start, reasons),
    )


def _differs(text: str, winner: Winner, start: int) -> bool:
    """Return True if there is another verdict after a position, outside of the criteria."""
    return any(
        _winner_at(text, other) not in (None, winner)
        and not in_list_item(text, other.start())
        and not is_quoted(text, *other.span())
        for other in _VERDICT.finditer(text, start)
    )


def _winner_at(text: str, verdict: re.Match[str]) -> Winner | None:
    """Return the winner of a verdict in brackets; the word "better" may follow the brackets: `[[回复1]]更好`."""
    words = verdict["words"]
    winner = winner_of(words)
    if winner is None and _NAME.fullmatch(words.strip()) and _BETTER_AFTER.match(text, verdict.end()):
        return _winner(answer_of(words.strip()))
    return winner


@lru_cache(maxsize=256)
def winner_of(words: str) -> Winner | None:
    """Return the answer that some words call better, or None if they are unclear or name the worse answer.

    Of several clauses, a winner in the last one counts more than a tie in one aspect before it.
    """
    if _CONDITION.search(words):
        return None
    clauses = [clause for clause in _CLAUSE.split(words) if clause.strip()]
    if len(clauses) < 2:
        return _winner_of_clause(words)
    found = [winner for clause in clauses if (winner := _winner_of_clause(clause)) is not None]
    if not found:
        return _winner_of_clause(words)
    rest = set(found) - {found[-1]}
    return found[-1] if not rest or (rest == {"tie"} and found.index(found[-1]) == len(found) - 1) else None


def _winner_of_clause(words: str) -> Winner | None:
    named = [(match, answer_of(match[0])) for match in _NAME.finditer(words)]
    if not named and (letter := _LETTER.match(words)) is not None:
        named = [(letter, answer_of(letter[0].strip()))]
    answers = {answer for _, answer in named}
    if _TIE.search(words) and len(answers) != 1:
        return None if _NEGATED_TIE.search(words) else "tie"
    if not named or _NEGATIVE.search(words):
        return None
    first, answer = named[0]
    if len(answers) == 1:
        return _winner(answer) if _BETTER.search(words) else None
    than = _THAN.match(words, first.end())
    return _winner(answer) if than and (than["compared"] is None or _BETTER_END.search(words)) else None


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


def _fast_dimensions(text: str, position: int, scale: Scale) -> tuple[Dimension, ...] | None:
    found = fast_criteria(text, position)
    if found is None:
        return None
    low, high = scale or (0.0, 9.0)
    return tuple([Dimension(*each) for each in found if low <= each[2] <= high])


def _dimensions(text: str, position: int, scale: Scale) -> tuple[Dimension, ...]:
    return tuple(
        Dimension(name, answer, value)
        for name, start, end in items(text, position)
        for answer, match in sorted(scores(text, start, end).items())
        if (value := fitting(match, scale)) is not None
    )
