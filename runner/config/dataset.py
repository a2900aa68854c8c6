"""Where samples come from: the `dataset` section."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_serializer
from pydantic_core import PydanticCustomError

from runner.config.fields import Frozen, NonEmptyText, Scale, Text, expected, plain, refused, text

RESULT_COLUMNS = (
    "sample_id", "ordinal", "judge", "judge_model", "kind", "service", "swapped", "repeat", "custom_id",
    "request_hash", "route", "status", "score", "winner", "score1", "score2", "label", "dimensions", "contradiction",
    "response", "explanation", "rule", "finish_reason", "response_id", "batch_id", "error_type", "error_message",
    "attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost", "latency_s", "finished_at",
    "human_winner", "human_score", "human_label", "model", "model1", "model2",
)  # fmt: skip
"""The columns of `results/*.parquet` in their order, without the kept ones."""

SAMPLE_COLUMNS = ("votes", "agreement", "consistent")
"""The columns that only `samples.parquet` has."""

_SAME_NAME = ("id", "question", "answer", "answer1", "answer2")
_WINNERS = ("1", "2", "tie")

KeepType = Literal["string", "bool", "int8", "int16", "int32", "int64", "float32", "float64", "double"]
"""The types a kept column can be given; Arrow's own names."""


class Column(Frozen):
    """A field that stands in a column; `a.b` reaches into a nested one."""

    path: str

    @model_serializer
    def _as_yaml(self) -> str:
        return self.path


class Constant(Frozen):
    """A field that has the same value in every sample."""

    value: Any


def _source(value: Any) -> Column | Constant:
    if isinstance(value, (Column, Constant)):
        return value
    if isinstance(value, Mapping) and set(value) == {"value"}:
        return Constant(value=plain(value["value"]))
    return Column(path=_column(value, "a column, or {value: ...} for a constant"))


def _column(value: Any, what: str) -> str:
    """Return the name of a column, also where YAML takes it for a number."""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and text(value).strip():
        return text(value)
    raise expected(what)


Source = Annotated[
    Column | Constant,
    BeforeValidator(_source),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["value"]}]}),
]


def _meanings(value: Mapping[str, str]) -> Mapping[str, str]:
    texts = set(value.values())
    if texts <= set(_WINNERS) or all(re.fullmatch(r"-?\d+(\.\d+)?", item) for item in texts):
        return value
    raise refused("expected every value to be one of 1, 2, tie, or every value to be a number")


class HumanLabel(Frozen):
    """What people said of the sample, to be compared with the judges."""

    column: NonEmptyText = Field(description="The column that holds the label; a.b reaches into a nested one.")
    map: Annotated[Mapping[str, Text], AfterValidator(_meanings)] | None = Field(
        default=None, description="What each label means: 1, 2 or tie, or a score."
    )
    scale: Scale | None = Field(default=None, description="Lowest and highest score people could give.")


def _human_label(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Mapping):
        return HumanLabel.model_validate(value, context=info.context)
    if value is None or isinstance(value, HumanLabel):
        return value
    return HumanLabel(column=_column(value, "a column, or {column: ..., map: ..., scale: ...}"))


class KeepColumn(Frozen):
    """A column of the dataset that is carried into the results, under `name`."""

    name: str
    column: NonEmptyText = Field(description="The dataset's column; a.b reaches into a nested one.")
    type: KeepType | None = Field(default=None, description="Its type in the results; null: as the file gives it.")


def _keep(value: Any, info: ValidationInfo) -> tuple[KeepColumn, ...]:
    if isinstance(value, Mapping):
        return tuple(_kept(name, item, info) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_kept(None, item, info) for item in value)
    raise expected("a list of columns, or {name: column}")


def _kept(name: str | None, value: Any, info: ValidationInfo) -> KeepColumn:
    if isinstance(value, KeepColumn):
        return value
    if name is not None and isinstance(value, Mapping):
        if "name" in value:
            raise refused(f"the name stands in front: {{{name}: {{column: ..., type: ...}}}}")
        return KeepColumn.model_validate({**value, "name": name}, context=info.context)
    try:
        column = _column(value, "")
    except PydanticCustomError:
        where = "in the list" if name is None else f"for '{name}'"
        forms = "a column" if name is None else "a column, or {column: ..., type: ...}"
        raise refused(f"expected {forms} {where}, found something else") from None
    return KeepColumn(name=column.rsplit(".", 1)[-1] if name is None else name, column=column)


def _free_names(kept: tuple[KeepColumn, ...]) -> tuple[KeepColumn, ...]:
    names = [item.name for item in kept]
    for index, item in enumerate(kept):
        other = f"keep it under another name: {{my_{item.name}: {item.column}}}"
        if item.name in RESULT_COLUMNS or item.name in SAMPLE_COLUMNS:
            where = "the results" if item.name in RESULT_COLUMNS else "samples.parquet"
            raise refused(f"'{item.name}' is a column of {where}; {other}")
        if item.name in names[:index]:
            raise refused(f"two columns are kept as '{item.name}'; {other}")
    return kept


def _place(value: str, info: ValidationInfo) -> str:
    """Make a local path absolute; a glob stays a glob, and the folder of the YAML is never read as one."""
    if re.match(r"(hf|s3)://", value):
        return value
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise expected("a file, a directory, a glob, hf://... or s3://...")
    base = str((info.context or {}).get("base", Path.cwd()))
    return str(Path(glob.escape(base) if glob.has_magic(value) else base) / os.path.expanduser(value))  # noqa: PTH111


class DatasetConfig(Frozen):
    """Which samples are judged, and which columns mean what."""

    path: Annotated[NonEmptyText, AfterValidator(_place)] = Field(
        description="A file, a directory, a glob, or hf://datasets/...; relative to this file."
    )
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet"] = Field(
        default="auto", description="How the files are read; auto: by their names. .gz and .zst work too."
    )
    fields: Mapping[str, Source] = Field(
        default={}, description="Field: column, or {value: ...} for a constant. a.b reaches into nested columns."
    )
    human_label: Annotated[HumanLabel | None, BeforeValidator(_human_label)] = Field(
        default=None,
        description="The column of a human label, to compare with.",
    )
    keep: Annotated[tuple[KeepColumn, ...], AfterValidator(_free_names), BeforeValidator(_keep)] = Field(
        default=(),
        description="Columns carried into the results.",
    )

    def source_of(self, field: str) -> Column | Constant | None:
        """Return where a field comes from: as mapped, else the column of its name for the five basic fields."""
        given = self.fields.get(field)
        return given if given is not None else Column(path=field) if field in _SAME_NAME else None
