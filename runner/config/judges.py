"""What is asked and how the reply is read: the `judge` and `aggregate` sections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from runner.config.fields import (
    Flag,
    Frozen,
    JsonMapping,
    NonEmptyText,
    NonNegativeInt,
    PositiveInt,
    Prompt,
    Scale,
    Text,
    Words,
    expected,
    refused,
)

VerdictFormat = Literal[
    "pai_single", "pai_pairwise", "mt_bench_single", "mt_bench_pair", "arena_hard", "alignbench", "auto_j_single",
    "auto_j_pair", "pandalm", "judgelm", "prometheus", "prometheus_pair", "output_ab", "json", "first_number",
    "last_number",
]  # fmt: skip
"""The declared forms a judge's text can have (section 5 of the contract)."""

_PAIR_FORMATS = (
    "pai_pairwise", "mt_bench_pair", "arena_hard", "auto_j_pair", "pandalm", "judgelm", "prometheus_pair", "output_ab",
)  # fmt: skip
_SCORED_PAIRS = ("pai_pairwise", "judgelm")


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise refused(f"not a regular expression: {error.msg} at position {error.pos}") from None
    return value


class VerdictConfig(Frozen):
    """Where the verdict stands in a template judge's text: a known format, JSON keys, or a pattern."""

    format: VerdictFormat | None = Field(default=None, description="A known form of judge text.")
    pattern: Annotated[NonEmptyText, AfterValidator(_pattern)] | None = Field(
        default=None, description="A regular expression instead of a format; its first group, if any, is the verdict."
    )
    kind: Literal["score", "winner", "label"] | None = Field(default=None, description="What the pattern yields.")
    pick: Literal["first", "last"] = Field(default="first", description="Which match of the pattern counts.")
    score: NonEmptyText | None = Field(default=None, description="json: the key of the score.")
    winner: NonEmptyText | None = Field(default=None, description="json: the key of the winner.")
    map: Mapping[str, Text] | None = Field(
        default=None, description="What the judge's words mean: {A: 1, B: 2, C: tie}."
    )
    dimensions: NonEmptyText | None = Field(
        default=None, description="json: the key of the scores below the overall one."
    )
    explanation: NonEmptyText | None = Field(default=None, description="json: the key of the rationale.")

    @property
    def yields_winner(self) -> bool:
        """Whether a reply names the better of two answers, as `swap` needs it."""
        return self.kind == "winner" or self.format in _PAIR_FORMATS or self.winner is not None

    @property
    def yields_score(self) -> bool:
        """Whether a reply holds a score, or one for each of two answers, as `dimension` needs it."""
        if self.format is None or self.format == "json":
            return self.kind == "score" or self.score is not None
        return self.format in _SCORED_PAIRS or self.format not in _PAIR_FORMATS


def _verdict(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Mapping):
        return VerdictConfig.model_validate(value, context=info.context)
    if value is None or isinstance(value, VerdictConfig):
        return value
    if isinstance(value, str):
        return VerdictConfig.model_validate({"format": value})
    raise expected("the name of a format, {format: ...} or {pattern: ..., kind: ...}")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise expected("a name of letters, digits, '_', '.' and '-'")
    return value


class JudgeConfig(Frozen):
    """One judge: a model and what it is asked."""

    name: Annotated[Text, AfterValidator(_name)] = Field(default="judge", description="Its name in the results.")
    kind: Literal["pai_single", "pai_pairwise", "template"] = Field(
        default="pai_single", description="PAI-Judge's built-in single or pairwise prompt, or your own template."
    )
    model: NonEmptyText = Field(default="pai-judge", description="The model's name at the service.")
    service: Words = Field(default=("default",), description="The service (or services, in this order) that asks it.")
    parameters: JsonMapping = Field(
        default={}, description="Goes into the request body: temperature, top_p, max_tokens, ..."
    )
    swap: Flag = Field(default=False, description="Ask pairwise in both orders.")
    repeats: PositiveInt = Field(default=1, description="Ask each request this many times.")
    reask: NonNegativeInt = Field(default=1, description="Ask again this many times when no verdict can be read.")
    scale: Scale | None = Field(default=None, description="Lowest and highest score; null: the format's own.")
    dimension: NonEmptyText | None = Field(
        default=None, description="This judge's score is one criterion, not a whole vote."
    )
    pai: Mapping[str, Text] = Field(
        default={}, description="PAI's optional fields: scene, metric, steps, max_score, ..."
    )
    system: Prompt | None = Field(default=None, description="Template: the system message, or file://prompt.txt.")
    user: Prompt | None = Field(default=None, description="Template: the user message, or file://prompt.txt.")
    verdict: Annotated[VerdictConfig | None, BeforeValidator(_verdict)] = Field(
        default=None,
        description="Template: how the reply is read.",
    )

    @property
    def is_builtin(self) -> bool:
        """Whether the service builds the prompt itself (`pai_single`, `pai_pairwise`)."""
        return self.kind != "template"


class AggregateConfig(Frozen):
    """How the votes of judges, orders and repeats become one verdict per sample."""

    winner: Literal["majority"] = Field(default="majority", description="Most votes win; equal counts are a tie.")
    score: Literal["mean", "median"] = Field(default="mean", description="How scores are put together.")
    min_valid: PositiveInt = Field(default=1, description="Fewer valid votes than this: no verdict.")
