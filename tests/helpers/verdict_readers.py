"""Readers for the tests of verdict formats."""

from __future__ import annotations

from typing import Any

from runner.config import JudgeConfig, VerdictConfig
from runner.judge import reader_for
from runner.judge.verdict.common import Reader


def reader(scale: tuple[float, float] | None = None, dimension: str | None = None, **verdict: Any) -> Reader:
    """The reader of a template judge: `reader(format="judgelm")`, `reader((1, 5), pattern=..., kind="score")`."""
    config = VerdictConfig.model_validate(verdict)
    return reader_for(JudgeConfig(kind="template", user="x", scale=scale, dimension=dimension, verdict=config))
