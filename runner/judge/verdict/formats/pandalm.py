"""PandaLM's format: `1`, `2` or `Tie` alone on the first line, then the reason and a reference answer.

Only the first line counts, as in WeOpenML/PandaLM. PandaLM reads any other first line as a tie; here it is
`no_verdict`, unless it has other words for a tie and nothing else.
"""

from __future__ import annotations

import re

from runner.config import JudgeConfig
from runner.judge.verdict.common import Reader, unreadable
from runner.judge.verdict.positions import first_line
from runner.judge.verdict.tie_words import names_tie
from runner.judge.verdict.winner_names import WINNERS
from runner.types import Verdict, Winner

RULE = "pandalm.first_line"

_MAX_LINE_CHARS = 80
_LABEL = re.compile(r"[#\s]*(?:(?:evaluation|result|verdict|winner)[ *_]*[:：])?", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,，、/／;；|.。:：*_`\"'“”()（）\[\]【】]+|\bor\b", re.IGNORECASE)
_REASON = re.compile(r"\n#{1,4} ?[Rr]eason[ *]{0,3}[:：]?")
_NAME = re.compile(r"(?:response|answer|回[复答应])?([12１２])", re.IGNORECASE)


def reader(_: JudgeConfig) -> Reader:
    """Return the reader of PandaLM's first line."""
    return _read


def _read(text: str) -> Verdict:
    line = first_line(text)
    if not line or len(line) > _MAX_LINE_CHARS:
        return unreadable("no_verdict", "the first line is not 1, 2 or Tie")
    if names_tie(_LABEL.sub("", line, count=1)):
        return _verdict(text, "tie")
    words = _LABEL.sub("", line, count=1).replace("Response ", "Response").replace("response ", "response")
    winners = [_winner(word) for word in _BETWEEN.split(words) if word]
    if not winners or None in winners:
        return unreadable("no_verdict", f"the first line is not 1, 2 or Tie: {line!r}")
    if len(set(winners)) > 1:
        return unreadable("conflict", f"different verdicts on the first line: {line!r}", RULE)
    return _verdict(text, winners[0])


def _verdict(text: str, winner: Winner | None) -> Verdict:
    reason = _REASON.search(text)
    return Verdict(rule=RULE, winner=winner, explanation=_explanation(text, reason.end()) if reason else None)


def _explanation(text: str, start: int) -> str | None:
    """Return the text below the reason's heading."""
    end = text.find("\n#", start)
    return text[start : end if end >= 0 else None].strip() or None


def _winner(word: str) -> Winner | None:
    match = _NAME.fullmatch(word)
    return WINNERS.get(word.casefold()) if match is None else WINNERS[str(int(match[1]))]
