"""The files below a folder, or that a glob matches, on the disk; and the columns that the names of folders give."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

_HIDDEN = (".", "_")  # as Spark, Hive and pyarrow have it: metadata, and the work of jobs that have not finished
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class _Folder(NamedTuple):
    """One folder: its name relative to where the walk began (empty there), its path, and the names of its files."""

    name: str
    path: Path
    files: list[str]


def files_below(root: Path, hidden: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield all files below a folder, each with its name relative to it.

    Args:
        root: the folder.
        hidden: gets the names that are left out because they begin with a dot or an underscore; folders end in `/`.
    """
    for folder in _folders(root, hidden):
        for name in folder.files:
            yield f"{folder.name}{name}", folder.path / name


def matches(pattern: str, hidden: list[str]) -> list[tuple[str, Path]]:
    """Return the files and folders that a glob matches, each with its name relative to the glob's folder.

    Args:
        pattern: the glob; `**` stands for folders at any depth, and for the files in them if it comes last.
        hidden: gets the names that only match without the dot or underscore before them.
    """
    root, parts = split_pattern(pattern)
    return list(dict(_matches(Path(root), "", parts, hidden)).items())


def _folders(root: Path, hidden: list[str]) -> Iterator[_Folder]:
    """Yield a folder and those below it, each once; links come last, so that they do not rename what is there."""
    visited = set[tuple[int, int]]()
    pending, links = [("", root)], list[tuple[str, Path]]()
    while pending or links:
        name, path = pending.pop() if pending else links.pop(0)
        stat = path.stat()
        if (stat.st_dev, stat.st_ino) in visited:
            continue
        visited.add((stat.st_dev, stat.st_ino))
        folder = _Folder(name, path, [])
        for entry in sorted(os.scandir(path), key=lambda entry: os.fsencode(entry.name)):
            if not in_sight(entry.name):
                hidden.append(f"{name}{entry.name}{'/' if entry.is_dir() else ''}")
            elif entry.is_dir():
                where = links if entry.is_symlink() else pending
                where.append((f"{name}{entry.name}/", path / entry.name))
            else:
                folder.files.append(entry.name)
        yield folder


def in_sight(name: str) -> bool:
    """Return True if no part of a relative path begins with a dot or an underscore."""
    return not any(part.startswith(_HIDDEN) for part in name.split("/"))


def split_pattern(pattern: str) -> tuple[str, list[str]]:
    """Split a glob into the folder in which it begins and its other parts."""
    parts = pattern.split("/")
    names: list[str] = []
    while len(names) < len(parts) - 1 and (name := _plain(parts[len(names)])) is not None:
        names.append(name)
    return "/".join(names) or ("/" if pattern.startswith("/") else "."), parts[len(names) :]


def matches_part(name: str, pattern: str) -> bool:
    """Return True if one name of a path matches one part of a glob, which must itself begin with a leading dot or _."""
    return fnmatchcase(name, pattern) and (in_sight(name) or pattern[0] == name[0])


def folder_columns(name: str) -> dict[str, str | None]:
    """Return the columns that folders called `key=value` give the rows of a file.

    The values are texts; `%3D` in them means `=`, as Spark writes it.

    Args:
        name: the file's path relative to the dataset's root.
    """
    pairs = (part.partition("=") for part in name.split("/")[:-1])
    return {
        unquote(key): None if value == _HIVE_NULL else unquote(value) for key, equals, value in pairs if equals and key
    }


def printable(path: str) -> str:
    r"""Return a path with `\xff` in place of each byte that is not UTF-8."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # not a path of this machine
        return path.encode("utf-8", "backslashreplace").decode()


def _matches(folder: Path, name: str, parts: Sequence[str], hidden: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield what the parts of a glob match below a folder, folders too, with names that begin with `name`."""
    first, rest = parts[0], parts[1:]
    if first == "**" and not rest:
        yield name.rstrip("/"), folder
        return
    if first == "**":
        for found in _folders(folder, hidden):
            yield from _matches(found.path, f"{name}{found.name}", rest, hidden)
        return
    for entry in _entries(folder, first, hidden):
        path = folder / entry
        if not rest:
            yield f"{name}{entry}", path
        elif path.is_dir():
            yield from _matches(path, f"{name}{entry}/", rest, hidden)


def _entries(folder: Path, part: str, hidden: list[str]) -> list[str]:
    """Return the names in a folder that match one part of a glob."""
    plain = _plain(part)
    if plain is not None:
        return [plain] if os.path.lexists(folder / plain) else []
    names = [path.name for path in folder.iterdir() if fnmatchcase(path.name, part)] if folder.is_dir() else []
    matching = [name for name in names if matches_part(name, part)]
    hidden += set(names).difference(matching)
    return matching


def _plain(part: str) -> str | None:
    """Return the name that a part of a glob stands for, without the brackets of `glob.escape`; None for a pattern."""
    if glob.has_magic(re.sub(r"\[[*?[]\]", "", part)):
        return None
    return re.sub(r"\[([*?[])\]", r"\1", part)
