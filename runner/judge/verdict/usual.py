"""A short cut through the criteria of the usual pairwise text, for speed alone.

One search finds all that matters, and what its findings mean is remembered, for they are nearly always the same.
Where more counts than the last name before a score, there is no short cut.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from runner.judge.verdict.criteria import BREAK, criterion
from runner.judge.verdict.pairing import AND, PLURAL, answer_of
from runner.judge.verdict.reading import NAME, NAMES, OPEN

_NAMES = NAMES.replace(r"(?!\d)", rf"(?!\d)(?:{AND}(?=[回答助模RrAaMm]))?")
_BOTH = r"两个回[复答](?![ \t*_]{0,3}[12１２])|Both responses|both responses"
_BREAKS = BREAK.replace("?P<heading>", "?:").replace(r"[ \t]*(?=\n)", r"(?=[ \t]*\n)")  # so that all tokens are short
_TOKEN = re.compile(rf"{OPEN}(?:[0-9]\]\])?|{_NAMES}|{_BOTH}|{PLURAL}|{_BREAKS}")
_BREAK = re.compile(BREAK)

_Answers = tuple[int, ...]
_Meaning = tuple[str, _Answers, Any]
"""What a token is, the answers it names, and its score or the criterion that begins with it."""


def usual_criteria(text: str, position: int) -> list[tuple[str, int, float]] | None:
    """Return each criterion's name, answer and score after a position, or None where the general rules must say."""
    listed: list[tuple[str, int, float]] = []
    heading: str | None = None
    found: dict[int, float] = {}
    owners: _Answers = ()
    named: _Answers = ()  # the last answer named since the score before
    mixed = plural = False  # whether the other one was named, too, and whether there was a word for both
    doubtful = False  # whether that word came after the name of one
    for kind, answers, value in map(_meaning, _TOKEN.findall(text, position)):
        if kind == "name":
            if named and named != answers and len(named) == 1:
                mixed = True
            named = answers
        elif kind == "score":
            if doubtful or (plural and (mixed or not named)) or (not named and len(owners) == 2):
                return None
            owners = named or owners
            for answer in owners:
                if answer not in found:
                    found[answer] = value
            named, mixed, plural, doubtful = (), False, False, False
        elif kind == "plural":
            plural = True
        elif kind == "both":
            doubtful = doubtful or len(named) == 1
            named, plural = answers or named, True
        elif kind == "break":
            if heading is not None:
                listed += [(heading, answer, found[answer]) for answer in sorted(found)]
            heading, found, owners, named = value, {}, (), ()
            mixed = plural = doubtful = False
        else:
            return None
    if heading is not None:
        listed += [(heading, answer, found[answer]) for answer in sorted(found)]
    return listed


@lru_cache(maxsize=1024)
def _meaning(token: str) -> _Meaning:
    if token[0] == "[":
        return ("score", (), float(token[2])) if len(token) == 5 else ("unusual", (), None)
    if token[0] == "\n":
        match = _BREAK.match(token)
        name = criterion(match["heading"]) if match is not None and match["heading"] is not None else None
        return ("unusual" if name == "" else "break", (), name)
    name_match = NAME.match(token)
    if name_match is not None:
        return ("name" if name_match.end() == len(token) else "unusual", (answer_of(name_match),), None)
    if token in "都均皆":
        return ("plural", (), None)
    return ("both", () if re.fullmatch(PLURAL, token) else (1, 2), None)
