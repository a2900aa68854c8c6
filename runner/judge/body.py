"""The chat bodies: fixed bytes with the texts of one sample between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from runner.config import JudgeConfig
from runner.errors import BadRow
from runner.judge.template import Template
from runner.types import Sample

_encode = msgspec.json.Encoder().encode


class Slot(NamedTuple):
    """A place in a body: the bytes before it, and the text a sample has for it (None leaves both out)."""

    before: bytes
    text: Callable[[Sample], str | None]


class BodyTemplate:
    """One judge's body in one order, ready to be filled.

    `model` and `messages` come first, then the judge's parameters, as the service's page writes them.
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
            BadRow: a text is missing, of the wrong type, or holds half a surrogate pair.
        """
        parts = [self._head]
        try:
            for before, text in self._slots:
                value = text(sample)
                if value is not None:
                    parts += (before, _encode(value))
        except UnicodeEncodeError as error:
            found = f"U+{ord(error.object[error.start]):04X}"
            raise BadRow(f"a text holds {found}, half a surrogate pair, which UTF-8 cannot carry") from None
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
    """Return how a template's text is made of a sample; swapped, answer1 and answer2 are exchanged."""
    template = Template(source)
    if swapped:
        template = template.exchanged("answer1", "answer2")

    def text(sample: Sample) -> str:
        return template.render(lambda name: value_of(sample, name))

    return text


def value_of(sample: Sample, name: str) -> Any:
    """Return what a name means in a sample: a field, then a column, then a path into one of them.

    Raises:
        BadRow: the row has neither.
    """
    for source in (sample.fields, sample.record):
        if name in source:
            return source[name]
    root, *path = name.split(".")
    for source in (sample.fields, sample.record):
        if path and root in source:
            return _below(source[root], path)
    raise BadRow(f"there is no column `{name}`")


def _below(value: Any, path: Sequence[str]) -> Any:
    """Follow a dotted path; what is not there is null, as it is in a nested column."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
