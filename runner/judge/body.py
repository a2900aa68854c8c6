"""Chat request bodies: bytes that are encoded once, with slots for the texts of each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from runner.config import JudgeConfig
from runner.core import MISSING, list_problem, splits, value_at
from runner.errors import BadRow
from runner.judge.template import Template
from runner.types import Sample

_encode = msgspec.json.Encoder().encode


class Slot(NamedTuple):
    """A slot in a body: the fixed bytes before it, and a function that returns its text (None omits both)."""

    before: bytes
    text: Callable[[Sample], str | None]


class BodyTemplate:
    """One judge's request body for one order of the answers.

    `model` and `messages` come first, then the judge's parameters, as in the examples of the service's documentation.
    """

    __slots__ = ("_head", "_slots", "_tail")

    def __init__(self, judge: JudgeConfig, opening: bytes, slots: Sequence[Slot], closing: bytes) -> None:
        parameters = _encode(dict(judge.parameters))[1:-1]
        self._head = b'{"model":' + _encode(judge.model) + b',"messages":[' + opening
        self._slots = tuple(slots)
        self._tail = closing + b"]" + (b"," + parameters if parameters else b"") + b"}"

    def fill(self, sample: Sample) -> bytes:
        """Return the JSON body for one sample, compact and in UTF-8.

        Raises:
            BadRow: a text is missing, has the wrong type, or contains half a surrogate pair.
        """
        parts = [self._head]
        try:
            for before, text in self._slots:
                value = text(sample)
                if value is not None:
                    parts += (before, _encode(value))
        except UnicodeEncodeError as error:
            found = f"U+{ord(error.object[error.start]):04X}"
            raise BadRow(f"a text contains {found}, half a surrogate pair, which UTF-8 cannot encode") from None
        parts.append(self._tail)
        return b"".join(parts)

    def texts(self, sample: Sample) -> list[str]:
        """Return the texts that go into the body of one sample."""
        return [value for _, text in self._slots if (value := text(sample)) is not None]


def template_body(judge: JudgeConfig, swapped: bool) -> BodyTemplate:
    """Return the body of a judge with its own `system` and `user` texts."""
    slots: list[Slot] = []
    for role, source in (("system", judge.system), ("user", judge.user)):
        if source is not None:
            comma = b"}," if slots else b""
            before = comma + b'{"role":"' + role.encode() + b'","content":'
            slots.append(Slot(before, rendered(source, swapped)))
    return BodyTemplate(judge, b"", slots, b"}")


def rendered(source: str, swapped: bool) -> Callable[[Sample], str]:
    """Return a function that renders a template for a sample; `swapped` swaps answer1 and answer2."""
    template = Template(source)
    if swapped:
        template = template.swapped("answer1", "answer2")

    def text(sample: Sample) -> str:
        return template.render(lambda name: value_of(sample, name))

    return text


def value_of(sample: Sample, name: str) -> Any:
    """Return the value of a name in a sample.

    A field of that name comes first, then a column, then a path below a field or a column. A missing key gives None.

    Raises:
        BadRow: the row has no such field or column, or a list has no such element.
    """
    for source in (sample.fields, sample.record):
        if name in source:
            return source[name]
    for source in (sample.fields, sample.record):
        root = next((root for root, _ in splits(name) if root in source), None)
        if root is not None:
            return _below(source[root], root, name)
    raise BadRow(f"there is no column `{name}`")


def _below(value: Any, root: str, name: str) -> Any:
    path = name[len(root) + 1 :]
    found = value_at(value, path)
    if found is not MISSING:
        return found
    problem = list_problem(value, path, root)
    if problem is not None:
        raise BadRow(f"`{{{name}}}`: {problem}; if rows may lack it, set dataset.optional: [{name}]")
    return None
