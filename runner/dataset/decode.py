"""Turn one JSON text into a record, forgiving what Python's own reader forgives."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import msgspec

from runner.core import storable
from runner.dataset.content import guess_encoding
from runner.errors import BadRow
from runner.types import Unreadable

BOM = b"\xef\xbb\xbf"


def _refuse(value: Any) -> None:
    raise BadRow(f"found {value.found}" if isinstance(value, Unreadable) else f"found a {type(value).__name__}")


_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_refuse).encode
_fast = msgspec.json.Decoder()


def decode_json(text: bytes) -> Any:
    """Decode a JSON text; NaN and infinities become None, lone surrogates stay.

    Raises:
        BadRow: it is not JSON, or not UTF-8; the message says where.
    """
    try:
        return _fast.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_slowly(text)


class Broken(msgspec.Struct, frozen=True):
    """Stands for a row that its format could not take apart, with the reason."""

    reason: str


def record_of(payload: Any) -> dict[str, Any]:
    """Return the columns of a raw row: JSON text is decoded.

    Raises:
        BadRow: it is not an object, or broken.
    """
    record = decode_json(payload) if type(payload) is bytes else payload
    if type(record) is dict:
        return record
    raise BadRow(record.reason if isinstance(record, Broken) else f"expected a JSON object, found {kind_of(record)}")


def kind_of(value: Any) -> str:
    """Name a value's kind as JSON calls it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float | Decimal):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Unreadable):
        return value.found
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def as_text(value: Any) -> str | None:
    """Return a value as one text: a string as it is, None and NaN as None, a decimal in full, all else as JSON.

    A lone surrogate, which no file can hold, becomes U+FFFD.

    Raises:
        BadRow: it is, or holds, something unreadable.
    """
    if type(value) is str:
        return value if value.isascii() else storable(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    try:
        return _encode(value).decode()
    except (UnicodeEncodeError, OverflowError):
        return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def _decode_slowly(text: bytes) -> Any:
    try:
        return json.loads(text.decode().rstrip(), parse_constant=_nothing, parse_float=_finite)
    except UnicodeDecodeError as error:
        guess = guess_encoding(text)
        hint = "" if guess is None else f"; it looks like {guess}: save it as UTF-8"
        raise BadRow(f"not UTF-8 at byte {error.start + 1}{hint}") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        found = repr(error.doc[error.pos : error.pos + 20]) if error.pos < len(error.doc) else "the end"
        raise BadRow(f"broken JSON at {line}column {error.colno}: {error.msg}, found {found}") from None
    except RecursionError:
        raise BadRow("the JSON is nested too deeply") from None
    except ValueError as error:  # Python's guard against absurdly long integers
        raise BadRow(f"broken JSON: {error}") from None


def _nothing(_: str) -> None:
    return None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
