"""Turn raw rows into samples: the mapped fields, the id, and what the result rows carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from runner.config import FIELDS_BY_NAME, Column, Constant, DatasetConfig
from runner.core import MISSING, has_position, list_problem, value_at
from runner.dataset.carried_columns import LabelKind, human_reader, to_type
from runner.dataset.column_check import Columns
from runner.dataset.decode import as_text, kind_of, record_of
from runner.dataset.readers import RawRow
from runner.errors import BadRow
from runner.types import Sample

_MODELS = ("model", "model1", "model2")


class SampleReader:
    """Reads samples as one dataset section describes them.

    A row that cannot be used becomes a sample with a `problem`; reading never raises.

    Args:
        config: the dataset section.
        found: the dataset's columns.
        label_kind: what a human label means.
        also: further columns that templates name, and paths below columns and fields.
    """

    def __init__(
        self, config: DatasetConfig, found: Columns, *, label_kind: LabelKind = "score", also: Iterable[str] = ()
    ) -> None:
        sources = {field: config.source_of(field) for field in dict.fromkeys((*FIELDS_BY_NAME, *config.fields))}
        self._constants = {field: source.value for field, source in sources.items() if isinstance(source, Constant)}
        self._paths = {field: source.path for field, source in sources.items() if isinstance(source, Column)}
        self._models = [field for field in _MODELS if sources.get(field) is not None]
        self._optional = frozenset(path for path in self._paths.values() if config.is_optional(path))
        self._in_lists = {field: path for field, path in self._paths.items() if has_position(path)}
        named = {name: path for name in also if has_position(name) and (path := config.path_of(name)) is not None}
        self._named_in_lists = {name: path for name, path in named.items() if config.is_optional(path)}
        self._optional_roots = tuple(dict.fromkeys(path.partition(".")[0] for path in config.optional))
        self._label = config.human_label
        self._read_label = None if self._label is None else human_reader(self._label, label_kind)
        self._kept: list[tuple[str, str, Callable[[Any], Any] | None, Any]] = []
        for kept in config.keep:
            own = found.arrow_type(kept.column) if kept.type is None else None
            convert = None if own is not None else to_type(kept.type or "string")
            type_ = own if own is not None else pa.type_for_alias(kept.type or "string")
            self._kept.append((kept.name, kept.column, convert, type_))
        self._nothing = dict.fromkeys(field.name for field in self.result_fields())
        self.fields: tuple[str, ...] = (
            *self._constants,
            *(field for field, path in self._paths.items() if found.has(path)),
        )
        """The fields that the dataset has: the constants, and those whose column exists."""
        label = () if self._label is None else (self._label.column,)
        every = (*self._paths.values(), *label, *(kept.column for kept in config.keep), *also)
        self.columns: tuple[str, ...] = found.roots(every)
        """The top-level columns that are read; `chunks` takes them."""

    def result_fields(self) -> list[Any]:
        """Return the Arrow fields of `Sample.columns`, in the order in which result rows have them."""
        fields = []
        if self._label is not None:
            fields += [("human_winner", pa.string()), ("human_score", pa.float64()), ("human_label", pa.string())]
        fields += [(model, pa.string()) for model in self._models]
        fields += [(name, type_) for name, _, _, type_ in self._kept]
        return [pa.field(name, type_) for name, type_ in fields]

    def sample(self, raw: RawRow) -> Sample:
        """Read one row."""
        place = f"{raw.file}:{raw.number}"
        try:
            record = record_of(raw.payload)
        except BadRow as error:
            return Sample(raw.ordinal, str(raw.ordinal), {}, {}, self._nothing, place, str(error))
        for name in self._optional_roots:
            record.setdefault(name, None)
        fields = self._mapped(record)
        for name, path in self._named_in_lists.items():
            if value_at(record, path) is MISSING:
                record.setdefault(name, None)
        columns, problem = self._carried(record, fields)
        problem = self._list_problem(record, fields) or problem
        id_ = str(raw.ordinal)
        try:
            id_ = _id_of(fields.get("id"), id_)
        except BadRow as error:
            problem = str(error)
        return Sample(raw.ordinal, id_, fields, record, columns, place, problem)

    def mapped(self, raw: RawRow) -> Mapping[str, Any]:
        """Read only the mapped fields of one row; empty if the row cannot be used."""
        try:
            return self._mapped(record_of(raw.payload))
        except BadRow:
            return {}

    def _mapped(self, record: Mapping[str, Any]) -> dict[str, Any]:
        fields = self._constants.copy()
        for field, path in self._paths.items():
            value = record.get(path, MISSING)
            if value is MISSING and "." in path:
                value = value_at(record, path)
            if value is MISSING and path in self._optional:
                value = None
            if value is not MISSING:
                fields[field] = value
        return fields

    def _list_problem(self, record: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
        """Return why a field is absent if a list of this row lacks its element."""
        for field, path in self._in_lists.items():
            if field not in fields and (problem := list_problem(record, path)) is not None:
                return f"field `{field}`: {problem}; if rows may lack it, set dataset.optional: [{path}]"
        return None

    def _carried(self, record: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return the carried columns, and the problem with one of them, if any."""
        carried: dict[str, Any] = {}
        problem = None
        if self._label is not None and self._read_label is not None:
            human = self._read_label(_value_at(record, self._label.column))
            carried["human_winner"], carried["human_score"], carried["human_label"] = human
        for model in self._models:
            carried[model] = as_text(fields.get(model))
        for name, path, convert, _ in self._kept:
            value = _value_at(record, path)
            try:
                carried[name] = value if convert is None else convert(value)
            except BadRow as error:
                carried[name] = None
                problem = f"column {path!r}: {error}"
        return carried, problem


def _value_at(record: Mapping[str, Any], path: str) -> Any:
    value = value_at(record, path)
    return None if value is MISSING else value


def _id_of(value: Any, ordinal: str) -> str:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return ordinal
    if isinstance(value, list | dict | tuple | bytes):
        raise BadRow(f"the id is {kind_of(value)}; expected a text or a number")
    if isinstance(value, str | bool | int | float):
        return as_text(value) or ordinal
    return str(value)
