"""Turns the values of a dataset into the text that a prompt shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.errors import BadRow

# The keys of a turn, with other names of its roles: those of chat requests, and those of ShareGPT and the like.
_TURNS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("role", "content", {}),
    ("from", "value", {"human": "user", "gpt": "assistant", "chatgpt": "assistant"}),
)

_encode = msgspec.json.Encoder().encode


def as_text(value: Any) -> str:
    """Return any value as text for a template.

    Null becomes the empty text, a list of `{role, content}` or `{from, value}` becomes turns, other lists and objects
    become JSON.

    Raises:
        BadRow: the value cannot be written as JSON.
    """
    if type(value) is str:
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    turns = turns_of(value)
    return json_text(value) if turns is None else turns


def strict_text(value: Any, field: str) -> str:
    """Return the text of one of the fields that PAI's built-in kinds send.

    A string is returned unchanged, a number as text, a list of `{role, content}` or `{from, value}` as turns.

    Raises:
        BadRow: the value is anything else; the message names the field, what was found and what is expected.
    """
    if type(value) is str:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value) if isinstance(value, int) else json_text(value)
    turns = turns_of(value)
    if turns is None:
        expected = "a text, a number, or a list of {role, content} or {from, value}"
        raise BadRow(f"field `{field}` is {kind_of(value)}; expected {expected}")
    return turns


def turns_of(value: Any) -> str | None:
    """Return a conversation as text, one paragraph per turn, or None if the value is not a conversation."""
    if not isinstance(value, list) or not value:
        return None
    for role, content, names in _TURNS:
        if all(isinstance(turn, Mapping) and isinstance(turn.get(role), str) and content in turn for turn in value):
            spoken = ((names.get(turn[role].lower(), turn[role]), turn[content]) for turn in value)
            return "\n\n".join(f"{speaker.capitalize()}: {_content(said)}" for speaker, said in spoken)
    return None


def kind_of(value: Any) -> str:
    """Return the type of a value for a message: `null`, `a boolean`, `an object`, `a list`, ..."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return f"a value of type {type(value).__name__}"


def json_text(value: Any) -> str:
    """Return the JSON of a value. A value that JSON writes as a string, such as a date, is returned without quotes.

    Raises:
        BadRow: the value cannot be written as JSON.
    """
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
        return plain if isinstance(plain, str) else _encode(plain).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRow(f"a value of type {type(value).__name__} has no JSON form: {error}") from error


def _content(content: Any) -> str:
    """Return the text of one turn; a list of text parts is joined by line breaks."""
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        return "\n".join(part["text"] for part in content)
    return as_text(content)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
