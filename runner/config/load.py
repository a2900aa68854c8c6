"""From a file to a `RunConfig`: read, override, put the environment in, validate, check, or say what is wrong."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from runner.config.cross_checks import misfits
from runner.config.exposed_secrets import exposed
from runner.config.messages import translated
from runner.config.models import RunConfig
from runner.config.overrides import MisfitError, dump, merged
from runner.config.problems import KeyPath as Keys
from runner.config.problems import Problem, as_written, config_error
from runner.config.unsupported import unavailable
from runner.config.yaml_document import ParsedDocument, UnreadableError, compose
from runner.errors import ConfigError


def load_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    base: Path | None = None,
    name: str | None = None,
) -> RunConfig:
    """Read a run's YAML.

    Args:
        path: the YAML file.
        overrides: `KEY=VALUE` each, a dotted key (`judges.0.model`) and a value read as YAML.
        environ: where `${VAR}` comes from.
        base: the folder relative paths start from, where it is not the file's own (a copy in a run directory).
        name: the run's name where the YAML gives none and the file's name is not it.

    Raises:
        ConfigError: anything about it does not fit; a line for each problem, with its place.
    """
    source = Path(path).absolute()
    document = _text(source, str(path))
    label = str(path)
    try:
        root = _root(document, label)
        if overrides:
            root = merged(root, tuple(overrides))
            document = dump(root)
        reading = ParsedDocument(root, label, environ)
    except UnreadableError as error:
        where = f"{label}:{error.line}:{error.column}" if error.line else label
        raise ConfigError(f"{where}: not valid YAML: {error}") from None
    except MisfitError as error:
        raise config_error([error.problem], {}) from None
    except RecursionError:
        raise ConfigError(f"{label}: it is nested too deeply, or an alias holds itself") from None
    base = source.parent if base is None else base.absolute()
    return _validated(reading, base, name or source.stem).came_from(source, base, document)


def masked(config: RunConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain data, with `***` for every secret."""
    data: dict[str, Any] = config.model_dump(mode="json")
    for service in data["services"]:
        if "token" in service["emulator"]:
            service["emulator"]["token"] = "***"
    return data


def _text(source: Path, label: str) -> str:
    try:
        raw = source.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file{_neighbour(source)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{label}: expected a YAML file, found a directory") from None
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {os.strerror(error.errno or 0)}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{label}:{line}: not UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8") from None


def _neighbour(source: Path) -> str:
    try:
        names = [entry.name for entry in source.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    found = difflib.get_close_matches(source.name, names, n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


def _root(document: str, label: str) -> yaml.MappingNode:
    node = compose(document)
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise ConfigError(f"{label}: the file is empty; it needs at least 'dataset' and 'judge'")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{label}:1: expected keys such as 'dataset:' and 'judge:' at the top, found something else")
    return node


def _validated(reading: ParsedDocument, base: Path, name: str) -> RunConfig:
    data, places = reading.data, reading.places
    found = reading.problems + list(exposed(data, places))
    given = data.get("name")
    context = {"base": base, "name": str(getattr(given, "text", given)) if given is not None else name}
    try:
        config = RunConfig.model_validate({"name": name, **_without_empty_name(data)}, context=context)
    except ValidationError as error:
        broken = {problem.path for problem in found}
        found += [problem for problem in translated(error, data, places) if not _covered(problem.path, broken)]
        raise config_error(found, places) from None
    if not found:
        found = [
            Problem(as_written(problem.path, data), problem.message)
            for problem in (*misfits(config), *unavailable(config))
        ]
    if found:
        raise config_error(found, places)
    return config


def _without_empty_name(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "name" or value is not None}


def _covered(path: Keys, broken: Iterable[Keys]) -> bool:
    """Whether something is known to be wrong at this very place, so that a second message would only confuse."""
    return any(path[: len(other)] == other for other in broken if other)
