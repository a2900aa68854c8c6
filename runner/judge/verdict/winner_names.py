"""The words with which a judge names the better answer, and a map's meaning of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from unicodedata import normalize

from runner.config import VerdictConfig
from runner.types import Winner

WINNERS: dict[str, Winner] = {"1": "1", "2": "2", "tie": "tie"}
"""What a map may make of a word."""

_LONGEST = 60
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
    """Return the map with its words as texts; a word counts in any case unless the map tells cases apart."""
    exact = {str(word): str(meaning) for word, meaning in (verdict.map or {}).items()}
    return {word.casefold(): meaning for word, meaning in exact.items()} | exact


def meant(word: str, known: Mapping[str, str]) -> str | None:
    """Return what a map makes of a word."""
    return known.get(word, known.get(word.casefold()))


@lru_cache(maxsize=256)
def winner_named(words: str) -> Winner | None:
    """Return the winner that a few words name without a map.

    `1`, `2`, `A`, `B`, an answer by its name (`Response 1`, `model_b`, `Output (a)`, `助手2`), or a tie.
    """
    if len(words) > _LONGEST:
        return None
    words = normalize("NFKC", words).strip(_AROUND)
    if _TIE.fullmatch(words):
        return "tie"
    match = _ANSWER.fullmatch(words)
    if match is None:
        return None
    return "1" if match[1] in "1aA" else "2"
