"""Judges of one criterion (`judge.dimension`): their scores are dimensions, not overall scores."""

from __future__ import annotations

import msgspec

from runner.judge.verdict.common import Reader, unreadable
from runner.types import Dimension, Verdict


def as_criterion(name: str, read: Reader) -> Reader:
    """Return a reader that moves the scores to the dimension `name` and names no overall winner."""

    def read_criterion(text: str) -> Verdict:
        return _as_dimensions(read(text), name)

    return read_criterion


def _as_dimensions(verdict: Verdict, name: str) -> Verdict:
    if verdict.problem is not None:
        return verdict
    scores = ((None, verdict.score), (1, verdict.score1), (2, verdict.score2))
    own = tuple(Dimension(name, answer, score) for answer, score in scores if score is not None)
    if not own:
        return unreadable("no_verdict", f"no score of `{name}`", verdict.rule)
    return msgspec.structs.replace(
        verdict,
        score=None,
        winner=None,
        score1=None,
        score2=None,
        contradiction=None,
        dimensions=own + tuple(item for item in verdict.dimensions if item.name != name),
    )
