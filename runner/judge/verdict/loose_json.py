"""Objects that a judge wrote into its text: JSON, or a Python dict as one would print it.

Judges fence them, quote with single or curly quotes, break lines inside of strings, leave a comma at the end, write
full-width punctuation or a backslash that JSON does not know; all of that is read, nothing is ever evaluated. The
work is bounded: nesting by `DEPTH`, attempts at what turns out to be no object by a small multiple of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.judge.verdict.common import to_number

DEPTH = 16
"""Objects and lists within each other; more is no object."""

_WORK = 3  # times the text's length may be spent on what is no object

_START = re.compile(r"\{\s*+(?=(?:\"[^\"\\]*+\"|'[^'\\]*+'|[“”‘’\"']\w++[“”‘’\"']|\w++)\s*+[:：])")
_BRACE = re.compile(r"[{}]")
_SPACE = re.compile(r"\s*+")
_STRING = re.compile(
    r"\"(?P<double>[^\"\\]*+(?:\\.[^\"\\]*+)*+)\"|'(?P<single>[^'\\]*+(?:\\.[^'\\]*+)*+)'|[“”](?P<curly>[^“”\"\n]*+)[“”]"
    r"|[‘’](?P<curled>[^‘’'\n]*+)[‘’]",
    re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+(?![\w.])")
_WORD = re.compile(r"[^\W\d]\w*+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/", "\n": ""}
_CONSTANTS = {
    "true": True, "True": True, "false": False, "False": False,
    "null": None, "None": None, "NaN": None, "nan": None,
}  # fmt: skip
_CLOSING = {"{": "}", "[": "]", "(": ")"}


class Ambiguous:
    """The value of a key that an object has twice, with different values."""


class _NoObjectError(Exception):
    """The text is no object at this position."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Return the outermost objects of a text that have any key, in its order.

    What is inside of a broken one is none of them.
    Values are texts, floats, booleans, None, lists, objects, or `Ambiguous()`.
    """
    work = _WORK * len(text) + 1000
    start = _START.search(text)
    while start is not None and work > 0:
        try:
            found, end = _object(text, start.start(), DEPTH)
        except _NoObjectError as stop:
            end = _after_braces(text, start.start())
            work -= stop.position - start.start() + 20
        else:
            yield found
        start = _START.search(text, end)


def _after_braces(text: str, start: int) -> int:
    """Where the brace at a position is closed, the end of the text if it never is."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def dig(data: Any, path: str) -> Any:
    """Return the value at a path of keys, `a.b`; None where there is none.

    A key counts in any case where only one key is spelled so; a number is a place in a list.
    """
    if isinstance(data, Mapping):
        if path in data:
            return data[path]
        key, dot, rest = path.partition(".")
        value = data[key] if key in data else _in_any_case(data, key)
        return dig(value, rest) if dot else value
    if isinstance(data, list):
        key, dot, rest = path.partition(".")
        if key.isdecimal() and len(key) < 6 and int(key) < len(data):
            return dig(data[int(key)], rest) if dot else data[int(key)]
    return None


def _in_any_case(data: Mapping[str, Any], key: str) -> Any:
    wanted = key.casefold()
    alike = [name for name in data if name.strip().casefold() == wanted]
    return data[alike[0]] if len(alike) == 1 else None


def _object(text: str, start: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    position = _after_space(text, start + 1)
    while text[position : position + 1] != "}":
        key, position = _key(text, position)
        position = _after_space(text, position)
        if text[position : position + 1] not in (":", "："):
            raise _NoObjectError(position)
        value, position = _value(text, _after_space(text, position + 1), depth)
        found[key] = Ambiguous() if key in found and found[key] != value else value
        position = _separated(text, position, "}")
    return found, position + 1


def _sequence(text: str, start: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    closing = _CLOSING[text[start]]
    position = _after_space(text, start + 1)
    while text[position : position + 1] != closing:
        value, position = _value(text, position, depth)
        found.append(value)
        position = _separated(text, position, closing)
    return found, position + 1


def _separated(text: str, position: int, closing: str) -> int:
    """The place of the next item, or of what closes: a comma must stand between two items, and may after the last."""
    position = _after_space(text, position)
    if text[position : position + 1] in (",", "，"):
        return _after_space(text, position + 1)
    if text[position : position + 1] != closing:
        raise _NoObjectError(position)
    return position


def _value(text: str, position: int, depth: int) -> tuple[Any, int]:
    sign = text[position : position + 1]
    if sign in _CLOSING and sign:
        if depth == 0:
            raise _NoObjectError(position)
        return (_object if sign == "{" else _sequence)(text, position, depth - 1)
    if sign in "\"'“”‘’" and sign:
        return _string(text, position)
    match = _NUMBER.match(text, position)
    if match is not None:
        return _float(match[0]), match.end()
    match = _WORD.match(text, position)
    if match is None or match[0] not in _CONSTANTS:
        raise _NoObjectError(position)
    return _CONSTANTS[match[0]], match.end()


def _key(text: str, position: int) -> tuple[str, int]:
    match = _WORD.match(text, position) or _NUMBER.match(text, position)
    return _string(text, position) if match is None else (match[0], match.end())


def _string(text: str, position: int) -> tuple[str, int]:
    match = _STRING.match(text, position)
    if match is None:
        raise _NoObjectError(len(text) if text[position : position + 1] in ('"', "'") else position)
    said = match[match.lastgroup or 0]
    return (_unescaped(said) if "\\" in said else said), match.end()


def _unescaped(said: str) -> str:
    """Put in what backslashes stand for; halves of a character become one, a half alone the replacement sign."""
    said = _ESCAPE.sub(_meant_by, said)
    return said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _meant_by(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, match[0])


def _float(text: str) -> float:
    if "e" not in text and "E" not in text:
        return to_number(text)
    return float(text) if len(text) <= 40 else math.inf


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
