"""Verdicts computed from the texts: plausible, repeatable and meaningless.

The quality of an answer is computed from its length, the words that it shares with the question (and with the
reference, if there is one) and a hash of the texts. It does not depend on whether the answer is right.
"""

from __future__ import annotations

import math
from typing import NamedTuple
from zlib import crc32

_HEAD_CHARS = 600
_FULL_LENGTH_LOG = math.log1p(800)  # from 800 characters on, length adds no more quality
_TIE_QUALITY_GAP = 0.06  # two answers are a tie if their qualities differ by less


class VerdictBias(NamedTuple):
    """Influences on a verdict besides the texts.

    Attributes:
        forced_winner: the position (1 or 2) that wins regardless of the texts, or None.
        noise: a number in [0, 1) that selects a verdict other than that of the texts, or None.
    """

    forced_winner: int | None = None
    noise: float | None = None


class Rating(NamedTuple):
    """The verdict on one answer: a score from 1 to `max_score`.

    `variation` is a hash that varies the criterion scores below the overall score.
    """

    score: int
    max_score: int
    variation: int


class Comparison(NamedTuple):
    """The verdict on two answers: `winner` is 1, 2, or 0 for a tie, and always agrees with the two scores."""

    winner: int
    score1: int
    score2: int
    max_score: int
    variation: int


def answer_quality(question: str, answer: str, reference: str | None, salt: str) -> float:
    """Return the quality of an answer, in [0, 1).

    Args:
        salt: the model's name, which changes the quality slightly.
    """
    if not answer.strip():
        return 0.0
    answer_words = _words(answer)
    length = min(1.0, math.log1p(len(answer)) / _FULL_LENGTH_LOG)
    overlap = _overlap(question, answer_words)
    if reference:
        overlap = (overlap + 2 * _overlap(reference, answer_words)) / 3
    answer_hash = text_hash(answer)
    luck = (answer_hash ^ text_hash(question)) / 2**32
    model_taste = crc32(salt.encode("utf-8", "replace"), answer_hash) / 2**32
    return min(0.999, 0.35 * length + 0.2 * overlap + 0.35 * luck + 0.1 * model_taste)


def rate(quality: float, max_score: int, variation: int, bias: VerdictBias) -> Rating:
    """Convert a quality to a score from 1 to `max_score`."""
    score = _score(quality, max_score)
    if bias.noise is not None and max_score > 1:
        score = 1 + (score + int(bias.noise * (max_score - 1))) % max_score
    return Rating(score, max_score, variation)


def compare(quality1: float, quality2: float, max_score: int, variation: int, bias: VerdictBias) -> Comparison:
    """Convert two qualities to a winner and two scores that agree with it."""
    difference = quality1 - quality2
    winner = 0 if abs(difference) < _TIE_QUALITY_GAP else 1 if difference > 0 else 2
    if bias.forced_winner is not None:
        winner = bias.forced_winner
    if bias.noise is not None:
        winner = (winner + 1 + int(bias.noise * 2)) % 3
    high, low = _score(max(quality1, quality2), max_score), _score(min(quality1, quality2), max_score)
    if winner == 0:
        return Comparison(0, high, high, max_score, variation)
    if high == low:
        high = min(max_score, high + 1)
        low = max(1, high - 1)
    score1, score2 = (high, low) if winner == 1 else (low, high)
    return Comparison(winner, score1, score2, max_score, variation)


def criterion_score(score: int, max_score: int, variation: int, number: int) -> int:
    """Return the score of criterion `number`, close to the overall score."""
    step = max(1, max_score // 5)
    return min(max_score, max(1, score + (variation >> (2 * number)) % 3 * step - step))


def text_hash(text: str) -> int:
    """Return a 32-bit hash of a text."""
    return crc32(text.encode("utf-8", "replace"))


def _score(quality: float, max_score: int) -> int:
    return 1 + min(max_score - 1, int(quality * max_score))


def _words(text: str) -> set[str]:
    """Return the words at the beginning of a text, or its characters if they are not all ASCII."""
    text = text[:_HEAD_CHARS]
    return set(text.lower().split()) if text.isascii() else set(text)


def _overlap(text: str, answer_words: set[str]) -> float:
    words = _words(text)
    return len(words & answer_words) / len(words) if words else 0.0
