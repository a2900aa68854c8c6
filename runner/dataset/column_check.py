"""Find the columns of a dataset, and check the configured names against them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa

from runner.config import FIELDS_BY_NAME, Column, DatasetConfig
from runner.core import splits
from runner.dataset.chunk_reader import NEVER, chunks
from runner.dataset.csv_reader import csv_header, csv_records
from runner.dataset.data_file import DataFile
from runner.dataset.decode import record_of
from runner.dataset.files import listed, nearest
from runner.dataset.nested_columns import Near, Record, is_below, look_near, type_below
from runner.dataset.readers import READ_ERRORS, RawRow, coarse_type
from runner.errors import BadRow, DatasetError

_FIRST_ROWS = 200
_HELD_ROWS = 4  # of them, so that two that differ are known without reading the file again
_DELIMITERS = ",;\t|"


class Header(msgspec.Struct, frozen=True):
    """The columns of one file, or of the first rows of all.

    Attributes:
        place: the file, or the rows that were read, for messages.
        names: the top-level columns, in order.
        paths: every path to a value, nested ones too, with its Arrow type if the file has one.
        hint: what may be wrong if a column is not found.
        near: for paths that are not found below a column, what is near them.
    """

    place: str
    names: tuple[str, ...]
    paths: Mapping[str, Any]
    hint: str = ""
    near: Mapping[str, Near] = {}


class Columns(msgspec.Struct, frozen=True):
    """The columns of a dataset: a header for each CSV or Parquet file, a single one for JSON.

    Attributes:
        headers: the columns that were found.
        optional: paths to columns that may come later, or only in some files.
        are_all: True if there are no others, as the headers of CSV and Parquet say; JSON may have more in later rows.
        first_rows: a few rows of JSON, which were read to find the columns.
    """

    headers: tuple[Header, ...]
    optional: tuple[str, ...] = ()
    are_all: bool = False
    first_rows: tuple[RawRow, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The top-level columns of all files, in the order in which they first appear; then the optional ones."""
        optional = (path.partition(".")[0] for path in self.optional if not self._is_found(path))
        return tuple(dict.fromkeys(chain(*(header.names for header in self.headers), optional)))

    def has(self, path: str) -> bool:
        """Return True if any file has a value at this path, or may have one."""
        return self._is_found(path) or _is_under(path, self.optional)

    def _is_found(self, path: str) -> bool:
        return any(path in header.paths for header in self.headers)

    def missing_optional(self) -> list[str]:
        """Return a line for each optional column that is missing in all files, or may be spelt wrongly."""
        paths = dict.fromkeys(chain.from_iterable(header.paths for header in self.headers))
        missing = [(path, nearest(path, paths)) for path in self.optional if path not in paths]
        where = "in any file" if self.are_all else f"in {self.headers[0].place}"
        return [
            f"dataset.optional: there is no column {path!r} {where}{guess}"
            for path, guess in missing
            if guess or self.are_all
        ]

    def arrow_type(self, path: str) -> Any:
        """Return the Arrow type that the Parquet files give a path; None for other formats.

        Raises:
            DatasetError: the files give it different types.
        """
        found = {header.paths[path]: header.place for header in self.headers if header.paths.get(path) is not None}
        if len(found) > 1:
            kinds = ", ".join(f"{type_} in {place}" for type_, place in found.items())
            raise DatasetError(f"column {path!r} has several types: {kinds}; give it one with dataset.keep: type")
        return next(iter(found), None)

    def roots(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Return the top-level columns that hold the paths, without those that no file has."""
        names = set(self.names)
        tops = (next((top for top, _ in splits(path) if top in names), None) for path in paths)
        return tuple(dict.fromkeys(top for top in tops if top is not None))


def _is_under(path: str, names: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)


def columns(files: Sequence[DataFile], optional: Sequence[str] = (), wanted: Iterable[str] = ()) -> Columns:
    """Find the columns: Parquet schemas, CSV headers, or the keys of the first 200 JSON rows.

    Args:
        files: the files of the dataset.
        optional: paths to columns that may come later, or only in some files.
        wanted: the paths that are used. Those that lead into lists are looked up in the first 200 rows.

    Raises:
        DatasetError: there is no row at all, none of the first rows is JSON, or a file cannot be read.
    """
    if files[0].format in ("jsonl", "json"):
        rows = _read_first(files)
        header, records = _first_rows(files, rows)
        header = _with_nested(header, wanted, records, ())
        return Columns((header,), tuple(optional), first_rows=tuple(rows[:_HELD_ROWS]))
    headers = tuple(header for file in files if (header := _header(file)).names)
    if not headers:
        raise DatasetError(f"{files[0].place}: there is no column" + (" in any file" if len(files) > 1 else ""))
    below = [path for path in wanted if "." in path and any(path not in header.paths for header in headers)]
    if below and files[0].format == "parquet":
        records = _records(_read_first(files, Columns(headers).roots(below)))[0]
        headers = tuple(_with_nested(header, below, records, optional) for header in headers)
    return Columns(headers, tuple(optional), are_all=True)


def check_columns(config: DatasetConfig, needed: Iterable[str], found: Columns) -> None:
    """Require that every mapped column exists, and those of the needed fields, unless they are optional.

    Args:
        config: the dataset section.
        needed: the fields or columns that the judges use.
        found: the columns of the dataset.

    Raises:
        DatasetError: one is missing; the message names file, field, column and the existing columns.
    """
    for field, path in _claims(config, needed):
        for header in found.headers:
            if path not in header.paths and not config.is_optional(path):
                raise _no_column(config, field, path, header, found)


def check_template_paths(config: DatasetConfig, names: Iterable[str], found: Columns) -> None:
    """Require that names such as `meta.lang` in templates lead somewhere, unless they are optional.

    Raises:
        DatasetError: one does not; the message names the file, the name, what is near it and the existing columns.
    """
    for name in names:
        path = config.path_of(name)
        if path is not None and name not in found.names and not found.has(path):
            headers = [header for header in found.headers if path in header.near] or found.headers
            raise _no_column(config, f"`{{{name}}}`", path, headers[0], found)


def _no_column(config: DatasetConfig, field: str, path: str, header: Header, found: Columns) -> DatasetError:
    near = header.near.get(path, Near((), None))
    problem = "" if near.problem is None else f"; in the first row with that list, {near.problem}"
    return DatasetError(
        f"{header.place}: no column {path!r} for {field}{nearest(path, (*near.paths, *header.paths))}{problem}"
        f"; the columns are {listed(header.names)}{_hint(config, field, path, header, found)}"
    )


def _hint(config: DatasetConfig, field: str, path: str, header: Header, found: Columns) -> str:
    if header.hint:
        return header.hint
    cell = next((top for top, rest in splits(path) if rest and top in header.names), None)
    if cell is not None and found.are_all and header.paths[cell] is None:
        return f"; the cells of {cell!r} are texts, and nothing is below a text"
    if field in FIELDS_BY_NAME and field not in config.fields:
        return "; map it under dataset.fields"
    return f"; if some rows or files lack it, set dataset.optional: [{path}]"


def _claims(config: DatasetConfig, needed: Iterable[str]) -> Iterator[tuple[str, str]]:
    for field, mapped in config.fields.items():
        if isinstance(mapped, Column):
            yield field, mapped.path
    if config.human_label is not None:
        yield "human_label", config.human_label.column
    for kept in config.keep:
        yield f"keep: {kept.name}", kept.column
    names = set(needed)
    for name in (*(field for field in FIELDS_BY_NAME if field in names), *sorted(names.difference(FIELDS_BY_NAME))):
        source = config.source_of(name)
        if source is None:
            yield name, name
        elif isinstance(source, Column) and name != "id":
            yield name, source.path


def _header(file: DataFile) -> Header:
    paths: dict[str, Any]
    hint = ""
    try:
        if file.format == "parquet":
            with file.parquet() as table:
                schema = table.schema_arrow
            names, paths = schema.names, dict(_schema_paths(schema, ""))
        else:
            with closing(csv_records(file)) as records:
                names = csv_header(file, records)
            paths, hint = dict.fromkeys(names), _delimiter_hint(names)
    except READ_ERRORS as error:
        raise DatasetError(f"{file.place}: cannot be read as {file.format}: {error}") from error
    added = file.folder_columns()
    for name in added:
        paths.setdefault(name, pa.string() if file.format == "parquet" else None)
    return Header(file.place, tuple(dict.fromkeys((*names, *added))), paths, hint)


def _delimiter_hint(names: Iterable[str]) -> str:
    """Name another delimiter that the header seems to have."""
    text = "".join(names)
    found = max(_DELIMITERS, key=text.count)
    shown = {"\t": "'\\t'"}.get(found, f"'{found}'")
    return f"; if {shown} separates the cells, set dataset.csv: {{delimiter: {shown}}}" if found in text else ""


def _schema_paths(fields: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields:
        type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        yield prefix + field.name, coarse_type(type_)
        if pa.types.is_struct(type_):
            yield from _schema_paths(type_.fields, f"{prefix}{field.name}.")


def _with_nested(header: Header, wanted: Iterable[str], records: Sequence[Record], optional: Sequence[str]) -> Header:
    """Add the paths that lead to a value in the first rows, and those that are optional if the file has their type."""
    paths, near = dict(header.paths), dict[str, Near]()
    typed = any(type_ is not None for type_ in paths.values())
    for path in wanted:
        if "." not in path or path in paths:
            continue
        type_ = type_below(header.paths, path)
        if (_is_under(path, optional) or is_below(records, path)) and (type_ is not None or not typed):
            paths[path] = None if type_ is None else coarse_type(type_)
        else:
            near[path] = look_near(records, path)
    return msgspec.structs.replace(header, paths=paths, near=near)


def _read_first(files: Sequence[DataFile], columns: Sequence[str] | None = None) -> list[RawRow]:
    first = chunks(files, lambda ordinal: ordinal if ordinal < _FIRST_ROWS else NEVER, columns=columns)
    return list(chain.from_iterable(first))


def _records(rows: Sequence[RawRow]) -> tuple[list[Record], list[str]]:
    """Return the rows that can be used, and the problems of the others."""
    records: list[Record] = []
    problems = []
    for row in rows:
        try:
            records.append(record_of(row.payload))
        except BadRow as error:
            problems.append(f"{row.file}:{row.number}: {error}")
    return records, problems


def _first_rows(files: Sequence[DataFile], rows: Sequence[RawRow]) -> tuple[Header, list[Record]]:
    where = files[0].place if len(files) == 1 else f"{files[0].place} and {len(files) - 1} more files"
    if not rows:
        raise DatasetError(f"{where}: there are no rows")
    records, problems = _records(rows)
    if not records:
        hint = _lines_hint(rows[0].payload, problems[0]) if files[0].format == "jsonl" else ""
        raise DatasetError(f"{where}: none of the first {len(rows)} rows can be used; {problems[0]}{hint}")
    paths = dict.fromkeys(chain.from_iterable(_record_paths(record, "") for record in records))
    names = tuple(dict.fromkeys(chain.from_iterable(records)))
    return Header(f"{where} (first {len(rows)} rows)", names, paths), records


def _lines_hint(first: Any, problem: str) -> str:
    if "UTF-8" in problem:
        return ""
    if isinstance(first, bytes) and first.lstrip().startswith(b"["):
        return "; it begins like one JSON array: set dataset.format: json"
    return "; is it JSON lines, one object per line?"


def _record_paths(record: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in record.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _record_paths(value, f"{prefix}{name}.")
