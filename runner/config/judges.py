"""The `judge` and `aggregate` sections: what is sent and how the verdict is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import regex
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
    is_whole,
    refused,
)
from runner.core import COMPLETION_CAP_PARAMETERS
from runner.types import MAX_REPEATS

# The known forms of judge text (docs/verdicts.md).
VerdictFormat = Literal[
    "pai_single", "pai_pairwise", "mt_bench_single", "mt_bench_pair", "arena_hard", "alignbench", "auto_j_single",
    "auto_j_pair", "pandalm", "judgelm", "prometheus", "prometheus_pair", "output_ab", "json", "first_number",
    "last_number",
]  # fmt: skip

_PAIR_FORMATS = (
    "pai_pairwise", "mt_bench_pair", "arena_hard", "auto_j_pair", "pandalm", "judgelm", "prometheus_pair", "output_ab",
)  # fmt: skip
_SCORED_PAIRS = ("pai_pairwise", "judgelm")


def _valid_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise refused(f"not a regular expression: {error.msg} at position {error.pos}") from None
    try:
        regex.compile(value)  # what searches with it
    except regex.error as error:
        raise refused(f"not a regular expression: {error}") from None
    return value


def _valid_marks(value: Any) -> Any:
    pairs = value if isinstance(value, (list, tuple)) else None
    if pairs is None or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise expected('a list of pairs of marks, such as [["<x>", "</x>"]]')
    for opening, closing in pairs:
        if not (isinstance(opening, str) and isinstance(closing, str) and opening.strip() and closing.strip()):
            raise expected('pairs of two non-empty texts, such as [["<x>", "</x>"]]')
        if opening == closing:
            raise refused("a pair has the same mark twice, so that a block could not end; expected two different marks")
    return value


class VerdictConfig(Frozen):
    """How the verdict is read from a template judge's text: by a known format, JSON keys, or a pattern."""

    format: VerdictFormat | None = Field(default=None, description="A known form of judge text.")
    pattern: Annotated[NonEmptyText, AfterValidator(_valid_pattern)] | None = Field(
        default=None, description="A regular expression instead of a format; its first group, if any, is the verdict."
    )
    kind: Literal["score", "winner", "label"] | None = Field(default=None, description="What the pattern yields.")
    pick: Literal["first", "last"] = Field(default="first", description="Which match of the pattern counts.")
    score: NonEmptyText | None = Field(default=None, description="json: the key of the score.")
    winner: NonEmptyText | None = Field(default=None, description="json: the key of the winner.")
    map: Mapping[str, Text] | None = Field(
        default=None, description="The meaning of the judge's words: {A: 1, B: 2, C: tie}."
    )
    dimensions: NonEmptyText | None = Field(default=None, description="json: the key of the scores by criterion.")
    explanation: NonEmptyText | None = Field(default=None, description="json: the key of the rationale.")
    thinking: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_valid_marks)] = Field(
        default=(),
        description="Pairs of marks around the judge's thinking, besides the known ones such as <think> and </think>.",
    )

    @property
    def yields_winner(self) -> bool:
        """True if a reply names the better of two answers, which `swap` requires."""
        return self.kind == "winner" or self.format in _PAIR_FORMATS or self.winner is not None

    @property
    def yields_score(self) -> bool:
        """True if a reply contains a score, or one for each of two answers, which `dimension` requires."""
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


def _whole_caps(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write the caps of tokens as whole numbers: services refuse the 1000.0 that YAML reads from `1e3`."""
    caps = {name: int(value[name]) for name in COMPLETION_CAP_PARAMETERS if is_whole(value.get(name))}
    return {**value, **caps}


def _countable(value: int) -> int:
    if value > MAX_REPEATS:
        raise expected(f"a number up to {MAX_REPEATS:,}, the largest that the column `repeat` holds")
    return value


def _valid_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise expected("a name of letters, digits, '_', '.' and '-'")
    return value


class JudgeConfig(Frozen):
    """One judge: a model and its prompt."""

    name: Annotated[Text, AfterValidator(_valid_name)] = Field(default="judge", description="Its name in the results.")
    kind: Literal["pai_single", "pai_pairwise", "template"] = Field(
        default="pai_single", description="PAI-Judge's built-in single or pairwise prompt, or your own template."
    )
    model: NonEmptyText = Field(default="pai-judge", description="The model's name at the service.")
    service: Words = Field(default=("default",), description="The service it is requested from, or several.")
    parameters: Annotated[JsonMapping, AfterValidator(_whole_caps)] = Field(
        default={}, description="Added to the request body: temperature, top_p, max_tokens, ..."
    )
    swap: Flag = Field(default=False, description="Pairwise: judge in both orders of the answers.")
    repeats: Annotated[PositiveInt, AfterValidator(_countable)] = Field(
        default=1, description="How many times each request is sent."
    )
    reask: NonNegativeInt = Field(
        default=1, description="How many times a request is sent again if no verdict can be read."
    )
    scale: Scale | None = Field(default=None, description="Lowest and highest score; null: the scale of the format.")
    dimension: NonEmptyText | None = Field(
        default=None, description="This judge scores one criterion of this name and has no vote on the verdict."
    )
    pai: Mapping[str, Text] = Field(
        default={}, description="Optional fields of PAI-Judge: scene, metric, steps, max_score, ..."
    )
    system: Prompt | None = Field(default=None, description="Template: the system message, or file://prompt.txt.")
    user: Prompt | None = Field(default=None, description="Template: the user message, or file://prompt.txt.")
    verdict: Annotated[VerdictConfig | None, BeforeValidator(_verdict)] = Field(
        default=None,
        description="Template: how the reply is read.",
    )

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts that can hold placeholders: those of a template, or the optional fields of PAI-Judge."""
        texts = (self.system, self.user) if self.kind == "template" else self.pai.values()
        return tuple(text for text in texts if isinstance(text, str))

    @property
    def yields_winner(self) -> bool:
        """True if a reply names the better of two answers."""
        return self.kind == "pai_pairwise" if self.verdict is None else self.verdict.yields_winner

    @property
    def yields_score(self) -> bool:
        """True if a reply contains a score, or one for each of two answers."""
        return self.is_builtin if self.verdict is None else self.verdict.yields_score

    @property
    def yields_pair_of_scores(self) -> bool:
        """True if a reply can contain a score for each of two answers (`score1`, `score2`)."""
        format_ = self.kind if self.verdict is None else self.verdict.format
        return format_ in _SCORED_PAIRS or (format_ == "json" and self.yields_score)

    @property
    def yields_single_score(self) -> bool:
        """True if a reply can contain one overall score (`score`); a judge of one criterion has none."""
        format_ = self.kind if self.verdict is None else self.verdict.format
        return self.yields_score and format_ not in _SCORED_PAIRS and self.dimension is None

    @property
    def is_builtin(self) -> bool:
        """True if the service builds the prompt itself (`pai_single`, `pai_pairwise`)."""
        return self.kind != "template"


class AggregateConfig(Frozen):
    """How the votes of judges, orders and repeats become one verdict per sample."""

    winner: Literal["majority"] = Field(default="majority", description="Most votes win; equal counts are a tie.")
    score: Literal["mean", "median"] = Field(default="mean", description="How scores are combined.")
    min_valid: PositiveInt = Field(default=1, description="With fewer valid votes there is no verdict.")
