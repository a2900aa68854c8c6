"""Scores as values of an object: a number, a text that is one, and the scores below an overall one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.judge.verdict.common import PAD, Scale, ScoreMention, mark_of
from runner.judge.verdict.positions import ONE_NUMBER
from runner.judge.verdict.winner_names import winner_named
from runner.types import Dimension

_TEXT = re.compile(rf"[\s\[【*]*+{PAD}{ONE_NUMBER}{PAD}[\s\]】*.。]*+")
_LONGEST = 40


def mark_in(value: Any) -> ScoreMention | None:
    """Return the number that a value is: a number itself, or a text such as `"4"`, `"4/5"`, `"4分"`."""
    if isinstance(value, float):
        return ScoreMention(0, 0, value, None)
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    match = _TEXT.fullmatch(value)
    return None if match is None else mark_of(match)


def two_marks(value: Any) -> tuple[ScoreMention, ScoreMention] | None:
    """Return the scores of the two answers: a list of two, or an object whose two keys name the answers."""
    if isinstance(value, Mapping) and len(value) == 2:
        sides = {winner_named(name): mark_in(score) for name, score in value.items()}
        first, second = sides.get("1"), sides.get("2")
    elif isinstance(value, list) and len(value) == 2:
        first, second = map(mark_in, value)
    else:
        return None
    return None if first is None or second is None else (first, second)


def dimensions_in(value: Any, scale: Scale) -> tuple[Dimension, ...]:
    """Return the scores on the scale that an object or a list holds below the overall one.

    `{"depth": 4}`, `{"depth": {"score": 4, "reason": ...}}`, `{"depth": {"A": 4, "B": 2}}`, `{"depth": [4, 2]}`, or
    `[{"name": "depth", "score": 4}]`. What is none of these is left out.
    """
    return tuple(
        Dimension(name, answer, mark.value) for name, answer, mark in _dimensions(value) if name and mark.fits(scale)
    )


def _dimensions(value: Any) -> Iterator[tuple[str, int | None, ScoreMention]]:
    for name, inner in _named(value):
        pair = two_marks(inner)
        if pair is not None:
            yield from ((name, 1, pair[0]), (name, 2, pair[1]))
            continue
        mark = mark_in(inner.get("score") if isinstance(inner, Mapping) else inner)
        if mark is not None:
            yield name, None, mark


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        for item in value:
            name = item.get("name") if isinstance(item, Mapping) else None
            if isinstance(name, str):
                yield name, item
