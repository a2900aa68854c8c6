"""Parse a chat completion, in the body of a response or in a line of a batch's results. Pure functions only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.core import ending_of, storable
from runner.errors import BadReply, Fatal, RateLimited, Refused, ServiceError
from runner.service.bodies import as_text, body_excerpt, load_json
from runner.service.error_body import read_error
from runner.service.message_text import THOUGHT_FIELDS, read_parts
from runner.service.responses import error_from_response
from runner.types import JudgeResponse, Usage

# A longer name of a model is cut off: it stands in every row.
NAME_MAX_CHARS = 200
ID_MAX_CHARS = 1000

# A count above this is a mistake: no context window is longer (the longest known one has 10 million tokens).
USAGE_MAX_TOKENS = 16_000_000

_NO_USAGE = Usage()
_NO_HEADERS: Mapping[str, str] = {}


class _Message(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's name
    cached_tokens: int | None = None  # Moonshot's name


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    error: Any = None
    usage: _Usage | None = None  # Moonshot counts here in some replies


class Completion(msgspec.Struct, gc=False):
    """A chat completion."""

    choices: list[_Choice]
    id: str | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None


_completion = msgspec.json.Decoder(Completion).decode
# Finds a Unicode escape; the compiled pattern is three times as fast as `in`.
_find_escape = re.compile(rb"\\u").search


def read_completion(
    raw: bytes, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS, dialect: str = "pai"
) -> JudgeResponse:
    """Parse the body of a 2xx; the other arguments are those of `error_from_response`.

    Raises:
        ServiceError: it contains no answer, or none that is whole.
    """
    try:
        reply = _completion(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lenient = _lenient(raw)
        if lenient is None:
            raise error_from_response(status, headers, raw, dialect) from None
        reply = lenient
    response = response_from_completion(reply, raw, dialect)
    if response is None:
        raise error_from_response(status, headers, raw, dialect)
    return response


def response_from_completion(reply: Completion, raw: bytes, dialect: str = "pai") -> JudgeResponse | None:
    """Return the answer of a completion that was decoded from `raw`, or None if it has no message.

    Raises:
        Refused: a content filter took the answer away, or its end.
        Transient: the answer broke off: its `finish_reason` says so, or there is an error beside it.
        ServiceError: there is an error in place of a text.
    """
    choice = reply.choices[0] if reply.choices else None
    message = None if choice is None else choice.message
    if choice is None or message is None:
        return None
    reason = choice.finish_reason
    text, text_from = message.content, None
    refusal = message.refusal or None
    if isinstance(text, list):
        parts = read_parts(text)
        text, text_from = (parts.thought, "content") if parts.text is None and parts.thought else (parts.text, None)
        refusal = refusal or parts.refusal
    if text is None or not text or text.isspace():
        text, text_from = _thought(message) or (text, text_from)
    found = reply.usage or choice.usage
    usage = _NO_USAGE if found is None else _counted(found, bool(text))
    error = (_error_in(choice.error) or _error_in(reply.error)) if choice.error or reply.error else None
    if error or (reason != "stop" and ending_of(reason) in ("filtered", "broken")):
        raise _incomplete(reason, error, usage, bool(text), dialect)
    if text_from is not None and ending_of(reason) == "cut":
        text = f"<think>\n{text}"  # a thought without its end: rescoring does not take it for an answer either
    model = reply.model[:NAME_MAX_CHARS] if reply.model else None
    reply_id = reply.id[:ID_MAX_CHARS] if reply.id else reply.id
    reason = reason[:NAME_MAX_CHARS] if reason else reason
    response = JudgeResponse(text, reason, reply_id, usage, refusal, model, text_from)
    # Only escapes can spell half a surrogate pair. Checking every text would cost more than the rest of this function.
    return _without_lone_surrogates(response) if _find_escape(raw) else response


def _thought(message: _Message) -> tuple[str, str] | None:
    """Return the judge's thought and the field that has it, if there is one."""
    for name in THOUGHT_FIELDS:
        value = getattr(message, name)
        text = value if isinstance(value, str) or value is None else read_parts(value).text
        if text and not text.isspace():
            return text, name
    return None


def _counted(found: _Usage, has_text: bool) -> Usage:
    """Return the tokens that a reply counts, with None for every number that cannot be a count."""
    prompt, completion, total = found.prompt_tokens, found.completion_tokens, found.total_tokens
    details = found.completion_tokens_details
    thinking = None if details is None else details.reasoning_tokens
    is_usual = (
        prompt is not None
        and completion is not None
        and prompt > 0
        and completion > 0
        and total == prompt + completion <= USAGE_MAX_TOKENS
        and (thinking is None or thinking <= completion)
    )
    if not is_usual:
        prompt, completion, total = _plausible(prompt, completion, total, thinking, has_text)
    cached = None if found.prompt_tokens_details is None else found.prompt_tokens_details.cached_tokens
    for other in (found.prompt_cache_hit_tokens, found.cached_tokens):
        cached = other if cached is None else cached
    return Usage(prompt, completion, total, None if cached is None else _count(cached))


def _plausible(
    prompt: int | None, completion: int | None, total: int | None, thinking: int | None, has_text: bool
) -> tuple[int | None, int | None, int | None]:
    """Return prompt, completion and total as far as they can be counts.

    No prompt is empty, and no text has 0 tokens. What the total has beyond the prompt is output: some services leave
    the thinking out of `completion_tokens`, and if it is more than these, it is no part of them.
    """
    prompt, total, thinking = _positive(prompt), _positive(total), _count(thinking)
    completion = _positive(completion) if has_text else _count(completion)
    if thinking is not None and completion is not None and thinking > completion:
        completion += thinking
    if total is not None and prompt is not None and total > prompt + (completion or 0):
        completion = total - prompt
    if total is not None and prompt is not None and completion is not None:
        total = max(total, prompt + completion)
    return prompt, completion, total


def _error_in(value: Any) -> Any:
    """Return the error of a reply or a choice; None if every part of it is empty, as some services write it always."""
    return None if isinstance(value, Mapping) and not any(value.values()) else value or None


def _incomplete(reason: str | None, error: Any, usage: Usage, has_text: bool, dialect: str) -> ServiceError:
    """Return the error of an answer that is not whole; the error that the service names decides its kind."""
    detail, named = f"finish_reason {'none' if reason is None else storable(reason)}", None
    if error is not None:
        body = msgspec.json.encode({"error": as_text(error) if not isinstance(error, Mapping) else error})
        named, detail = error_from_response(200, {}, body, dialect), f"{detail}: {read_error(body).text}"
    failure: ServiceError
    if ending_of(reason) == "filtered" or (named is not None and named.error_type == "content_filter"):
        message = f"a content filter stopped the answer ({detail})"
        failure = Refused(message, error_type="content_filter", status=200)
    elif isinstance(named, Fatal) or (named is not None and not has_text and not isinstance(named, BadReply)):
        failure = named
    elif isinstance(named, RateLimited):
        failure = RateLimited(f"the answer broke off ({detail})", status=200)
    else:
        failure = BadReply(f"the answer broke off ({detail})", status=200, is_answer=True)
    failure.usage = None if usage == _NO_USAGE else usage
    return failure


def _without_lone_surrogates(response: JudgeResponse) -> JudgeResponse:
    return JudgeResponse(
        _storable(response.text),
        _storable(response.finish_reason),
        _storable(response.response_id),
        response.usage,
        _storable(response.refusal),
        _storable(response.model),
        response.text_from,
    )


def _lenient(raw: bytes) -> Completion | None:
    """Read a complete but unusual body: numbers as ids, floats as counts, escapes that encode no character.

    Returns None if it has no choices. Raises BadReply if it is not JSON, or its first choice is no message.
    """
    data = load_json(raw)
    if not isinstance(data, dict) or not isinstance(data.get("choices"), list) or not data["choices"]:
        return None
    first = data["choices"][0]
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        is_legacy = isinstance(first, dict) and "text" in first
        detail = "a completion without messages (of /completions?)" if is_legacy else "a reply without an answer"
        raise BadReply(f"{detail}: {body_excerpt(raw)}", status=200, is_foreign=is_legacy)
    return Completion(
        choices=[
            _Choice(
                _lenient_message(message),
                as_text(first.get("finish_reason")),
                first.get("error"),
                _lenient_usage(first.get("usage")),
            )
        ],
        id=as_text(data.get("id")),
        usage=_lenient_usage(data.get("usage")),
        model=as_text(data.get("model")),
        error=data.get("error"),
    )


def _lenient_message(message: Mapping[str, Any]) -> _Message:
    content = message.get("content")
    if isinstance(content, dict) and read_parts(content) != read_parts(None):
        content = [content]
    return _Message(
        content if isinstance(content, list) else as_text(content),
        as_text(message.get("refusal")),
        *(message.get(name) for name in THOUGHT_FIELDS),
    )


def _lenient_usage(found: Any) -> _Usage | None:
    if not isinstance(found, dict):
        return None
    parts = {name: found.get(name) for name in ("prompt_tokens_details", "completion_tokens_details")}
    hits, thinking = (
        part.get(name) if isinstance(part, dict) else None
        for part, name in zip(parts.values(), ("cached_tokens", "reasoning_tokens"), strict=True)
    )
    counts = {name: _lenient_count(found.get(name)) for name in _Usage.__struct_fields__ if name not in parts}
    return _Usage(
        prompt_tokens_details=_PromptDetails(_lenient_count(hits)),
        completion_tokens_details=_CompletionDetails(_lenient_count(thinking)),
        **counts,
    )


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= USAGE_MAX_TOKENS else None


def _positive(value: int | None) -> int | None:
    return value if value is not None and 0 < value <= USAGE_MAX_TOKENS else None


def _lenient_count(value: Any) -> int | None:
    """Return a number that is written as 7 or as 7.0; True is no number here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) <= USAGE_MAX_TOKENS and value == int(value) else None
