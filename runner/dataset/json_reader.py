"""Reads JSON files: a list of rows, or an object that has the rows under a key."""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec

from runner.core import MISSING, value_at
from runner.dataset.content import describe_undecodable
from runner.dataset.data_file import DataFile, open_bytes
from runner.dataset.decode import BOM, decode_json, kind_of
from runner.dataset.files import listed, nearest
from runner.dataset.readers import NextWanted, RawRow, Reader
from runner.errors import BadRow, DatasetError

_EXPECTED = "expected one JSON array of objects"


def load_array(file: DataFile, raw: BinaryIO | None = None) -> list[Any]:
    """Read the rows of a JSON file; each is still JSON text where that is possible.

    Raises:
        DatasetError: the file is not JSON, or has no list of rows.
    """
    with open_bytes(file, raw) as stream:
        data = stream.read().removeprefix(BOM)
    try:
        rows = _raw_rows(data, file.records)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        rows = None
    if rows is None:
        rows = _decoded_rows(file, data)
    return rows


def read_json(file: DataFile, start: int, end: int, next_wanted: NextWanted) -> Reader:
    """Read a JSON file; it is held in memory as a whole."""
    rows = load_array(file)
    size = file.stamp().size // max(len(rows), 1)
    wanted = next_wanted(start)
    while wanted < min(start + len(rows), end):
        row = rows[wanted - start]
        payload = bytes(row) if isinstance(row, msgspec.Raw) else row
        yield RawRow(wanted, file.name, wanted - start + 1, payload, size)
        wanted = next_wanted(wanted + 1)
    return start + len(rows)


def _raw_rows(data: bytes, key: str | None) -> list[Any] | None:
    """Take the rows apart without decoding them; None if the key is not found."""
    value: Any = data
    path = key
    while path is not None:
        members = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        if path in members:
            value, path = members[path], None
        else:
            head, _, path = path.partition(".")
            if head not in members or not path:
                return None
            value = members[head]
    return list(msgspec.json.decode(value, type=list[msgspec.Raw]))


def _decoded_rows(file: DataFile, data: bytes) -> list[Any]:
    try:
        value = decode_json(data)
    except BadRow as error:
        raise DatasetError(f"{file.place}: {_broken(file, data, error)}; {_EXPECTED}") from None
    if file.records is not None:
        found = value_at(value, file.records)
        value = _under(file, value, file.records) if found is MISSING else found
    if not isinstance(value, list):
        where = "" if file.records is None else f" under {file.records!r}"
        raise DatasetError(f"{file.place}: {_EXPECTED}, found {kind_of(value)}{where}{_key_hint(file, value)}")
    return value


def _under(file: DataFile, value: Any, path: str) -> Any:
    """Follow `a.b` into nested objects; at each level a key of the whole name wins."""
    if not isinstance(value, dict):
        hint = "; remove dataset.records" if isinstance(value, list) and path == file.records else ""
        raise DatasetError(f"{file.place}: dataset.records: no key {path!r} in {kind_of(value)}{hint}")
    head, _, rest = path.partition(".")
    if path in value:
        return value[path]
    if head in value and rest:
        return _under(file, value[head], rest)
    raise DatasetError(
        f"{file.place}: dataset.records: no key {path!r}{nearest(path, value)}; the keys are {listed(value)}"
    )


def _broken(file: DataFile, data: bytes, error: BadRow) -> str:
    """Return why a text is not JSON, with what to do if the reason is known."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return describe_undecodable(data, file.format)
    if data.lstrip()[:1] == b"{" and _is_object(data.split(b"\n", 1)[0]):
        return "it holds one object per line; set dataset.format: jsonl"
    return str(error)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(decode_json(line), dict)
    except BadRow:
        return False


def _key_hint(file: DataFile, value: Any) -> str:
    """Name the keys under which the rows may be."""
    if not isinstance(value, dict):
        return ""
    paths = _lists_of_objects(value)
    for key, inner in value.items():
        if isinstance(inner, dict):
            paths += [f"{key}.{name}" for name in _lists_of_objects(inner)]
    if not paths:
        return "; for one object per line set dataset.format: jsonl"
    before = "" if file.records is None else f"{file.records}."
    return "; if the rows are under a key, set " + " or ".join(f"dataset.records: {before}{path}" for path in paths[:3])


def _lists_of_objects(value: dict[str, Any]) -> list[str]:
    return [key for key, rows in value.items() if isinstance(rows, list) and rows and isinstance(rows[0], dict)]
