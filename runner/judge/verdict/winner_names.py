"""The words with which a judge names the better answer, with and without `verdict.map`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from unicodedata import normalize

from runner.config import VerdictConfig
from runner.types import Winner

# The values that `verdict.map` may give to a word.
WINNERS: dict[str, Winner] = {"1": "1", "2": "2", "tie": "tie"}

_MAX_NAME_CHARS = 60
_AROUND = " \t\r\n*_`\"'“”‘’[]【】.。"
_ANSWER = re.compile(
    r"(?:(?:the )?(?:assistant|model|response|answer|output|reply|option|candidate|助手|模型|回[复複覆復答应應]|答案)"
    r"[ _-]?)?"
    r"\(?([12ab])\)?(?: is better| wins|更好|更优)?",
    re.IGNORECASE,
)
_TIE = re.compile(
    r"(?:it(?:'s| is) )?(?:a )?(?:tie|tied|draw)|equal|equally good|same"
    r"|平局|平手|打平|持平|(?:质量)?相当|一样好|무승부|동점|引き分け",
    re.IGNORECASE,
)


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

    The text is `1`, `2`, `A`, `B`, the name of an answer (`Response 1`, `model_b`, `Output (a)`, `助手2`), or a tie.
    """
    if len(words) > _MAX_NAME_CHARS:
        return None
    words = normalize("NFKC", words).strip(_AROUND)
    if _TIE.fullmatch(words):
        return "tie"
    match = _ANSWER.fullmatch(words)
    if match is None:
        return None
    return "1" if match[1] in "1aA" else "2"
