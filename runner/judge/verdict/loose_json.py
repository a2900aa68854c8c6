"""Parses objects in a judge's text: JSON, or a printed Python dict.

The parser accepts code fences, comments, single and curly quotes, line breaks inside strings, trailing commas,
full-width punctuation, fractions such as `8/10` (as texts) and backslashes that JSON does not allow. It never evaluates
anything. The work is bounded: `MAX_DEPTH`
limits the nesting, and failed attempts may read only a small multiple of the text's length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from runner.judge.verdict.common import to_number

# Levels of nested objects and lists; a deeper object is not read.
MAX_DEPTH = 16

_WORK_FACTOR = 3  # failed attempts may read this multiple of the text's length

# Spaces and comments (`// ...`, `/* ... */`, `# ...`); a longer comment is not read.
_MAX_COMMENT_CHARS = 300
_COMMENT = (
    rf"(?://[^\n]{{0,{_MAX_COMMENT_CHARS}}}+(?=\n)|#[^\n]{{0,{_MAX_COMMENT_CHARS}}}+(?=\n)"
    rf"|/\*(?>(?:[^*]|\*(?!/)){{0,{_MAX_COMMENT_CHARS}}})\*/)"
)
_GAP = rf"\s*+(?>(?:{_COMMENT}\s*+)*)"

_START = re.compile(rf"\{{{_GAP}(?=(?:\"[^\"\\]*+\"|'[^'\\]*+'|[“”‘’\"']\w++[“”‘’\"']|\w++)\s*+[:：])")
_BRACE = re.compile(r"[{}]")
_SPACE = re.compile(r"\s*+")
_STRING = re.compile(
    r"\"(?P<double>[^\"\\]*+(?>(?:\\.[^\"\\]*+)*))\""
    r"|'(?P<single>[^'\\]*+(?>(?:\\.[^'\\]*+)*))'|[“”](?P<curly>[^“”\"\n]*+)[“”]"
    r"|[‘’](?P<curled>[^‘’'\n]*+)[‘’]",
    re.DOTALL,
)
_STRING_OR_COMMENT = re.compile(rf"{_STRING.pattern}|{_COMMENT}", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d++(?>(?:\.\d*+)?)|\.\d++)(?>(?:[eE][-+]?\d++)?)(?![\w.])")
_FRACTION = re.compile(r"\d++(?>(?:\.\d++)?)[ \t]{0,2}/[ \t]{0,2}\d++(?>(?:\.\d++)?)(?![\w./])")
_AFTER_NUMERATOR = ("/", " ", "\t")
_WORD = re.compile(r"[^\W\d]\w*+")
# A double quote that neither opens nor closes a string, for its neighbours; the alternatives before it are the others.
_QUOTE = re.compile(r"\\.|[{\[(,:，：]\s*+\"|\"(?=\s*+[}\]),:，：])|(?P<inner>\")", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/", "\n": ""}
_CONSTANTS = {
    "true": True, "True": True, "false": False, "False": False,
    "null": None, "None": None, "NaN": None, "nan": None,
}  # fmt: skip
_CLOSING = {"{": "}", "[": "]", "(": ")"}


class Ambiguous:
    """The value of a key that occurs twice in an object with different values."""


class _NotAnObjectError(Exception):
    """There is no object at this position."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class Found(NamedTuple):
    """An outermost object in a text.

    Attributes:
        start, end: its position; a broken object ends where its braces close, else with the text.
        data: its keys and values, or None if it is broken.
    """

    start: int
    end: int
    data: dict[str, Any] | None


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Generate the outermost objects with at least one key, in text order.

    Objects inside a broken object are left out. Values are strings, floats, booleans, None, lists, objects, or
    `Ambiguous()`.
    """
    for found in located_objects(text):
        if found.data is not None:
            yield found.data


def located_objects(text: str) -> Iterator[Found]:
    """Generate the objects of `objects` and the broken ones, with their positions."""
    work = _WORK_FACTOR * len(text) + 1000
    has_comments = has_inner_quotes = True
    start = _START.search(text)
    while start is not None and work > 0:
        data = None
        try:
            data, end = _object(text, start.start(), MAX_DEPTH)
        except _NotAnObjectError as stop:
            work -= stop.position - start.start() + 20
            if has_comments and text[stop.position : stop.position + 1] in ("/", "#"):
                text, has_comments = _without_comments(text, start.start()), False
                continue
            if has_inner_quotes and text[stop.position - 1 : stop.position] == '"':
                text, has_inner_quotes = _with_curly_inner_quotes(text, start.start()), False
                continue
            end = _closing_brace_end(text, start.start())
        yield Found(start.start(), end, data)
        start = _START.search(text, end)


def _without_comments(text: str, start: int) -> str:
    """Return the text with spaces in place of the comments after a position; all positions stay the same."""
    return text[:start] + _STRING_OR_COMMENT.sub(_blank_comment, text[start:])


def _blank_comment(match: re.Match[str]) -> str:
    return " " * len(match[0]) if match[0][0] in "/#" else match[0]


def _with_curly_inner_quotes(text: str, start: int) -> str:
    """Return the text with `”` in place of quotes inside of strings after a position; all positions stay the same."""
    return text[:start] + _QUOTE.sub(_curly_inner, text[start:])


def _curly_inner(match: re.Match[str]) -> str:
    return "”" if match["inner"] else match[0]


def _closing_brace_end(text: str, start: int) -> int:
    """Return the position after the brace that closes the one at `start`, or the end of the text."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def dig(data: Any, path: str) -> Any:
    """Return the value at a path of keys such as `a.b`, or None.

    A key may differ in case if it then matches only one key of the object. A number is an index into a list.
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
    position = _skip_space(text, start + 1)
    while text[position : position + 1] != "}":
        key, position = _key(text, position)
        position = _skip_space(text, position)
        if text[position : position + 1] not in (":", "："):
            raise _NotAnObjectError(position)
        value, position = _value(text, _skip_space(text, position + 1), depth)
        found[key] = Ambiguous() if key in found and found[key] != value else value
        position = _skip_separator(text, position, "}")
    return found, position + 1


def _sequence(text: str, start: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    closing = _CLOSING[text[start]]
    position = _skip_space(text, start + 1)
    while text[position : position + 1] != closing:
        value, position = _value(text, position, depth)
        found.append(value)
        position = _skip_separator(text, position, closing)
    return found, position + 1


def _skip_separator(text: str, position: int, closing: str) -> int:
    """Return the position of the next item or of `closing`; items need a comma between them, the last may have one."""
    position = _skip_space(text, position)
    if text[position : position + 1] in (",", "，"):
        return _skip_space(text, position + 1)
    if text[position : position + 1] != closing:
        raise _NotAnObjectError(position)
    return position


def _value(text: str, position: int, depth: int) -> tuple[Any, int]:
    first = text[position : position + 1]
    if first in _CLOSING and first:
        if depth == 0:
            raise _NotAnObjectError(position)
        return (_object if first == "{" else _sequence)(text, position, depth - 1)
    if first in "\"'“”‘’" and first:
        return _string(text, position)
    match = _NUMBER.match(text, position)
    if match is not None:
        end = match.end()
        fraction = _FRACTION.match(text, position) if text[end : end + 1] in _AFTER_NUMERATOR else None
        return (_float(match[0]), end) if fraction is None else (fraction[0], fraction.end())
    match = _WORD.match(text, position)
    if match is None or match[0] not in _CONSTANTS:
        raise _NotAnObjectError(position)
    return _CONSTANTS[match[0]], match.end()


def _key(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] in ('"', "'"):
        return _string(text, position)
    match = _WORD.match(text, position) or _NUMBER.match(text, position)
    return _string(text, position) if match is None else (match[0], match.end())


def _string(text: str, position: int) -> tuple[str, int]:
    match = _STRING.match(text, position)
    if match is None:
        raise _NotAnObjectError(len(text) if text[position : position + 1] in ('"', "'") else position)
    string = match[match.lastgroup or 0]
    return (_unescape(string) if "\\" in string else string), match.end()


def _unescape(string: str) -> str:
    """Replace escapes; a surrogate pair becomes one character, a lone surrogate the replacement character."""
    string = _ESCAPE.sub(_unescape_one, string)
    return string.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _unescape_one(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, match[0])


def _float(text: str) -> float:
    if "e" not in text and "E" not in text:
        return to_number(text)
    return float(text) if len(text) <= 40 else math.inf


def _skip_space(text: str, position: int) -> int:
    if not text[position : position + 1].isspace():
        return position
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
