"""Find the files of a dataset and open them."""

from __future__ import annotations

import difflib
import glob
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa

from runner.config import DatasetConfig
from runner.errors import DatasetError

BUFFER = 1 << 18
_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_KNOWN = "known endings: " + ", ".join(_FORMATS) + ", each text format also with .gz or .zst"


class DataFile(msgspec.Struct, frozen=True):
    """One file of the dataset.

    Attributes:
        path: where it is.
        name: its path relative to the dataset's root, with `/`; messages and surveys use it.
        format: `jsonl`, `json`, `csv`, `tsv` or `parquet`.
        compression: `gzip`, `zstd` or None.
    """

    path: Path
    name: str
    format: str
    compression: str | None = None


def discover(config: DatasetConfig) -> tuple[DataFile, ...]:
    """List the files of the dataset in byte order of their path.

    The path is a file, a directory (all data files in it, at any depth, hidden ones skipped) or a glob.
    The order of the files fixes the ordinals of the rows.

    Raises:
        DatasetError: nothing is there, an ending is unknown, or the files differ in format.
    """
    given = str(config.path)
    path = Path(given)
    if "://" in given:
        raise DatasetError(f"dataset.path: {given} is not a local path; download it and name the folder")
    try:
        if path.is_dir():
            files = _in_directory(path, config.format)
        elif path.exists():
            files = [_data_file(path, path.parent, config.format)]
        elif glob.has_magic(given):
            files = _matching(given, config.format)
        else:
            raise DatasetError(f"dataset.path: {given} does not exist; {_what_is_near(path)}")
    except OSError as error:
        raise DatasetError(f"dataset.path: {given} cannot be read: {error.strerror or error}") from error
    _require_one_format(given, files)
    return tuple(sorted(files, key=lambda file: os.fsencode(file.name)))


def open_bytes(file: DataFile, raw: BinaryIO | None = None) -> BinaryIO:
    """Open a file as a buffered stream of its uncompressed bytes.

    Args:
        file: which file.
        raw: a stream of the file's own bytes to read instead of opening it; it is closed with the result.
    """
    source = file.path.open("rb", buffering=0) if raw is None else raw
    if file.compression is not None:
        source = pa.input_stream(source, compression=file.compression, buffer_size=BUFFER)
    return io.BufferedReader(cast("Any", source), BUFFER)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the most similar name, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Return the names as one line, cut after `limit` of them."""
    everything = sorted(names)
    more = f", ... ({len(everything)} in all)" if len(everything) > limit else ""
    return ", ".join(everything[:limit]) + more


def _in_directory(root: Path, wanted: str) -> list[DataFile]:
    found: list[DataFile] = []
    others: list[str] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            format_, compression = _read_ending(name)
            if name.startswith("."):
                continue
            if format_ is None or wanted not in ("auto", format_):
                others.append(name)
                continue
            path = Path(folder, name)
            found.append(DataFile(path, path.relative_to(root).as_posix(), format_, compression))
    if not found:
        what = "data file" if wanted == "auto" else f"{wanted} file"
        has = f"it has {listed(others)}" if others else "it is empty"
        raise DatasetError(f"dataset.path: no {what} in {root}; {has}; {_KNOWN}")
    return found


def _matching(pattern: str, wanted: str) -> list[DataFile]:
    root = Path(pattern)
    while glob.has_magic(str(root)):
        root = root.parent
    paths = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207 (Path.glob finds hidden files)
    files = [_data_file(path, root, wanted) for path in paths if not path.is_dir()]
    if not files:
        raise DatasetError(f"dataset.path: no file matches {pattern}; {_what_is_near(root / Path(pattern).name)}")
    return files


def _data_file(path: Path, root: Path, wanted: str) -> DataFile:
    if not path.is_file():
        raise DatasetError(f"dataset.path: {path} is not a regular file")
    format_, compression = _read_ending(path.name)
    if wanted != "auto":
        format_ = wanted
    if format_ is None:
        raise DatasetError(
            f"dataset.format: the ending of {path} tells no format; {_KNOWN}; or set dataset.format"
            + nearest(path.suffix, _FORMATS)
        )
    return DataFile(path, path.relative_to(root).as_posix(), format_, compression)


def _read_ending(name: str) -> tuple[str | None, str | None]:
    path = Path(name.lower())
    compression = _COMPRESSION.get(path.suffix)
    if compression is None:
        return _FORMATS.get(path.suffix), None
    format_ = _FORMATS.get(Path(path.stem).suffix)
    return (None if format_ == "parquet" else format_), compression


def _require_one_format(given: str, files: list[DataFile]) -> None:
    examples = {file.format: file.name for file in files}
    if len(examples) > 1:
        seen = ", ".join(f"{format_} ({name})" for format_, name in sorted(examples.items()))
        raise DatasetError(
            f"dataset.path: {given} holds files of several formats: {seen}; name one with dataset.format or a glob"
        )


def _what_is_near(path: Path) -> str:
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    names = [entry.name for entry in missing.parent.iterdir() if not entry.name.startswith(".")]
    has = listed(names) if names else "nothing"
    return f"the folder {missing.parent} has {has}{nearest(missing.name, names)}"
