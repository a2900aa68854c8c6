"""A judge of one criterion (`judge.dimension`): its score is no vote on the whole."""

from __future__ import annotations

import msgspec

from runner.judge.verdict.common import Reader, unreadable
from runner.types import Dimension, Verdict


def as_criterion(name: str, read: Reader) -> Reader:
    """Return a reader whose scores stand under a dimension's name, and that names no winner of the whole."""

    def read_criterion(text: str) -> Verdict:
        return _moved(read(text), name)

    return read_criterion


def _moved(verdict: Verdict, name: str) -> Verdict:
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
