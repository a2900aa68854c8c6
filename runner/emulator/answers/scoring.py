"""Verdicts computed from the texts: plausible, repeatable, and without any meaning.

An answer's quality is its length, the words it shares with the question (and with the reference, where there is one)
and a hash of the texts. It knows nothing of right and wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple
from zlib import crc32

_HEAD = 600
_LONG_ENOUGH = math.log1p(800)
_GAP = 0.06
"""Two answers whose qualities differ by less are a tie."""


class VerdictBias(NamedTuple):
    """What moves a verdict besides the texts.

    Attributes:
        favour: the position (1 or 2) that wins whatever the texts say, or None.
        change: a number from 0 up to 1 that picks another verdict than the texts give, or None.
    """

    favour: int | None = None
    change: float | None = None


class Rating(NamedTuple):
    """The verdict on one answer; `shade` is a hash that varies what is said below the overall score."""

    score: int
    top: int
    shade: int


class Comparison(NamedTuple):
    """The verdict on two answers; `winner` is 1, 2, or 0 for a tie, and never disagrees with the scores."""

    winner: int
    score1: int
    score2: int
    top: int
    shade: int


def quality(question: str, answer: str, reference: str | None, salt: str) -> float:
    """Return a number from 0 up to 1 for an answer; `salt` (the model's name) shifts it a little."""
    if not answer.strip():
        return 0.0
    said = _words(answer)
    length = min(1.0, math.log1p(len(answer)) / _LONG_ENOUGH)
    overlap = _overlap(question, said)
    if reference:
        overlap = (overlap + 2 * _overlap(reference, said)) / 3
    shade = shade_of(answer)
    chance = (shade ^ shade_of(question)) / 2**32
    taste = crc32(salt.encode("utf-8", "replace"), shade) / 2**32
    return min(0.999, 0.35 * length + 0.2 * overlap + 0.35 * chance + 0.1 * taste)


def rate(worth: float, top: int, shade: int, sway: VerdictBias) -> Rating:
    """Turn a quality into a score from 1 to `top`."""
    score = _score(worth, top)
    if sway.change is not None and top > 1:
        score = 1 + (score + int(sway.change * (top - 1))) % top
    return Rating(score, top, shade)


def compare(worth1: float, worth2: float, top: int, shade: int, sway: VerdictBias) -> Comparison:
    """Turn two qualities into a winner and two scores that agree with it."""
    difference = worth1 - worth2
    winner = 0 if abs(difference) < _GAP else 1 if difference > 0 else 2
    if sway.favour is not None:
        winner = sway.favour
    if sway.change is not None:
        winner = (winner + 1 + int(sway.change * 2)) % 3
    high, low = _score(max(worth1, worth2), top), _score(min(worth1, worth2), top)
    if winner == 0:
        return Comparison(0, high, high, top, shade)
    if high == low:
        high, low = min(top, high + 1), max(1, min(top, high + 1) - 1)
    score1, score2 = (high, low) if winner == 1 else (low, high)
    return Comparison(winner, score1, score2, top, shade)


def below(score: int, top: int, shade: int, number: int) -> int:
    """Return the score of criterion `number`, near the overall one."""
    step = max(1, top // 5)
    return min(top, max(1, score + (shade >> (2 * number)) % 3 * step - step))


def shade_of(text: str) -> int:
    """Return the hash that varies the wording for a text."""
    return crc32(text.encode("utf-8", "replace"))


def _score(worth: float, top: int) -> int:
    return 1 + min(top - 1, int(worth * top))


def _words(text: str) -> set[str]:
    """Return the words a text begins with; where it is not plain ASCII, its characters serve."""
    text = text[:_HEAD]
    return set(text.lower().split()) if text.isascii() else set(text)


def _overlap(text: str, said: set[str]) -> float:
    asked = _words(text)
    return len(asked & said) / len(asked) if asked else 0.0
