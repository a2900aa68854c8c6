"""Readers for the tests of verdict formats."""

from __future__ import annotations

from typing import Any

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import reader_for
from runner.judge.verdict.common import Reader


def reader(scale: tuple[float, float] | None = None, dimension: str | None = None, **verdict: Any) -> Reader:
    """Return the reader of a template judge, as in `reader((1, 5), format="judgelm")`.

    Args:
        scale: lowest and highest score; None for the format's own scale.
        dimension: the criterion that the judge scores, or None.
        verdict: the keys of `judge.verdict`, such as `format` or `pattern` and `kind`.
    """
    config = VerdictConfig.model_validate(verdict)
    return reader_for(JudgeConfig(kind="template", user="x", scale=scale, dimension=dimension, verdict=config))
