"""A judge of one criterion (`judge.dimension`): its score is no vote on the whole."""

from __future__ import annotations

import msgspec

from runner.config import JudgeConfig
from runner.errors import ConfigError
from runner.judge.verdict.reading import Reader, unreadable
from runner.types import Dimension, Verdict

WITHOUT_SCORES = ("mt_bench_pair", "arena_hard", "auto_j_pair", "pandalm", "prometheus_pair", "output_ab")
"""The formats that name a winner and nothing else."""


def as_criterion(judge: JudgeConfig, read: Reader) -> Reader:
    """Return a reader whose scores stand under the judge's dimension, and that names no winner of the whole.

    Raises:
        ConfigError: what the judge is read as has no score.
    """
    name = judge.dimension or ""
    if not _scores(judge):
        raise ConfigError(f"judge `{judge.name}`: a dimension is a score, and its verdict has none")

    def read_criterion(text: str) -> Verdict:
        return _moved(read(text), name)

    return read_criterion


def _scores(judge: JudgeConfig) -> bool:
    verdict = judge.verdict
    if verdict is None:
        return True
    if verdict.pattern is not None:
        return verdict.kind == "score"
    return verdict.score is not None if verdict.format == "json" else verdict.format not in WITHOUT_SCORES


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
        dimensions=own + verdict.dimensions,
    )
