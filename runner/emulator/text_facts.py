"""Token estimates and language detection for short texts."""

from __future__ import annotations

import math
import re

_han = re.compile(r"[\u3400-\u9fff]")
_HEAD_CHARS = 400
_MIN_HAN_SHARE = 0.15


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text: one token per four letters or per one and a half Chinese characters."""
    length = len(text)
    if text.isascii():
        return -(-length // 4)
    wide = (len(text.encode()) - length) / 2
    return math.ceil(max(0.0, length - wide) / 4 + wide / 1.5)


def is_chinese(text: str) -> bool:
    """Return True if a text is Chinese rather than English, judging by its first 400 characters."""
    if text.isascii():
        return False
    head = text[:_HEAD_CHARS]
    return len(_han.findall(head)) >= _MIN_HAN_SHARE * len(head)


def truncate(text: str, max_tokens: int) -> str:
    """Return the beginning of a text, about `max_tokens` tokens long."""
    return text[: max(1, len(text) * max_tokens // max(1, estimate_tokens(text)))]
