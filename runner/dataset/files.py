"""Find the files of a dataset and open them."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from runner import core
from runner.config import DatasetConfig
from runner.dataset.hub import HUB, HubFile, HubFolder
from runner.errors import DatasetError

BUFFER_BYTES = 1 << 18
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


class Stamp(msgspec.Struct, frozen=True):
    """What shows that a file is unchanged without reading it: its size, modification time and version."""

    size: int
    mtime_ns: int = 0
    version: str | None = None


class DataFile(msgspec.Struct, frozen=True):
    """One file of the dataset.

    Attributes:
        path: where it is, on the disk or at the Hub.
        name: its path relative to the dataset's root, with `/`; messages and fingerprints use it.
        format: `jsonl`, `json`, `csv`, `tsv` or `parquet`.
        compression: `gzip`, `zstd` or None.
    """

    path: Path | HubFile
    name: str
    format: str
    compression: str | None = None

    def stamp(self) -> Stamp:
        """Return its stamp without reading it; only a file at the Hub has a version."""
        if isinstance(self.path, HubFile):
            return Stamp(self.path.size, version=self.path.version)
        stat = self.path.stat()
        return Stamp(stat.st_size, stat.st_mtime_ns)

    def raw(self) -> BinaryIO:
        """Open its own bytes, unbuffered."""
        if isinstance(self.path, HubFile):
            return self.path.open()
        return cast("BinaryIO", self.path.open("rb", buffering=0))

    @contextmanager
    def parquet(self, **options: Any) -> Iterator[Any]:
        """Open it as a `pq.ParquetFile` with these options."""
        if isinstance(self.path, HubFile):
            with self.path.open(anywhere=True) as stream, pq.ParquetFile(stream, **options) as table:
                yield table
        else:
            with pq.ParquetFile(self.path, **options) as table:
                yield table


def discover(config: DatasetConfig) -> tuple[DataFile, ...]:
    """List the files of the dataset in byte order of their path.

    The path is a file, a directory (all data files in it, at any depth, hidden ones skipped) or a glob; on the disk or
    at the Hugging Face Hub. The order of the files fixes the ordinals of the rows.

    Raises:
        DatasetError: nothing is there, an ending is unknown, or the files differ in format.
    """
    given = str(config.path)
    files = _at_the_hub(given, config.format) if given.startswith(HUB) else _on_the_disk(given, config.format)
    _require_one_format(given, files)
    return tuple(sorted(files, key=lambda file: os.fsencode(file.name)))


def open_bytes(file: DataFile, raw: BinaryIO | None = None) -> BinaryIO:
    """Open a file as a buffered stream of its uncompressed bytes.

    Args:
        file: which file.
        raw: a stream of the file's own bytes to read instead of opening it; it is closed with the result.
    """
    source = file.raw() if raw is None else raw
    if file.compression is not None:
        source = pa.input_stream(source, compression=file.compression, buffer_size=BUFFER_BYTES)
    return io.BufferedReader(cast("Any", source), BUFFER_BYTES)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the most similar name, or nothing."""
    close = core.nearest(name, names)
    return "" if close is None else f" (did you mean {close!r}?)"


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Return the names as one line, cut after `limit` of them."""
    everything = sorted(names)
    more = f", ... ({len(everything)} in all)" if len(everything) > limit else ""
    return ", ".join(everything[:limit]) + more


def _on_the_disk(given: str, wanted: str) -> list[DataFile]:
    path = Path(given)
    if "://" in given:
        raise DatasetError(f"dataset.path: {given} is not a local path; download it and name the folder")
    try:
        if path.is_dir():
            return _in_folder(given, _below(path), wanted)
        if path.exists():
            return [_data_file(path, path.name, wanted)]
        if glob.has_magic(given):
            return _matching(given, wanted)
        raise DatasetError(f"dataset.path: {given} does not exist; {_what_is_near(path)}")
    except OSError as error:
        raise DatasetError(f"dataset.path: {given} cannot be read: {error.strerror or error}") from error


def _at_the_hub(given: str, wanted: str) -> list[DataFile]:
    folder = HubFolder(given)
    match folder.kind(folder.path):
        case "file":
            return [_data_file(folder.file(folder.path), folder.path.rpartition("/")[2], wanted)]
        case "directory":
            return _in_folder(given, (entry for entry in folder.files(folder.path) if _in_sight(entry[0])), wanted)
    root = _plain_root(folder.path)
    has = _has(folder.address(root), folder.names(root), folder.path.rpartition("/")[2])
    if not glob.has_magic(folder.path):
        raise DatasetError(f"dataset.path: {given} does not exist; {has}")
    pattern = folder.path.removeprefix(root).strip("/").split("/")
    files = folder.files(root, depth=None if "**" in pattern else len(pattern))
    matching = [_data_file(file, name, wanted) for name, file in files if _matches(name.split("/"), pattern)]
    if not matching:
        raise DatasetError(f"dataset.path: no file matches {given}; {has}")
    return matching


def _plain_root(pattern: str) -> str:
    """The folder in which a glob begins, or that of a plain path."""
    root = pattern.rpartition("/")[0]
    while glob.has_magic(root):
        root = root.rpartition("/")[0]
    return root


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a glob, as `glob.glob` has it: hidden names only where the pattern says the dot."""
    if not parts or not pattern:
        return not parts and not pattern
    first, shown = pattern[0], not parts[0].startswith(".")
    if first == "**":
        return _matches(parts, pattern[1:]) or (shown and _matches(parts[1:], pattern))
    return (shown or first[0] == ".") and fnmatchcase(parts[0], first) and _matches(parts[1:], pattern[1:])


def _below(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if _in_sight(name)]
        for name in filter(_in_sight, names):
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path


def _in_sight(name: str) -> bool:
    return not any(part.startswith(".") for part in name.split("/"))


def _in_folder(root: str, entries: Iterable[tuple[str, Path | HubFile]], wanted: str) -> list[DataFile]:
    found: list[DataFile] = []
    others: list[str] = []
    for name, path in entries:
        format_, compression = _read_ending(name)
        if format_ is None or wanted not in ("auto", format_):
            others.append(name.rpartition("/")[2])
        else:
            found.append(DataFile(path, name, format_, compression))
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
    files = [_data_file(path, path.relative_to(root).as_posix(), wanted) for path in paths if not path.is_dir()]
    if not files:
        raise DatasetError(f"dataset.path: no file matches {pattern}; {_what_is_near(root / Path(pattern).name)}")
    return files


def _data_file(path: Path | HubFile, name: str, wanted: str) -> DataFile:
    if isinstance(path, Path) and not path.is_file():
        raise DatasetError(f"dataset.path: {path} is not a regular file")
    format_, compression = _read_ending(name)
    if wanted != "auto":
        format_ = wanted
    if format_ is None:
        raise DatasetError(
            f"dataset.format: the ending of {path} tells no format; {_KNOWN}; or set dataset.format"
            + nearest(Path(name).suffix, _FORMATS)
        )
    return DataFile(path, name, format_, compression)


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
    names = [entry.name for entry in missing.parent.iterdir() if _in_sight(entry.name)]
    return _has(str(missing.parent), names, missing.name)


def _has(folder: str, names: Sequence[str], missing: str) -> str:
    has = listed(names) if names else "nothing"
    return f"the folder {folder} has {has}{nearest(missing, names)}"
