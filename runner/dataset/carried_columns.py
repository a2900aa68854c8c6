"""Converts the columns that result rows carry: human labels, models and kept columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from runner.config import HumanLabel
from runner.dataset.decode import as_text, kind_of
from runner.errors import BadRow

Human = tuple[str | None, float | None, str | None]
"""The human winner, score and label; at most one of them is not None."""

_NOTHING: Human = (None, None, None)
_WINNERS = frozenset({"1", "2", "tie"})
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})


def human_reader(label: HumanLabel, pairwise: bool) -> Callable[[Any], Human]:
    """Return the function that reads one human label.

    With a map, its values decide for the whole dataset: if all of them are `1`, `2` or `tie`, they are winners; numbers
    are scores (so are 1 and 2 if answers are not compared). A label that the map does not name is kept as text.
    Without a map, 1, 2 and tie are winners if answers are compared, numbers are scores if not; the rest is text.
    """
    if label.map is not None:
        return _by_map(label.map, pairwise)
    return _compared if pairwise else _single


def to_type(name: str) -> Callable[[Any], Any]:
    """Return the function that turns a value into the Arrow type of this name.

    None stays None, and so does the empty text (of a CSV cell) for anything but string; the function raises `BadRow`
    for what does not fit.
    """
    if name == "string":
        return as_text
    if name == "bool":
        return _checked(_to_bool, name)
    type_ = pa.type_for_alias(name)
    if pa.types.is_floating(type_):
        return _checked(_to_float, name)
    half = 1 << (type_.bit_width - 1)
    return _checked(lambda value: _to_int(value, half), name)


def _by_map(meanings: Mapping[str, Any], pairwise: bool) -> Callable[[Any], Human]:
    texts = {str(key): str(value) for key, value in meanings.items()}
    values = set(texts.values())
    winners = values <= _WINNERS and (pairwise or "tie" in values)

    def read(value: Any) -> Human:
        text = next((texts[key] for key in _spellings(value) if key in texts), None)
        if text is None:
            return _NOTHING if value == "" else (None, None, as_text(value))
        if winners:
            return text, None, None
        number = _number(text)
        return (None, None, text) if number is None else (None, number, None)

    return read


def _spellings(value: Any) -> tuple[str, ...]:
    """Return the texts under which a map may name a value: YAML has its own spellings of 1, true and 1.0."""
    if isinstance(value, bool):
        return (str(value).lower(), str(value))
    if isinstance(value, float) and value.is_integer():
        return (str(int(value)), str(value))
    return () if value is None else (str(value),)


def _compared(value: Any) -> Human:
    if value is None or value == "":
        return _NOTHING
    text = _spellings(value)[0].strip().lower()
    return (text, None, None) if text in _WINNERS and not isinstance(value, bool) else (None, None, as_text(value))


def _single(value: Any) -> Human:
    if value is None or value == "":
        return _NOTHING
    number = _number(value)
    return (None, None, as_text(value)) if number is None else (None, number, None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool | list | dict):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _checked(convert: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if value is None or value == "":
            return None
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError):
            shown = repr(value) if isinstance(value, str | int | float) else kind_of(value)
            raise BadRow(f"{shown:.60} does not fit the type {name}") from None

    return checked


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError


def _to_float(value: Any) -> float:
    if isinstance(value, bool | list | dict):
        raise TypeError
    return float(value)


def _to_int(value: Any, half: int) -> int:
    if isinstance(value, bool | list | dict) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    number = int(value)
    if number != (value if not isinstance(value, str) else number) or not -half <= number < half:
        raise OverflowError
    return number
