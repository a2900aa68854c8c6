"""Read a reply whose body is not plain JSON in UTF-8: another charset, or a stream of events."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from email.message import Message

from runner.core import escape_controls
from runner.errors import BadReply
from runner.service.completions import read_completion
from runner.service.event_stream import is_event_stream, joined_completion
from runner.types import JudgeResponse

# Names of codecs whose text is not what a service writes.
_UNSAFE_CODECS = ("utf_7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")
# Beginnings of the names of charsets with several bytes for a character: not all bytes are valid in them.
_MULTIBYTE_PREFIXES = ("utf", "gb", "big5", "euc", "shift", "cp93", "cp949", "cp950", "iso2022", "hz", "johab")


def read_reply(raw: bytes, headers: Mapping[str, str], status: int = 200, dialect: str = "pai") -> JudgeResponse:
    """Read the body of a 2xx, which should be an answer.

    Args:
        raw: the body, decompressed.
        headers: the headers, for the charset and the wait that the service requests.
        status: the HTTP status.
        dialect: as in `error_from_response`.

    Raises:
        ServiceError: it contains no answer, or none that is whole.
    """
    try:
        return read_completion(raw, status, headers, dialect)
    except BadReply as error:
        text = in_utf8(raw, headers)
        if is_event_stream(text):
            return read_completion(joined_completion(text), status, headers, dialect)
        if text is raw:
            content_type = headers.get("Content-Type", "application/json")
            if content_type != "application/json":
                error.args = (f"{error} (Content-Type: {escape_controls(content_type)})",)
            raise
    return read_completion(text, status, headers, dialect)


def in_utf8(raw: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a body in UTF-8, as JSON has to be; the same object if it is, or if its charset cannot be known.

    UTF-8 is what a body is in if it can be, whatever its `Content-Type` says; UTF-16 and UTF-32 are known by their zero
    bytes. Only then the charset of the `Content-Type` counts.
    """
    encoding = json.detect_encoding(raw)
    if not encoding.startswith("utf-8"):
        return _recoded(raw, encoding)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return _recoded(raw, _charset(headers))
    return raw


def _charset(headers: Mapping[str, str]) -> str | None:
    message = Message()
    message["Content-Type"] = headers.get("Content-Type") or ""
    charset = message.get_content_charset()
    try:
        name = "" if charset is None else codecs.lookup(charset).name.replace("-", "_")
    except (LookupError, ValueError):
        return None
    return name if name and name not in _UNSAFE_CODECS else None


def _recoded(raw: bytes, encoding: str | None) -> bytes:
    """Return a body in UTF-8, or the same object if this would be a guess.

    A charset of one byte a character accepts any bytes. If some of them are characters in UTF-8, the body is UTF-8 that
    broke somewhere, and a proxy wrote a wrong charset beside it.
    """
    if encoding is None or encoding in ("utf_8", "utf_8_sig"):
        return raw
    is_single_byte = not encoding.replace("_", "").startswith(_MULTIBYTE_PREFIXES)
    if is_single_byte and not raw.decode("utf-8", "ignore").isascii():
        return raw
    try:
        return raw.decode(encoding).encode()
    except (UnicodeError, LookupError):
        return raw
