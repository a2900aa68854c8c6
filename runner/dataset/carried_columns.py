"""Converts the columns that result rows carry: human labels, models and kept columns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import pyarrow as pa

from runner.config import HumanLabel
from runner.dataset.decode import as_text, kind_of
from runner.errors import BadRow

Human = tuple[str | None, float | None, str | None]
"""The human winner, score and label; at most one of them is not None."""

LabelKind = Literal["winner", "score", "label"]
"""What a human label means: the better of two answers, a score, or a word of its own."""

NO_LABEL: Human = (None, None, None)
_WINNERS = frozenset({"1", "2", "tie"})
_WINNER_NUMBERS = {1.0: "1", 2.0: "2"}
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})

# A decimal number. Python's own `float` also takes `1_2`, `infinity` and `nan`.
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?\s*")

# More digits before the point than any integer type of Arrow has.
_MAX_INT_DIGITS = 20


def human_reader(label: HumanLabel, kind: LabelKind) -> Callable[[Any], Human]:
    """Return the function that reads one human label.

    With a map, its values decide for the whole dataset: `tie` makes them winners; other numbers than 1 and 2 make them
    scores; 1 and 2 alone follow `kind`. A label that the map does not name is kept as text. Without a map, 1, 2 and tie
    are winners if `kind` is winner, numbers are scores if it is score; everything else is text. A number is the same
    label however it is written: 1, 1.0, "1.0" or a DECIMAL. Null, NaN and blank text are no label, unless the map has
    the key null (here "").
    """
    if label.map is not None:
        return _by_map(label.map, kind)
    return {"winner": _winner, "score": _score, "label": _word}[kind]


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


def number_of(value: Any) -> float | None:
    """Return the finite number that a value is or spells, or None. Booleans and `1_2` are no numbers."""
    if isinstance(value, bool | list | dict):
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value) is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _by_map(meanings: Mapping[str, Any], kind: LabelKind) -> Callable[[Any], Human]:
    texts = {str(key): str(value) for key, value in meanings.items()}
    stripped = {key.strip(): value for key, value in texts.items()}
    numbers = _by_number(texts)
    meaning = _meaning_of(frozenset(texts.values()), kind)
    missing = meaning(texts[""]) if "" in texts else NO_LABEL

    def read(value: Any) -> Human:
        if _is_missing(value):
            return missing
        spellings = _spellings(value)
        text = next((table[key] for table in (texts, stripped) for key in spellings if key in table), None)
        if text is None and numbers and (number := number_of(value)) is not None:
            text = numbers.get(number)
        return meaning(text) if text is not None else _word(value)

    return read


def _meaning_of(values: frozenset[str], kind: LabelKind) -> Callable[[str], Human]:
    """Return the function that turns the value of a map into a winner, a score or a word."""
    if kind == "label":
        return lambda text: (None, None, text)
    if values <= _WINNERS and (kind == "winner" or "tie" in values):
        return lambda text: (text, None, None)
    return lambda text: NO_LABEL if (number := number_of(text)) is None else (None, number, None)


def _by_number(texts: Mapping[str, str]) -> dict[float, str]:
    """Return the meanings by the number that a key spells, without numbers whose spellings have several meanings."""
    meanings: dict[float, set[str]] = {}
    for key, value in texts.items():
        if (number := number_of(key)) is not None:
            meanings.setdefault(number, set()).add(value)
    return {number: values.pop() for number, values in meanings.items() if len(values) == 1}


def _spellings(value: Any) -> tuple[str, ...]:
    """Return the texts under which a map may name a value: files and YAML have their own spellings of true and 1."""
    if isinstance(value, bool):
        return (str(value).lower(), str(value))
    if isinstance(value, str):
        stripped = value.strip()
        lower = stripped.lower()
        return (value, stripped, lower, lower.capitalize()) if lower in ("true", "false") else (value, stripped)
    return (plain_text(value) or "", str(value))


def _is_missing(value: Any) -> bool:
    """Return True for null, NaN (a gap in a column of floats) and blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _winner(value: Any) -> Human:
    if _is_missing(value):
        return NO_LABEL
    winner = _WINNER_NUMBERS.get(number_of(value) or 0.0)
    if winner is None and isinstance(value, str) and value.strip().lower() == "tie":
        winner = "tie"
    return _word(value) if winner is None else (winner, None, None)


def _score(value: Any) -> Human:
    if _is_missing(value):
        return NO_LABEL
    number = number_of(value)
    return _word(value) if number is None else (None, number, None)


def _word(value: Any) -> Human:
    return NO_LABEL if _is_missing(value) else (None, None, plain_text(value))


def plain_text(value: Any) -> str | None:
    """Return a label or an id as text; a whole number has no decimals, whatever its type is."""
    if isinstance(value, bool | str) or (number := number_of(value)) is None:
        return as_text(value)
    if number.is_integer() and abs(number) < 10**_MAX_INT_DIGITS:
        return str(int(value))
    return as_text(value)


def _checked(convert: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if value is None or value == "":
            return None
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError, InvalidOperation):
            shown = repr(value) if isinstance(value, str | int | float) else kind_of(value)
            raise BadRow(f"{shown:.60} does not fit the type {name}") from None

    return checked


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    number = number_of(value)
    if number in (0.0, 1.0):
        return number == 1.0
    raise ValueError


def _to_float(value: Any) -> float:
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and "_" in value):
        raise TypeError
    return float(value)


def _to_int(value: Any, half: int) -> int | None:
    """Return a whole number, exact also beyond what a float holds; NaN, a gap in a column of floats, is None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and _NUMBER.fullmatch(value) is None):
        raise TypeError
    exact = Decimal(value.strip() if isinstance(value, str) else value)
    if not exact.is_finite() or exact.adjusted() > _MAX_INT_DIGITS or exact != exact.to_integral_value():
        raise OverflowError
    number = int(exact)
    if not -half <= number < half:
        raise OverflowError
    return number
