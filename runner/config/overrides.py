"""`--set KEY=VALUE`: replace values of the YAML before variables are expanded."""

from __future__ import annotations

from typing import cast

import yaml

from runner.config.problems import Problem, SourceLocation, looks_like_token, looks_private, shown
from runner.config.yaml_document import Dumper, UnreadableError, compose, entries

_MAP = "tag:yaml.org,2002:map"
_STR = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_AFTER_ALL_LINES = 1_000_000_000  # sorts the problems of overrides after those of the file's lines


class OverrideError(Exception):
    """An override that cannot be applied to the document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def merged(root: yaml.MappingNode, overrides: tuple[str, ...]) -> yaml.MappingNode:
    """Return the document with all overrides applied; the given nodes are not changed.

    Raises:
        OverrideError: an override is not `KEY=VALUE`, its value is not YAML, or its key leads through a single value.
    """
    for index, override in enumerate(overrides):
        key, equals, text = override.partition("=")
        key = key.strip()
        is_secret = looks_private(key) or looks_like_token(text)
        location = SourceLocation(
            f"--set {key}=***" if is_secret else f"--set {override}", _AFTER_ALL_LINES + index, key=key
        )
        if not equals or not all(key.split(".")):
            usage = "expected KEY=VALUE with a dotted key, such as judge.model=pai-judge-plus"
            raise OverrideError(
                Problem((), f"{usage}, found {shown(override)}", SourceLocation("--set", location.order))
            )
        changed = _with(root, key.split("."), _value(text, location), location)
        root = cast("yaml.MappingNode", changed)
    return root


def dump(root: yaml.MappingNode) -> str:
    """Serialize the nodes as YAML in the same order, with variables not expanded; comments are lost."""
    text: str = yaml.serialize(root, Dumper=Dumper, allow_unicode=True, width=1_000_000)
    return text


def _value(text: str, location: SourceLocation) -> yaml.Node:
    try:
        node = compose(text)
    except UnreadableError as error:
        raise OverrideError(Problem((), f"the value is not valid YAML: {error}", location)) from None
    if node is None or node.tag == _NULL:
        node = yaml.ScalarNode(_NULL, "null")
    _mark_origin(node, location)
    return node


def _mark_origin(node: yaml.Node, location: SourceLocation) -> None:
    node.start_mark = location
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _mark_origin(key, location)
            _mark_origin(value, location)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _mark_origin(item, location)


def _with(node: yaml.Node, keys: list[str], value: yaml.Node, location: SourceLocation) -> yaml.Node:
    """Return a copy of the node with another value at `keys`. The node itself may be shared by aliases."""
    if not keys:
        return value
    if isinstance(node, yaml.SequenceNode):
        return _with_item(node, keys, value, location)
    if isinstance(node, yaml.ScalarNode) and node.tag == _NULL:
        node = yaml.MappingNode(_MAP, [])
    if not isinstance(node, yaml.MappingNode):
        raise OverrideError(Problem((), f"cannot set '{keys[0]}' inside a single value", location))
    pairs = entries(node)
    index = next((index for index, (key, _) in enumerate(pairs) if key.value == keys[0]), len(pairs))
    key, old = pairs[index] if index < len(pairs) else (None, yaml.MappingNode(_MAP, []))
    if key is None or len(keys) == 1:
        # Only a key whose whole value is replaced counts as written by the override.
        key = yaml.ScalarNode(_STR, keys[0])
        key.start_mark = location
    pairs[index : index + 1] = [(key, _with(old, keys[1:], value, location))]
    return yaml.MappingNode(_MAP, pairs, node.start_mark, node.end_mark, flow_style=node.flow_style)


def _with_item(node: yaml.SequenceNode, keys: list[str], value: yaml.Node, location: SourceLocation) -> yaml.Node:
    items = list(node.value)
    if not keys[0].isdecimal() or int(keys[0]) >= len(items):
        raise OverrideError(
            Problem((), f"expected a position from 0 to {len(items) - 1} in the list, found '{keys[0]}'", location)
        )
    items[int(keys[0])] = _with(items[int(keys[0])], keys[1:], value, location)
    return yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark, flow_style=node.flow_style)
