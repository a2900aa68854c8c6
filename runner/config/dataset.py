"""The `dataset` section: which samples are judged, and the meaning of their columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from runner.config.dataset_files import CsvConfig, dataset_paths
from runner.config.fields import Frozen, NonEmptyText, Scale, Text, Words, expected, plain, refused, text
from runner.core import splits
from runner.types import LABEL_COLUMNS, MODEL_COLUMNS, RESULT_COLUMNS, TEXT_FIELDS

# The columns that only `samples.parquet` has.
SAMPLE_COLUMNS = ("votes", "agreement", "undecided", "consistent")

# The fields that are read from the column of their own name if they are not mapped.
FIELDS_BY_NAME = ("id", "question", "answer", "answer1", "answer2")
_WINNERS = ("1", "2", "tie")

# The types that a kept column can have, by their Arrow names.
KeepType = Literal["string", "bool", "int8", "int16", "int32", "int64", "float32", "float64", "double"]


class Column(Frozen):
    """A field that is read from a column; `a.b` reads key `b` of a nested column `a`, `a.0` an element of a list."""

    path: str

    @model_serializer
    def _as_yaml(self) -> str:
        return self.path


class Constant(Frozen):
    """A field with the same value in every sample."""

    value: Any


def _source(value: Any) -> Column | Constant:
    if isinstance(value, (Column, Constant)):
        return value
    if isinstance(value, Mapping) and set(value) == {"value"}:
        return Constant(value=plain(value["value"]))
    return Column(path=_column(value, "a column, or {value: ...} for a constant"))


def _column(value: Any, what: str) -> str:
    """Return the name of a column, also if YAML reads it as a number."""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and text(value).strip():
        return text(value)
    raise expected(what)


Source = Annotated[
    Column | Constant,
    BeforeValidator(_source),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["value"]}]}),
]


def _consistent_map(value: Mapping[str, str]) -> Mapping[str, str]:
    texts = set(value.values())
    if texts <= set(_WINNERS) or all(re.fullmatch(r"-?\d+(\.\d+)?", item) for item in texts):
        return value
    raise refused("expected every value to be one of 1, 2, tie, or every value to be a number")


class HumanLabel(Frozen):
    """The human label of a sample, to be compared with the verdicts."""

    column: NonEmptyText = Field(description="The column with the label; a.b reads a nested column.")
    map: Annotated[Mapping[str, Text], AfterValidator(_consistent_map)] | None = Field(
        default=None, description="The meaning of each label: 1, 2 or tie, or a score."
    )
    scale: Scale | None = Field(default=None, description="Lowest and highest score that people could give.")
    kind: Literal["winner", "score"] | None = Field(
        default=None, description="What a label means; null: it follows from the judges' verdict formats."
    )

    @model_validator(mode="after")
    def _kind_fits_map(self) -> HumanLabel:
        values = set(() if self.map is None else self.map.values())
        if self.kind == "winner" and not values <= set(_WINNERS):
            raise refused("with kind: winner, expected every value of map to be one of 1, 2, tie")
        if self.kind == "score" and "tie" in values:
            raise refused("with kind: score, expected every value of map to be a number, found 'tie'")
        if self.kind == "winner" and self.scale is not None:
            raise refused("a scale belongs to scores; with kind: winner, leave it out")
        return self


def _human_label(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Mapping):
        return HumanLabel.model_validate(value, context=info.context)
    if value is None or isinstance(value, HumanLabel):
        return value
    return HumanLabel(column=_column(value, "a column, or {column: ..., map: ..., scale: ..., kind: ...}"))


class KeepColumn(Frozen):
    """A column of the dataset that is copied into the results as `name`."""

    name: str
    column: NonEmptyText = Field(description="The column in the dataset; a.b reads a nested column.")
    type: KeepType | None = Field(default=None, description="Its type in the results; null: the type in the file.")


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
            raise refused(f"the name is the key: {{{name}: {{column: ..., type: ...}}}}")
        return KeepColumn.model_validate({**value, "name": name}, context=info.context)
    try:
        column = _column(value, "")
    except PydanticCustomError:
        where = "in the list" if name is None else f"for '{name}'"
        forms = "a column" if name is None else "a column, or {column: ..., type: ...}"
        raise refused(f"expected {forms} {where}, found something else") from None
    return KeepColumn(name=column.rsplit(".", 1)[-1] if name is None else name, column=column)


def _without_reserved_names(kept: tuple[KeepColumn, ...]) -> tuple[KeepColumn, ...]:
    """Refuse names that are taken, in any case: DuckDB, Spark and Hive take `Score` and `score` for one column."""
    results, samples = (*RESULT_COLUMNS, *LABEL_COLUMNS, *MODEL_COLUMNS), (*SAMPLE_COLUMNS, *TEXT_FIELDS)
    places = dict.fromkeys(results, "the results") | dict.fromkeys(samples, "samples.parquet")
    earlier: dict[str, str] = {}
    for item in kept:
        name, key = item.name, item.name.casefold()
        problem = None
        if key in earlier:
            two = f"'{earlier[key]}' and '{name}', which differ by case only" if earlier[key] != name else f"'{name}'"
            problem = f"two columns are kept as {two}"
        elif key in places and key != name:
            problem = f"'{name}' differs by case only from '{key}', a column of {places[key]}"
        elif name in places and name not in TEXT_FIELDS:
            problem = f"'{name}' is a column of {places[name]}"
        if problem is not None:
            raise refused(f"{problem}; keep it under another name: {{my_{name}: {item.column}}}")
        earlier[key] = name
    return kept


class DatasetConfig(Frozen):
    """Which samples are judged, and what their columns mean."""

    path: Annotated[
        str | tuple[str, ...],
        BeforeValidator(dataset_paths),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
    ] = Field(
        description="A file, a directory, a glob, or hf://datasets/...; or a list of them. Relative to this file."
    )
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet"] = Field(
        default="auto", description="The file format; auto: by the file names. .gz and .zst work too."
    )
    fields: Mapping[str, Source] = Field(
        default={},
        description="field: column, or {value: ...} for a constant. a.b reads a nested column, a.0 a list element.",
    )
    human_label: Annotated[HumanLabel | None, BeforeValidator(_human_label)] = Field(
        default=None,
        description="The column with a human label, to compare the verdicts with.",
    )
    keep: Annotated[tuple[KeepColumn, ...], AfterValidator(_without_reserved_names), BeforeValidator(_keep)] = Field(
        default=(),
        description="Columns to copy into the results.",
    )

    records: NonEmptyText | None = Field(
        default=None, description="json: the key of the object under which the rows are; a.b reaches into objects."
    )
    optional: Words = Field(
        default=(), description="Columns that may be missing in some files, or appear in later rows only."
    )
    csv: CsvConfig = Field(default=CsvConfig(), description="csv and tsv: delimiter, quote and encoding of the files.")

    @property
    def paths(self) -> tuple[str, ...]:
        """The path, or all paths of the list."""
        return (self.path,) if isinstance(self.path, str) else self.path

    def is_optional(self, path: str) -> bool:
        """Return True if the column of this path, or an object around it, may be missing."""
        return any(path == name or path.startswith(f"{name}.") for name in self.optional)

    def source_of(self, field: str) -> Column | Constant | None:
        """Return the source of a field: as mapped; else, for the five basic fields, the column of the same name."""
        given = self.fields.get(field)
        return given if given is not None else Column(path=field) if field in FIELDS_BY_NAME else None

    def path_of(self, name: str) -> str | None:
        """Return the path in the dataset of a name in a template; None if it is, or is below, a constant.

        The name is a field, a column, or a path below one: `answer.0.text` is `chosen.0.text` if `answer` is `chosen`.
        """
        for root, rest in splits(name):
            source = self.source_of(root)
            if source is not None:
                return None if isinstance(source, Constant) else f"{source.path}.{rest}" if rest else source.path
        return name
