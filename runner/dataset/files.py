"""Find the files of a dataset."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from runner import core
from runner.config import CsvConfig, DatasetConfig
from runner.dataset.data_file import DataFile
from runner.dataset.folders import files_below, in_sight, matches, matches_part, printable, split_pattern
from runner.dataset.hub import HUB, HubFile, HubFolder
from runner.errors import DatasetError

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
_TABLES = ("csv", "tsv")

RealPath = Callable[[Path], str]

# Files that Hugging Face `datasets` writes beside the .arrow files of `save_to_disk` and of its cache.
_SAVED_DATASET = {"dataset_info.json", "state.json", "dataset_dict.json"}


def discover(config: DatasetConfig, notes: list[str] | None = None) -> tuple[DataFile, ...]:
    """List the files of the dataset: those of each path in byte order of their name, the paths in the order given.

    A path is a file, a directory (all data files in it, at any depth, hidden ones skipped) or a glob; on the disk or at
    the Hugging Face Hub. The order of the files fixes the ordinals of the rows.

    Args:
        config: the dataset section.
        notes: gets a line for what was left out and may have been meant.

    Raises:
        DatasetError: nothing is there, an ending is unknown, the files differ in format, or a key does not fit them.
    """
    hidden: list[str] = []
    found: list[DataFile] = []
    count, real = 0, cache(os.path.realpath)
    for given in config.paths:
        files = _at_the_hub(given, config) if given.startswith(HUB) else _on_the_disk(given, config.format, hidden)
        count += len(files)
        files = _each_once(files, real, lambda file: _links_and_depth(file, real))
        found += sorted(files, key=lambda file: os.fsencode(file.name))
    several = len(config.paths) > 1
    unique = _each_once(found, real, lambda _: 0)
    if notes is not None:
        notes += _left_out(hidden, count - len(unique))
    _require_one_format(config, unique)
    _require_fitting_keys(config, unique[0])
    named = _named_from_common_folder(unique) if several else unique
    return tuple(
        msgspec.structs.replace(file, name=printable(file.name), records=config.records, csv=config.csv)
        for file in named
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the most similar name, or nothing."""
    close = core.nearest(name, names)
    return "" if close is None else f" (did you mean {close!r}?)"


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Return the names as one line, cut after `limit` of them."""
    everything = sorted(map(printable, names))
    more = f", ... ({len(everything)} in all)" if len(everything) > limit else ""
    return ", ".join(everything[:limit]) + more


def _each_once(files: Sequence[DataFile], real: RealPath, order: Callable[[DataFile], Any]) -> list[DataFile]:
    """Leave out a file that is found again through a link to its folder, or by another path of the list.

    Args:
        files: what was found.
        real: returns the path of a folder without links.
        order: which of the names of a file is kept: the one that comes first.
    """
    kept: dict[object, int] = {}
    for index, file in sorted(enumerate(files), key=lambda item: order(item[1])):
        identity: object = str(file.path)
        if isinstance(file.path, Path):
            identity = (real(file.path.parent), file.path.name)
        kept.setdefault(identity, index)
    return [files[index] for index in sorted(kept.values())]


def _links_and_depth(file: DataFile, real: RealPath) -> tuple[bool, int]:
    """Order the names of one file: those without a linked folder first, and the shorter ones."""
    folders = file.name.split("/")[:-1]
    if not folders or not isinstance(file.path, Path):
        return False, len(folders)
    root = real(file.path.parents[len(folders)]).rstrip("/")
    return real(file.path.parent) != "/".join([root, *folders]), len(folders)


def _left_out(hidden: Iterable[str], twice: int) -> list[str]:
    names = [name for name in dict.fromkeys(hidden) if name[0] == "_" or "/_" in name]
    data = [name for name in names if name.endswith("/") or _read_ending(name)[0] is not None]
    notes = []
    if any(name.endswith("_delta_log/") for name in names):
        notes.append("dataset.path: this is a Delta table; files that it no longer uses are read, too")
    if data:
        notes.append(f"dataset.path: left out, because the name begins with an underscore: {listed(data)}")
    if twice:
        files = "1 file was" if twice == 1 else f"{twice} files were"
        notes.append(f"dataset.path: {files} found again by another path or link, and read once")
    return notes


def _named_from_common_folder(files: Sequence[DataFile]) -> list[DataFile]:
    """Name the files relative to the folder that they have in common: those of several paths may be called alike."""
    parts = [str(file.path).split("/") for file in files]
    shortest = min(len(item) - 1 for item in parts)
    common = next((at for at in range(shortest) if len({item[at] for item in parts}) > 1), shortest)
    return [
        msgspec.structs.replace(file, name="/".join(item[common:])) for file, item in zip(files, parts, strict=True)
    ]


def _on_the_disk(given: str, wanted: str, hidden: list[str]) -> list[DataFile]:
    path = Path(given)
    if "://" in given:
        raise DatasetError(f"dataset.path: {given} is not a local path; download it and name the folder")
    try:
        if path.is_dir():
            return _in_folder(given, files_below(path, hidden), wanted, hidden)
        if path.exists():
            return [_data_file(path, path.name, wanted)]
        if glob.has_magic(given):
            return _matching(given, wanted, hidden)
        raise DatasetError(f"dataset.path: {given} does not exist; {_braces_hint(given)}{_what_is_near(path)}")
    except OSError as error:
        place = given if error.filename is None else printable(os.fsdecode(error.filename))
        raise DatasetError(f"dataset.path: {place} cannot be read: {error.strerror or error}") from error


def _at_the_hub(given: str, config: DatasetConfig) -> list[DataFile]:
    folder, wanted = HubFolder(given), config.format
    match folder.kind(folder.path):
        case "file":
            return [_data_file(folder.file(folder.path), folder.path.rpartition("/")[2], wanted)]
        case "directory":
            entries = [entry for entry in folder.files(folder.path) if in_sight(entry[0])]
            return _in_folder(given, entries, wanted, [])
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
    """Return the folder in which a glob begins, or the folder of a plain path."""
    root = pattern.rpartition("/")[0]
    while glob.has_magic(root):
        root = root.rpartition("/")[0]
    return root


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return True if a path matches a glob; a hidden name needs a part that begins with its dot or underscore."""
    if not parts or not pattern:
        return not parts and not pattern
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (in_sight(parts[0]) and _matches(parts[1:], pattern))
    return matches_part(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _in_folder(
    root: str, entries: Iterable[tuple[str, Path | HubFile]], wanted: str, hidden: Sequence[str]
) -> list[DataFile]:
    everything = list(entries)
    found = _data_files(root, everything, wanted)
    if not found:
        raise DatasetError(_nothing_in(root, [name for name, _ in everything], wanted, hidden))
    return found


def _data_files(root: str, entries: Iterable[tuple[str, Path | HubFile]], wanted: str) -> list[DataFile]:
    """Return the data files of a folder: those with a known ending, of the wanted format."""
    found: list[DataFile] = []
    others: list[tuple[str, Path | HubFile]] = []
    for name, path in entries:
        format_, compression = _read_ending(name)
        if format_ is None or wanted not in ("auto", format_):
            others.append((name, path))
        else:
            _require_regular(path)
            found.append(DataFile(path, name, format_, compression))
    if problem := _other_folder(root, [file.name for file in found], [name for name, _ in others]):
        raise DatasetError(problem)
    if not found and wanted == "jsonl":  # Spark's .json files hold one object per line
        return [DataFile(path, name, wanted, _read_ending(name)[1]) for name, path in others if _is_json(name)]
    return found


def _is_json(name: str) -> bool:
    return _read_ending(name)[0] == "json"


def _other_folder(root: str, found: Sequence[str], others: Sequence[str]) -> str | None:
    """Return what a folder is, if its files are not the rows that are meant."""
    names = {name.rpartition("/")[2] for name in found}
    arrow = [name for name in others if name.endswith(".arrow")]
    if names <= _SAVED_DATASET and arrow:
        return (
            f"dataset.path: {root} holds .arrow files, as Hugging Face `save_to_disk` writes them, which are not read; "
            f"write the dataset as Parquet: datasets.{_loaded(root, found, arrow[0])}.to_parquet('data.parquet')"
        )
    if "run.json" in found and "lock" in others:
        return f"dataset.path: {root} is a run directory; for its samples name {root.rstrip('/')}/samples.parquet"
    return None


def _loaded(root: str, found: Sequence[str], arrow: str) -> str:
    """Return the call that loads a saved dataset: a whole one, a split of several, or a file of the cache."""
    if "dataset_dict.json" in found:
        return f"load_from_disk({root!r})[{arrow.split('/')[0]!r}]"
    folder, _, _ = arrow.rpartition("/")
    state = f"{folder}/state.json".lstrip("/")
    return (
        f"load_from_disk({f'{root}/{folder}'.rstrip('/')!r})"
        if state in found
        else f"Dataset.from_file({f'{root}/{arrow}'!r})"
    )


def _nothing_in(root: str, names: Sequence[str], wanted: str, hidden: Sequence[str]) -> str:
    what = "data file" if wanted == "auto" else f"{wanted} file"
    has = f"it has {listed(name.rpartition('/')[2] for name in names)}" if names else "it is empty"
    if hidden and not names:
        has = f"it has only names that begin with a dot or an underscore: {listed(hidden)}"
    endings = dict.fromkeys(Path(name).suffix for name in names if Path(name).suffix)
    if wanted == "auto" or not endings:
        return f"dataset.path: no {what} in {root}; {has}; {_KNOWN}"
    example = f"{root.rstrip('/')}/*{next(iter(endings))}"
    return f"dataset.path: no {what} in {root}; {has}; to read others as {wanted}, name them: {example}"


def _matching(pattern: str, wanted: str, hidden: list[str]) -> list[DataFile]:
    found: list[DataFile] = []
    for name, path in matches(pattern, hidden):
        if path.is_dir():
            below = [(f"{name}/{item}" if name else item, file) for item, file in files_below(path, hidden)]
            found += _data_files(str(path), below, wanted)
        else:
            found.append(_data_file(path, name, wanted))
    if not found:
        root = Path(split_pattern(pattern)[0])
        near = f"{_braces_hint(pattern)}{_what_is_near(root / Path(pattern).name)}"
        raise DatasetError(f"dataset.path: no file matches {pattern}; {near}")
    return found


def _braces_hint(given: str) -> str:
    """Return what to write in place of the `{a,b}` of a shell, which is no glob."""
    has_braces = re.search(r"\{[^{}]*,[^{}]*\}", given) is not None
    return "{a,b} stands for itself, so give a list of paths; " if has_braces else ""


def _require_regular(path: Path | HubFile) -> None:
    if isinstance(path, Path) and not path.is_file():
        what = "is not a regular file" if path.exists() else "is a link to a file that does not exist"
        raise DatasetError(f"dataset.path: {printable(str(path))} {what}")


def _data_file(path: Path | HubFile, name: str, wanted: str) -> DataFile:
    _require_regular(path)
    format_, compression = _read_ending(name)
    if wanted != "auto":
        format_ = wanted
    if format_ is None:
        raise DatasetError(
            f"dataset.format: the ending of {printable(str(path))} tells no format; {_KNOWN}; or set dataset.format"
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


def _require_one_format(config: DatasetConfig, files: Sequence[DataFile]) -> None:
    examples = {file.format: printable(file.name) for file in files}
    if len(examples) > 1:
        seen = ", ".join(f"{format_} ({name})" for format_, name in sorted(examples.items()))
        given = ", ".join(config.paths)
        raise DatasetError(
            f"dataset.path: {given} holds files of several formats: {seen}; name one with dataset.format or a glob"
        )


def _require_fitting_keys(config: DatasetConfig, file: DataFile) -> None:
    """Require that keys for one format are not set for another, where they would do nothing."""
    if config.records is not None and file.format != "json":
        raise DatasetError(f"dataset.records: only a json file has rows under a key; {file.place} is {file.format}")
    if config.csv.model_dump() != CsvConfig().model_dump() and file.format not in _TABLES:
        raise DatasetError(f"dataset.csv: only csv and tsv files have these keys; {file.place} is {file.format}")


def _what_is_near(path: Path) -> str:
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    names = [entry.name for entry in missing.parent.iterdir() if in_sight(entry.name)]
    return _has(str(missing.parent), names, missing.name)


def _has(folder: str, names: Sequence[str], missing: str) -> str:
    has = listed(names) if names else "nothing"
    return f"the folder {folder} has {has}{nearest(missing, names)}"
