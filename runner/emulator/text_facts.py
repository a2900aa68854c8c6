"""Small facts about texts: how many tokens they make, roughly, and which of the two languages they are in."""

from __future__ import annotations

import math
import re

_han = re.compile(r"[\u3400-\u9fff]")
_HEAD = 400
_HAN_SHARE = 0.15


def tokens(text: str) -> int:
    """Estimate the tokens of a text: four letters, or one and a half Chinese characters, make one."""
    length = len(text)
    if text.isascii():
        return -(-length // 4)
    wide = (len(text.encode()) - length) / 2
    return math.ceil(max(0.0, length - wide) / 4 + wide / 1.5)


def is_chinese(text: str) -> bool:
    """Say whether a text is Chinese rather than English, judged by its first few hundred characters."""
    if text.isascii():
        return False
    head = text[:_HEAD]
    return len(_han.findall(head)) >= _HAN_SHARE * len(head)


def cut(text: str, limit: int) -> str:
    """Return the beginning of a text that makes about `limit` tokens."""
    return text[: max(1, len(text) * limit // max(1, tokens(text)))]
