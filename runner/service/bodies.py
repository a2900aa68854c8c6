"""Bodies of replies as JSON, and as text that can be shown and stored. Pure functions only."""

from __future__ import annotations

import json
import re
from typing import Any

from runner.core import escape_controls, storable
from runner.errors import BadReply

_TAGS = re.compile(r"<[^<>]{0,200}>")


def load_json(raw: bytes) -> Any:
    """Decode a body that may begin with a byte order mark; raises BadReply if it is not JSON."""
    try:
        text = raw.decode("utf-8-sig")
        data = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        is_foreign, is_answer = _is_foreign(raw), b'"choices"' in raw
        message = f"not JSON: {body_excerpt(raw)}"
        raise BadReply(message, status=200, is_foreign=is_foreign, is_answer=is_answer and not is_foreign) from error
    return data


def body_excerpt(raw: bytes, size: int = 160) -> str:
    """Return the beginning of a body as one line of text without markup, cut after `size` characters."""
    text = _TAGS.sub(" ", raw[: 8 * size].decode("utf-8", "replace"))
    line = escape_controls(" ".join(text.split()))
    return (line[:size] + "…" if len(line) > size else line) or "an empty body"


def as_text(value: Any) -> str | None:
    """Return a value of a body as text that can be stored: a string as it is, None as None, others as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return storable(value)
    try:
        return storable(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "(nested too deep)"


def one_line(value: Any, max_chars: int = 400) -> str:
    """Return the beginning of a value of a body as one line of text that can be shown."""
    return escape_controls(" ".join((as_text(value) or "").split())[:max_chars])


def _is_foreign(raw: bytes) -> bool:
    """Return True for a body that is not even the beginning of a JSON object: a web page, for example."""
    text = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(text) and not text.startswith(b"{")
