"""The words with which a judge names the better answer, with and without `verdict.map`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from unicodedata import normalize

from runner.config import VerdictConfig
from runner.judge.verdict.tie_words import names_tie
from runner.types import Winner

# The values that `verdict.map` may give to a word.
WINNERS: dict[str, Winner] = {"1": "1", "2": "2", "tie": "tie"}

_MAX_NAME_CHARS = 80
_AROUND = " \t\r\n*_`\"'“”‘’[]【】.。"
_NAMED = re.compile(
    r"(?:(?:the )?(?:winner|better (?:answer|response|output)) is )?"
    r"(?:(?:the )?(?:assistant|model|response|answer|output|reply|option|candidate"
    r"|助手|模型|回[复複覆復答应應]|答案|选项|選項)"
    r"[ _-]?)?"
    r"\(?(?P<name>\w|10)\)?"
    r"(?: (?:is|was) (?:(?:slightly|clearly|much|significantly|far|marginally|somewhat|a bit|the) ){0,2}"
    r"(?:better|best|winner)(?: (?:answer|response|output|one))?| wins|(?:明[显顯]|[显顯]著|略微?|稍微?|[远遠])?"
    r"(?:更好|更[优優]|更佳|[较較]好|[较較][优優]|略?[胜勝]出?)"
    r"| by an? [a-z]{1,12} margin"
    r"| \((?:slightly|clearly|much|marginally|somewhat|narrowly|slightly better|much better)\))?",
    re.IGNORECASE,
)
_ANSWERS: dict[str, Winner] = {"1": "1", "a": "1", "一": "1", "2": "2", "b": "2", "二": "2"}


def meanings(verdict: VerdictConfig) -> dict[str, str]:
    """Return `verdict.map` with text keys; upper and lower case are equal unless the map itself distinguishes them."""
    exact = {str(word): str(meaning) for word, meaning in (verdict.map or {}).items()}
    return {word.casefold(): meaning for word, meaning in exact.items()} | exact


def meaning_of(word: str, known: Mapping[str, str]) -> str | None:
    """Return the map's value for a word, or None."""
    return known.get(word, known.get(word.casefold()))


@lru_cache(maxsize=256)
def winner_named(words: str) -> Winner | None:
    """Return the winner that a short text names without a map, or None.

    The text is `1`, `2`, `A`, `B`, the name of an answer (`Response 1`, `model_b`, `Output (a)`, `助手2`, `回复一`),
    such a name with "is better", or a tie.
    """
    name = name_in(words)
    return "tie" if name is None and names_tie(words) else _ANSWERS.get((name or "").casefold())


@lru_cache(maxsize=256)
def name_in(words: str) -> str | None:
    """Return the letter or digit with which a short text names an answer, such as `A` for `**Assistant A** wins`."""
    if len(words) > _MAX_NAME_CHARS:
        return None
    match = _NAMED.fullmatch(normalize("NFKC", words).replace("**", "").strip(_AROUND))
    return None if match is None else match["name"]


def winner_in_map(words: str, known: Mapping[str, str]) -> Winner | None:
    """Return the winner of a text by `verdict.map`, or None.

    The text is a word of the map, `1`, `2`, a tie, or the name of an answer by a word of the map: `[[A]]`, `**A**`,
    `Assistant A is better`.
    """
    meaning = meaning_of(words, known)
    if meaning is None and (name := name_in(words)) is not None:
        meaning = meaning_of(name, known)
    if meaning is None:
        return WINNERS.get(words.casefold()) or ("tie" if names_tie(words) else None)
    return WINNERS.get(meaning)
