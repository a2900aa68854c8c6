"""The text of a reply's message, in whichever form and field a service puts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

# Fields of a message that hold the judge's thought. Some servers put the whole answer there (vLLM with a reasoning
# parser that finds no end of the thought).
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")

_THOUGHT_TYPES = ("thinking", "reasoning", "thought")
_TEXT_KEYS = ("text", "value", "content", "thinking", "reasoning")

# No service nests the parts of a message deeper.
_MAX_DEPTH = 8


class MessageParts(msgspec.Struct, frozen=True, gc=False):
    """The texts of a message whose `content` is a list of parts; each is None if no part has it."""

    text: str | None = None
    thought: str | None = None
    refusal: str | None = None


def read_parts(content: Any) -> MessageParts:
    """Read a `content` that is a list of strings and objects, or a single object; other parts are left out."""
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        found = _text_of(part)
        if not isinstance(part, Mapping):
            texts.append(found)
            continue
        refusal = part.get("refusal")
        if isinstance(refusal, str):
            refusals.append(refusal)
        (thoughts if part.get("type") in _THOUGHT_TYPES else texts).append(found)
    return MessageParts("".join(texts) or None, "".join(thoughts) or None, "".join(refusals) or None)


def _text_of(part: Any, depth: int = 0) -> str:
    if isinstance(part, str):
        return part
    if depth >= _MAX_DEPTH:
        return ""
    if isinstance(part, list):
        return "".join(_text_of(item, depth + 1) for item in part)
    if isinstance(part, Mapping):
        return next((text for key in _TEXT_KEYS if (text := _text_of(part.get(key), depth + 1))), "")
    return ""
