"""Reads scores from the values of an object: overall scores, scores by answer, and dimensions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.judge.verdict.common import PAD, Scale, ScoreMention, mention_of
from runner.judge.verdict.positions import ONE_NUMBER
from runner.judge.verdict.winner_names import winner_named
from runner.types import Dimension

_TEXT = re.compile(rf"[\s\[【*]*+{PAD}{ONE_NUMBER}{PAD}[\s\]】*.。]*+")
_MAX_NUMBER_CHARS = 40


def mention_in(value: Any) -> ScoreMention | None:
    """Return the score of a number or of a text such as `"4"`, `"4/5"`, `"4分"`, or None for any other value."""
    if isinstance(value, float):
        return ScoreMention(0, 0, value, None)
    if not isinstance(value, str) or len(value) > _MAX_NUMBER_CHARS:
        return None
    match = _TEXT.fullmatch(value)
    return None if match is None else mention_of(match)


def mention_pair(value: Any) -> tuple[ScoreMention, ScoreMention] | None:
    """Return the scores of the two answers, or None.

    The value is a list of two scores, or an object whose two keys name the answers.
    """
    if isinstance(value, Mapping) and len(value) == 2:
        by_answer = {winner_named(name): mention_in(score) for name, score in value.items()}
        first, second = by_answer.get("1"), by_answer.get("2")
    elif isinstance(value, list) and len(value) == 2:
        first, second = map(mention_in, value)
    else:
        return None
    return None if first is None or second is None else (first, second)


def dimensions_in(value: Any, scale: Scale) -> tuple[Dimension, ...]:
    """Return the dimensions in an object or a list whose scores are on the scale.

    `{"depth": 4}`, `{"depth": {"score": 4, "reason": ...}}`, `{"depth": {"A": 4, "B": 2}}`, `{"depth": [4, 2]}`, or
    `[{"name": "depth", "score": 4}]`. Entries of any other form are left out.
    """
    return tuple(
        Dimension(name, answer, mention.value)
        for name, answer, mention in _dimensions(value)
        if name and mention.fits(scale)
    )


def _dimensions(value: Any) -> Iterator[tuple[str, int | None, ScoreMention]]:
    for name, inner in _named(value):
        pair = mention_pair(inner)
        if pair is not None:
            yield from ((name, 1, pair[0]), (name, 2, pair[1]))
            continue
        mention = mention_in(inner.get("score") if isinstance(inner, Mapping) else inner)
        if mention is not None:
            yield name, None, mention


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        for item in value:
            name = item.get("name") if isinstance(item, Mapping) else None
            if isinstance(name, str):
                yield name, item
