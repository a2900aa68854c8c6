"""What a `finish_reason` means: is the answer whole? Services use many words beside those that OpenAI defines."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

# `whole`: the judge ended by itself (or the service gives no reason). `cut`: at the token limit. `filtered`: a content
# filter took the answer away, or its end. `broken`: the service or its model failed in the middle.
Ending = Literal["whole", "cut", "filtered", "broken"]

# Parts of the words, without signs between letters. A word may have several: the first line that matches counts.
_PARTS: tuple[tuple[Ending, re.Pattern[str]], ...] = (
    (
        "filtered",
        re.compile(
            "filter|safety|sensitive|moderat|prohibited|block|recitation|spii|guardrail|toxic|refus|policy|inspection"
            "|violation"
        ),
    ),
    ("cut", re.compile("length|max.*token|token.*(?:limit|max)|context.*(?:window|exceed)|incomplete|truncat|cutoff")),
    (
        "broken",
        re.compile(
            "error|abort|cancel|fail|timeout|timedout|insufficient|overload|interrupt|unavailable|disconnect|network"
            "|exception|crash|kill|malformed"
        ),
    ),
)
_NOT_A_LETTER = re.compile("[^a-z]+")


@lru_cache(maxsize=256)
def ending_of(finish_reason: str | None) -> Ending:
    """Returns what a `finish_reason` says about the answer; an unknown word says nothing, as `stop`."""
    word = _NOT_A_LETTER.sub("", finish_reason.lower()) if finish_reason else ""
    return next((ending for ending, part in _PARTS if part.search(word)), "whole")
