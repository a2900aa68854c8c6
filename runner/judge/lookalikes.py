"""Finds text in a prompt that looks like a placeholder of another tool, such as `{{ answer }}`, and is none here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from runner.judge.template import Template

_BRACES = re.compile(r"(?P<open>\{{1,3})(?P<inside>[^{}\n]{1,200})(?P<close>\}{1,3})")
_AFTER_NAME = re.compile(r"\s*(?:\||![rsa]\b|:[^\s\"'])")  # a filter, a conversion or a format of a template language


class Lookalike(NamedTuple):
    """A text that looks like a placeholder.

    Attributes:
        text: the text, with its braces.
        name: the field or column that is probably meant.
        is_placeholder: True if it is one, with further braces around it that are sent as they stand.
    """

    text: str
    name: str
    is_placeholder: bool

    @property
    def described(self) -> str:
        """What the text is, and what to write."""
        if self.is_placeholder:
            return f"`{self.text}` is sent with braces around the value; if they are not meant, write `{{{self.name}}}`"
        name, mapped = self.name, ""
        if not is_name(name):
            name = re.sub(r"\W+", "_", name).strip("_")
            name = f"_{name}" if name[:1].isdigit() else name
            mapped = f"map it with dataset.fields: {{{name}: {self.name!r}}} and "
        return (
            f"`{self.text}` is no placeholder and is sent as it is; if it is meant as one, {mapped}write `{{{name}}}`"
        )


def is_name(name: str) -> bool:
    """Return True if braces around a name make it a placeholder."""
    return Template(f"{{{name}}}").names == (name,)


def find_lookalikes(text: str, is_known: Callable[[str], bool]) -> Iterator[Lookalike]:
    """Yield each text that looks like a placeholder for a known field or column, once."""
    for match in dict.fromkeys(match.group() for match in _BRACES.finditer(text)):
        inside = match.strip("{}")
        name = inside.strip()
        if name == inside and is_name(name):
            if match.startswith("{{") and match.endswith("}}") and is_known(name):
                yield Lookalike(match, name, is_placeholder=True)
            continue
        cut = _AFTER_NAME.search(name)
        names = (name,) if cut is None else (name, name[: cut.start()].strip())
        known = next((candidate for candidate in names if candidate and is_known(candidate)), None)
        if known is not None:
            yield Lookalike(match, known, is_placeholder=False)
