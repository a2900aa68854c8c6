"""A short cut through the criteria of the usual pairwise text, for speed alone.

One search finds all that matters and puts it down as one letter each; what the letters of a criterion mean is
remembered, for there are few ways to name two answers and two scores. Where more counts than the last name before a
score, there is no short cut.
"""

from __future__ import annotations

import re
from functools import lru_cache

from runner.judge.verdict.answer_scores import AND, PLURAL, answer_of
from runner.judge.verdict.common import NAME, NAMES, OPEN
from runner.judge.verdict.criteria_list import BREAK, criterion

_NAMES = NAMES.replace(r"(?!\d)", rf"(?!\d)(?:{AND}(?=[回答助模RrAaMm]))?")
_BOTH = r"两个回[复答](?![ \t*_]{0,3}[12１２])|Both responses|both responses"
_BREAKS = BREAK.replace("?P<heading>", "?:").replace(r"[ \t]*(?=\n)", r"(?=[ \t]*\n)")  # so that all tokens are short
_TOKEN = re.compile(rf"{OPEN}(?:[0-9]\]\])?|{_NAMES}|{_BOTH}|{PLURAL}|{_BREAKS}")
_BREAK = re.compile(BREAK)

_UNUSUAL, _PLURAL, _BOTH_NAMED, _BOTH_SAID = "u", "p", "B", "b"
_ANSWERS = {"1": (1,), "2": (2,), _BOTH_NAMED: (1, 2), _BOTH_SAID: ()}
_SCORES = {chr(ord("①") + value): float(value) for value in range(10)}
_GOES_ON = " "
"""In place of a heading: the criterion before goes on. (No heading is a blank.)"""

_LONGEST, _MOST = 100, 4096
"""Letters of a criterion, and different tokens, that are remembered."""


def usual_criteria(text: str, position: int) -> list[tuple[str, int, float]] | None:
    """Return each criterion's name, answer and score after a position, or None where the general rules must say."""
    parts = "".join(map(_letter, _TOKEN.findall(text, position))).split("\n")
    listed: list[tuple[str, int, float]] = []
    for heading, inside in zip(parts[1::2], parts[2::2], strict=True):
        if heading == _GOES_ON:
            return None
        if heading and inside:
            scores = _scores(inside) if len(inside) <= _LONGEST else _read(inside)
            if scores is None:
                return None
            listed += [(heading, answer, value) for answer, value in scores]
    return listed


def _read(letters: str) -> tuple[tuple[int, float], ...] | None:
    """Return the first score of each answer in a criterion; it is the score of what was named last before it."""
    found: dict[int, float] = {}
    owners: tuple[int, ...] = ()
    named: tuple[int, ...] = ()  # the last answer named since the score before
    mixed = plural = False  # whether the other one was named, too, and whether there was a word for both
    doubtful = False  # whether that word came after the name of one
    for letter in letters:
        if letter == _UNUSUAL:
            return None
        if letter in _SCORES:
            if doubtful or (plural and (mixed or not named)) or (not named and len(owners) == 2):
                return None
            owners = named or owners
            for answer in owners:
                found.setdefault(answer, _SCORES[letter])
            named, mixed, plural, doubtful = (), False, False, False
        elif letter == _PLURAL:
            plural = True
        elif letter in "12":
            mixed = mixed or (len(named) == 1 and named != _ANSWERS[letter])
            named = _ANSWERS[letter]
        else:
            doubtful = doubtful or len(named) == 1
            named, plural = _ANSWERS[letter] or named, True
    return tuple(sorted(found.items()))


_scores = lru_cache(maxsize=_MOST)(_read)


class _Letters(dict[str, str]):
    """The letter of each token; of a break, the heading on a line of its own. (Faster than a cached function.)"""

    def __missing__(self, token: str) -> str:
        letter = _letter_of(token)
        if len(self) < _MOST:
            self[token] = letter
        return letter


def _letter_of(token: str) -> str:
    if token[0] == "[":
        return chr(ord("①") + int(token[2])) if len(token) == 5 else _UNUSUAL
    if token[0] == "\n":
        match = _BREAK.match(token)
        heading = criterion(match["heading"]) if match is not None and match["heading"] is not None else None
        return f"\n{_GOES_ON if heading == '' else heading or ''}\n"
    name = NAME.match(token)
    if name is not None:
        return str(answer_of(name)) if name.end() == len(token) else _UNUSUAL
    if token in "都均皆":
        return _PLURAL
    return _BOTH_SAID if re.fullmatch(PLURAL, token) else _BOTH_NAMED


_letter = _Letters().__getitem__
