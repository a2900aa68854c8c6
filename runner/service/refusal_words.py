"""What the words of a refusal say about its reason. The status alone often does not.

The texts are those of OpenAI, Azure, Anthropic, Google, Groq, DashScope, OpenRouter and vLLM. A word that is missing
here costs little: then the refusals of other requests decide (`lanes/online/refusals.py`).
"""

from __future__ import annotations

import re

# "the input was flagged", "requires moderation", "content management policy", "inappropriate content". Accounts are
# "flagged" and "blocked", too, so the subject must be a text.
_MODERATED = re.compile(
    r"(?:input|content|prompt|request|message|text|output)s? (?:\w+ ){0,3}flagged|flagged[ _]input"
    r"|(?:requires?|by|did not pass|failed) (?:\w+ )?moderation"
    r"|content (?:management |safety |usage )?(?:policy|policies|filter(?:ing|ed)?)\b"
    r"|(?:inappropriate|harmful|sensitive|unsafe|prohibited) (?:content|information)"
    r"|内容安全|敏感内容|敏感信息|不当内容|违规内容",
    re.IGNORECASE,
)
_LONG_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
_TOO_LONG = re.compile(
    r"(?:maximum )?context (?:length|window|size)"
    r"|(?:prompt|input|request(?! header)|message|content|text|body)\b[^.;]{0,40}\btoo (?:long|large|big)"
    r"|input (?:token|length)[^.;]{0,60}(?:exceed|should be)",
    re.IGNORECASE,
)
_AMOUNT = r"(?:tokens?)?\s*[:=(]?\s*(\d[\d,_]{0,15})"
_LIMIT = re.compile(rf"\blimit(?: is| of)?\s*{_AMOUNT}", re.IGNORECASE)
_REQUESTED = re.compile(rf"\brequested\s*{_AMOUNT}", re.IGNORECASE)


def is_moderated(message: str) -> bool:
    """Return True if a text was refused for what it says."""
    return _MODERATED.search(message) is not None


def is_too_long(code: str, message: str) -> bool:
    """Return True if a request was refused for its length.

    Args:
        code: the error's code, in lower case.
        message: its message.
    """
    return code in _LONG_CODES or _TOO_LONG.search(message) is not None


def exceeds_quota(message: str) -> bool:
    """Return True if one request needs more tokens than the whole quota has: `Limit 30000, Requested 41210`.

    An ordinary 429 for tokens names the same numbers (`Limit 30000, Used 29000, Requested 2000`): it only has to wait.
    """
    if "token" not in message.lower():
        return False
    limits, requested = _LIMIT.findall(message), _REQUESTED.findall(message)
    return bool(limits and requested) and _number(requested[0]) > max(map(_number, limits))


def _number(digits: str) -> int:
    return int(digits.replace(",", "").replace("_", ""))
