"""The YAML as plain data: variables expanded, with the location of every value."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from runner.config.fields import WrittenFloat, WrittenInt
from runner.config.problems import KeyPath, Problem, SourceLocation, dotted
from runner.config.yaml_hints import hint

_TAG = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_VERBATIM_KEYS = ("system", "user", "verdict")
_MAX_DEPTH = 100
_MAX_VALUES = 100_000  # with aliases expanded; a few aliases of aliases can expand to billions of values


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loads YAML with the scalars of version 1.2: `no` is a text, `1e-3` is a number; dates are texts."""


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes YAML with the same scalars."""


_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)
for _class in (Loader, Dumper):
    _class.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class UnreadableError(Exception):
    """The text is not valid YAML; `line` counts from 1 and is 0 if unknown."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line, self.column = line, column


def compose(text: str) -> yaml.Node | None:
    """Parse a text into nodes that know their lines; None if the text is empty.

    Raises:
        UnreadableError: the text is not YAML. The message quotes nothing of the text.
    """
    try:
        check_depth(text)
        return yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = re.sub(r"\s*'[^'<]{2,}'", "", error.problem or error.context or "")
        if mark is None:
            raise UnreadableError(why) from None
        line = next(iter(text.splitlines()[mark.line : mark.line + 1]), "")
        if "${" in line:
            why += '; inside { } or [ ] put a variable in quotes: "${NAME}"'
        elif (advice := hint(line, mark.column, why)) is not None:
            why += f"; {advice}"
        raise UnreadableError(why, mark.line + 1, mark.column + 1) from None
    except yaml.YAMLError:
        raise UnreadableError("it contains a control character") from None


def check_depth(text: str) -> None:
    """Raise UnreadableError if values are nested so deep that the parser of PyYAML would crash the process."""
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                mark = event.start_mark
                line, column = (0, 0) if mark is None else (mark.line + 1, mark.column + 1)
                raise UnreadableError(f"it is nested deeper than {_MAX_DEPTH} lists and mappings", line, column)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


Entries = list[tuple[yaml.Node, yaml.Node]]


def entries(node: yaml.MappingNode, known: dict[int, Entries] | None = None) -> Entries:
    """Return the entries of a mapping with merge keys (`<<`) resolved: its own entries first, then the merged ones.

    `known` has the entries of mappings that were resolved before: aliases of aliases would be resolved for ever.
    """
    known = {} if known is None else known
    if id(node) in known:
        return known[id(node)]
    own = [(key, value) for key, value in node.value if key.tag != _TAG + "merge"]
    names = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
    for key, value in node.value:
        if key.tag != _TAG + "merge":
            continue
        for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(merged, yaml.MappingNode):
                raise UnreadableError("'<<' needs a mapping or a list of mappings", key.start_mark.line + 1, 1)
            added = [entry for entry in entries(merged, known) if entry[0].value not in names]
            names.update(entry[0].value for entry in added)
            own += added
    known[id(node)] = own
    return own


class ParsedDocument:
    """The plain data of the YAML and the location of each part, from one pass over the nodes.

    Attributes:
        data: the top-level mapping, without keys that begin with `x-`.
        locations: the location of every value by its path; the path of the root is `()`.
        problems: duplicate keys, missing variables and the like; the value at their path is None in `data`.
    """

    def __init__(self, root: yaml.MappingNode, file: str, environ: Mapping[str, str]) -> None:
        self._file = file
        self._environ = environ
        self._count = 0
        self.locations: dict[KeyPath, SourceLocation] = {(): SourceLocation(f"{file}:1", 1)}
        self.problems: list[Problem] = []
        self.data: dict[str, Any] = self._mapping(root, ())

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES:
            raise UnreadableError("it contains more than 100,000 values once its aliases are expanded")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):
            return self._wrong(path, "YAML values with a '!' tag are not supported")
        if "${" in node.value and not _is_verbatim(path):
            return self._from_environment(node, path)
        try:
            return scalar(node)
        except ValueError:
            if node.tag == _TAG + "int" and len(node.value) > sys.get_int_max_str_digits():
                return self._wrong(path, f"a number of {len(node.value):,} digits is too long")
            return self._wrong(path, "YAML values with a '!' tag are not supported")

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.locations[path] = self._location(node)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        written: dict[str, SourceLocation] = {}
        for key, value in entries(node):
            location = self._location(key)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(path, "a key must be a text, not a list or a mapping", location))
                continue
            name = _key(key, path)
            if name in written:
                here = dotted((*path, name))
                self.problems.append(Problem((), f"{here}: the same key is already at {written[name].label}", location))
                continue
            written[name] = location
            if not path and name.startswith("x-"):
                continue
            self.locations[(*path, name)] = location
            found[name] = self._value(value, (*path, name))
        return found

    def _from_environment(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        self.locations[path] = msgspec.structs.replace(self.locations[path], raw=node.value)
        missing: list[str] = []

        def fill(match: re.Match[str]) -> str:
            inside = _INSIDE.fullmatch(match[1])
            if inside is None:
                missing.append("expected ${NAME} or ${NAME:-default}, found another text between ${ and }")
                return ""
            name, default = inside[1], inside[2]
            given = self._environ.get(name)
            if given or (given is not None and default is None):
                return given
            if default is None:
                missing.append(f"the environment variable {name} is not set; set it or write ${{{name}:-default}}")
            return default or ""

        filled = _VARIABLE.sub(fill, node.value)
        if missing:
            return self._wrong(path, "; ".join(dict.fromkeys(missing)))
        return _as_yaml(filled) if _VARIABLE.fullmatch(node.value) else filled

    def _wrong(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(path, message))

    def _location(self, node: yaml.Node) -> SourceLocation:
        mark = node.start_mark
        return (
            mark if isinstance(mark, SourceLocation) else SourceLocation(f"{self._file}:{mark.line + 1}", mark.line + 1)
        )


def scalar(node: yaml.ScalarNode) -> Any:
    """Return the value of a scalar.

    Raises:
        ValueError: its tag is not one of YAML's plain tags, or the text is not valid for its tag.
    """
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    number: WrittenInt | WrittenFloat
    if kind == "int":
        number = WrittenInt(text, 10 if text.lstrip("+-").isdecimal() or "_" in text else 0)
    elif kind == "float":
        number = WrittenFloat(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    else:
        raise ValueError(kind)
    number.text = text
    return number


def _key(node: yaml.ScalarNode, path: KeyPath) -> str:
    """Returns the text of a key; in a map of labels, the key null is the empty text: a row without a label."""
    is_label = path[-2:] == ("human_label", "map")
    return "" if is_label and node.tag == _TAG + "null" else str(node.value)


def _is_verbatim(path: KeyPath) -> bool:
    """Returns True for a value inside a judge's prompts and verdict, where `${...}` is not expanded."""
    inside = path[1:] if path[0] == "judge" else path[2:] if path[0] == "judges" else ()
    return inside[:1] != () and inside[0] in _VERBATIM_KEYS


def _as_yaml(text: str) -> Any:
    """Parse the value of a variable as YAML if it is a scalar or a flow collection; else return the text."""
    try:
        node = compose(text)
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            # A plain text is not parsed: YAML would cut a password at " #".
            return scalar(node) if node.style or node.tag != _TAG + "str" else text
        key = yaml.ScalarNode(_TAG + "str", "value", node.start_mark)
        parsed = ParsedDocument(yaml.MappingNode(_TAG + "map", [(key, node)]), "", {})
        return parsed.data["value"] if text.lstrip()[:1] in ("{", "[") and not parsed.problems else text
    except (UnreadableError, ValueError):
        return text
