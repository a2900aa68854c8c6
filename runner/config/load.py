"""Load a YAML file as a `RunConfig`: read, apply overrides, expand variables, validate, check across keys."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from runner.config.cross_checks import find_conflicts
from runner.config.exposed_secrets import find_exposed_secrets
from runner.config.messages import plain_problems
from runner.config.models import RunConfig
from runner.config.overrides import OverrideError, dump, merged
from runner.config.problems import KeyPath, Problem, as_written, config_error
from runner.config.unsupported import find_unsupported
from runner.config.yaml_document import ParsedDocument, UnreadableError, compose
from runner.core import nearest, read_small
from runner.errors import ConfigError


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    base: Path | None = None,
    name: str | None = None,
) -> RunConfig:
    """Read a run's configuration from a YAML file, or from a mapping with the same keys.

    Args:
        source: the YAML file, or the mapping. The run directory keeps a mapping as YAML.
        overrides: one `KEY=VALUE` each: a dotted key (`judges.0.model`) and a value that is parsed as YAML.
        environ: the environment variables for `${VAR}`; default: those of this process.
        base: the folder that relative paths start from; default: the folder of the file, or the working directory for a
            mapping. A copy in a run directory needs it.
        name: the name of the run if the YAML has none; default: the name of the file, or `run` for a mapping.

    Raises:
        ConfigError: the file cannot be read or used; the message has a line with its location for each problem.
    """
    if isinstance(source, Mapping):
        path, label, document = Path("run.yaml").absolute(), "the configuration", _as_yaml(source)
    else:
        path, label = Path(source).absolute(), str(source)
        document = _read_text(path, label)
    try:
        root = _root(document, label)
        if overrides:
            root = merged(root, tuple(overrides))
            document = dump(root)
        parsed = ParsedDocument(root, label, os.environ if environ is None else environ)
    except UnreadableError as error:
        where = f"{label}:{error.line}:{error.column}" if error.line else label
        raise ConfigError(f"{where}: not valid YAML: {error}") from None
    except OverrideError as error:
        raise config_error([error.problem], {}) from None
    except RecursionError:
        raise ConfigError(f"{label}: it is nested too deeply, or an alias contains itself") from None
    base = path.parent if base is None else base.absolute()
    config = _validated(parsed, base, name or path.stem)
    return config.with_origin(path, base, document, tuple(overrides), _variables(parsed))


def _variables(parsed: ParsedDocument) -> dict[KeyPath, str]:
    """Return what was written for each value from a variable, by its path in the configuration."""
    lists = {"judge": "judges", "service": "services"}
    return {
        (lists[path[0]], 0, *path[1:]) if path and path[0] in lists else path: location.raw
        for path, location in parsed.locations.items()
        if location.raw is not None
    }


def masked(config: RunConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain data, with `***` for every secret and `${VAR}` for every variable."""
    data: dict[str, Any] = config.model_dump(mode="json")
    for path, written in config.variables.items():
        _put(data, path, written)
    for service in data["services"]:
        if "token" in service["emulator"]:
            service["emulator"]["token"] = "***"
    return data


def shown_tags(config: RunConfig) -> dict[str, Any]:
    """Return the tags as they are shown: `${VAR}` for what came from a variable."""
    return {name: config.variables.get(("tags", name), value) for name, value in config.tags.items()}


def _put(data: Any, path: KeyPath, value: str) -> None:
    """Replace the value at a path, if there is one that is shown."""
    *parents, last = path
    at: Any = data
    for key in parents:
        at = _child(at, key)
    if _child(at, last) not in (None, "***"):
        at[last] = value


def _child(data: Any, key: Any) -> Any:
    """Return the value under a key or at a position; None if there is none."""
    if isinstance(data, dict):
        return data.get(key)
    return data[key] if isinstance(data, list) and isinstance(key, int) and key < len(data) else None


def _as_yaml(source: Mapping[str, Any]) -> str:
    """Return a mapping as a YAML document; raises ConfigError for a value that YAML has no form for."""
    try:
        return yaml.safe_dump(_plain(source), allow_unicode=True, sort_keys=False)
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration: expected text, numbers, lists and mappings: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read_text(source: Path, label: str) -> str:
    try:
        raw = read_small(source)
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file{_similar_file(source)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{label}: expected a YAML file, found a directory") from None
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {os.strerror(error.errno or 0)}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{label}:{line}: not UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8") from None


def _similar_file(source: Path) -> str:
    try:
        names = [entry.name for entry in source.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    guess = nearest(source.name, names)
    return f"; did you mean '{guess}'?" if guess else ""


def _root(document: str, label: str) -> yaml.MappingNode:
    node = compose(document)
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise ConfigError(f"{label}: the file is empty; it needs at least 'dataset' and 'judge'")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{label}:1: expected keys such as 'dataset:' and 'judge:' at the top, found something else")
    return node


def _validated(parsed: ParsedDocument, base: Path, name: str) -> RunConfig:
    data, locations = parsed.data, parsed.locations
    found = parsed.problems + list(find_exposed_secrets(data, locations))
    given = data.get("name")
    context = {"base": base, "name": str(getattr(given, "text", given)) if given is not None else name}
    try:
        config = RunConfig.model_validate({"name": name, **_without_empty_name(data)}, context=context)
    except ValidationError as error:
        broken = {problem.path for problem in found}
        found += [problem for problem in plain_problems(error, data, locations) if not _is_known(problem.path, broken)]
        raise config_error(found, locations) from None
    if not found:
        found = [
            Problem(as_written(problem.path, data), problem.message)
            for problem in (*find_conflicts(config), *find_unsupported(config))
        ]
    if found:
        raise config_error(found, locations)
    return config


def _without_empty_name(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "name" or value is not None}


def _is_known(path: KeyPath, broken: Iterable[KeyPath]) -> bool:
    """Returns True if a problem at this path, or above it, is known already: a second message would only confuse."""
    return any(path[: len(other)] == other for other in broken if other)
