"""Parse a response of the service: status, headers and body to a completion or a ServiceError. Pure functions only.

Both error shapes are read: `{"error": {"message", "type", "code"}}` (OpenAI) and `{"code", "message", "request_id"}`
(Alibaba Cloud), with codes as text or number. A body need not be JSON. PAI-Judge does not document its HTTP statuses;
the closest page is that of PAI-EAS (408, 429, 450 and 5xx are worth another attempt).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from runner.core import storable
from runner.errors import BadReply, Fatal, RateLimited, Refused, ServerFault, ServiceError
from runner.types import JudgeResponse, Usage

# 4xx statuses that report the service's state, not an error in the request.
SERVER_STATUS = frozenset({408, 409, 425, 450, 499})

CONTENT_CODES = frozenset(
    {
        "data_inspection_failed",
        "datainspectionfailed",
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
    }
)
BILL_CODES = frozenset({"prepaidbilloverdue", "postpaidbilloverdue", "commoditynotpurchased", "arrearage"})
ACCOUNT_CODE = "insufficient_quota"
THROTTLE_CODES = ("throttling", "limit_requests", "limit_burst_rate", "rate_limit")

_MAX_TOKENS = 2**31 - 1
_NO_USAGE = Usage()
_MAX_WAIT_SECONDS = 1e9
_GO_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PIECE = re.compile(r"(\d{1,12}(?:\.\d{0,12})?)(h|ms|m|s|us|µs|ns)")
_GO_DURATION = re.compile(rf"(?:{_GO_PIECE.pattern})+")
_TAGS = re.compile(r"<[^<>]{0,200}>")


class _Message(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class Completion(msgspec.Struct, gc=False):
    """A chat completion in a response body, or in a line of a batch's results."""

    choices: list[_Choice]
    id: str | None = None
    usage: _Usage | None = None


_completion = msgspec.json.Decoder(Completion).decode
# Finds a Unicode escape; the compiled pattern is three times as fast as `in`.
_find_escape = re.compile(rb"\\u").search


def read_completion(raw: bytes) -> JudgeResponse:
    """Parse the body of a 200; raises ServiceError if it contains no answer."""
    try:
        reply = _completion(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        reply = _lenient(raw)
    response = response_from_completion(reply, raw)
    if response is None:
        raise error_from_response(200, {}, raw)
    return response


def response_from_completion(reply: Completion, raw: bytes) -> JudgeResponse | None:
    """Return the answer of a completion that was decoded from `raw`, or None if it has no message."""
    message = reply.choices[0].message if reply.choices else None
    if message is None:
        return None
    usage = reply.usage
    response = JudgeResponse(
        _joined_text(message.content),
        reply.choices[0].finish_reason,
        reply.id,
        _NO_USAGE
        if usage is None
        else Usage(_count(usage.prompt_tokens), _count(usage.completion_tokens), _count(usage.total_tokens)),
        message.refusal or None,
    )
    # Only escapes can spell half a surrogate pair. Checking every text would cost more than the rest of this function.
    return _without_lone_surrogates(response) if _find_escape(raw) else response


def _without_lone_surrogates(response: JudgeResponse) -> JudgeResponse:
    return JudgeResponse(
        _storable(response.text),
        _storable(response.finish_reason),
        _storable(response.response_id),
        response.usage,
        _storable(response.refusal),
    )


def _lenient(raw: bytes) -> Completion:
    """Read a complete but unusual body: numbers as ids, floats as counts, escapes that encode no character."""
    data = _loads(raw)
    if not isinstance(data, dict):
        raise BadReply(f"a 200 that is not a chat completion: {body_excerpt(raw)}", status=200)
    if not isinstance(data.get("choices"), list) or not data["choices"]:
        raise error_from_response(200, {}, raw)
    first = data["choices"][0]
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise BadReply(f"a 200 without an answer: {body_excerpt(raw)}", status=200)
    found = data.get("usage")
    usage: Mapping[str, Any] = found if isinstance(found, dict) else {}
    content = message.get("content")
    return Completion(
        choices=[
            _Choice(
                _Message(
                    content if isinstance(content, list) else _as_text(content),
                    _as_text(message.get("refusal")),
                ),
                _as_text(first.get("finish_reason")),
            )
        ],
        id=_as_text(data.get("id")),
        usage=_Usage(*(_lenient_count(usage.get(name)) for name in _Usage.__struct_fields__)),
    )


def error_from_response(status: int, headers: Mapping[str, str], raw: bytes, dialect: str = "pai") -> ServiceError:
    """Map a response that is no answer to a ServiceError. This is the only mapping from status and code to errors.

    Args:
        status: the HTTP status.
        headers: the response headers, for the wait that the service requests.
        raw: the response body.
        dialect: what `insufficient_quota` means: at OpenAI (`openai`) that the account is empty, at Model Studio that
            the tokens per minute are used up.
    """
    code, detail = _code_and_message(raw)
    message = f"HTTP {status}: {detail}" if detail else f"HTTP {status}"
    wait = retry_after(headers)
    if code in CONTENT_CODES:
        return Refused(message, error_type="content_filter", status=status)
    if code in BILL_CODES or status == 402 or (code == ACCOUNT_CODE and dialect == "openai"):
        return Fatal(message, reason="quota", status=status)
    if status == 429 or (status in (200, 400, 503) and code.startswith(THROTTLE_CODES)):
        return RateLimited(message, status=status, retry_after=wait)
    if status in (401, 403, 407) or code == "invalidapikey":
        return Fatal(message, reason="authentication", status=status)
    if status == 200:
        return BadReply(f"a 200 without an answer: {detail or body_excerpt(raw)}", status=status)
    if status >= 500 or status in SERVER_STATUS:
        return ServerFault(message, status=status, retry_after=wait)
    if status in (404, 405) or 300 <= status < 400:
        return Fatal(message, reason="address", status=status)
    return Refused(message, status=status)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that the service requests to wait, or None if it requests none.

    The first of these counts: `retry-after-ms`; `Retry-After`, in seconds or as an HTTP date; the resets of
    `x-ratelimit-*`: the longest among the exhausted limits, or the shortest if no limit is reported as exhausted.
    OpenAI writes them as Go durations (`1s`, `6m0s`, `120ms`).

    Args:
        headers: the response headers.
        now: the current Unix time in seconds; None reads the clock.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("Retry-After") or headers.get("retry-after")
    if not value:
        return _reset(headers)
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the exhausted limits have reset, by the `x-ratelimit-*` headers."""
    resets = {}
    for unit in ("requests", "tokens"):
        seconds = go_duration(headers.get(f"x-ratelimit-reset-{unit}"))
        if seconds is not None:
            resets[unit] = seconds
    exhausted = [
        seconds for unit, seconds in resets.items() if _number(headers.get(f"x-ratelimit-remaining-{unit}")) == 0
    ]
    return max(exhausted) if exhausted else min(resets.values(), default=None)


def go_duration(value: str | None) -> float | None:
    """Return the seconds of a Go duration (`1h2m3.5s`, `120ms`) or of a plain number; None for anything else."""
    if not value:
        return None
    if not _GO_DURATION.fullmatch(value):
        return _number(value)
    seconds = sum(float(amount) * _GO_UNIT_SECONDS[unit] for amount, unit in _GO_PIECE.findall(value))
    return min(_MAX_WAIT_SECONDS, seconds)


def body_excerpt(raw: bytes, size: int = 160) -> str:
    """Return the beginning of a body as one line of text without markup, cut after `size` characters."""
    text = _TAGS.sub(" ", raw[: 8 * size].decode("utf-8", "replace"))
    line = " ".join(text.split())
    return (line[:size] + "…" if len(line) > size else line) or "an empty body"


def _code_and_message(raw: bytes) -> tuple[str, str]:
    try:
        data = _loads(raw)
    except BadReply:
        return "", body_excerpt(raw)
    if not isinstance(data, dict):
        return "", body_excerpt(raw)
    error = data.get("error")
    source: Mapping[str, Any] = error if isinstance(error, dict) else data
    codes = [_as_text(source[key]) or "" for key in ("code", "type") if source.get(key) not in (None, "")]
    detail = source.get("message") or (error if isinstance(error, str) else None) or data.get("detail")
    text = " ".join((_as_text(detail) or "").split())[:400] if detail else body_excerpt(raw)
    known = next((code for code in map(str.lower, codes) if _is_known(code)), codes[0].lower() if codes else "")
    return known, f"{text} ({codes[0]})" if codes and detail else text


def _is_known(code: str) -> bool:
    single = code in ("invalidapikey", ACCOUNT_CODE)
    return single or code in CONTENT_CODES or code in BILL_CODES or code.startswith(THROTTLE_CODES)


def _loads(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8-sig")
        data = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"not JSON: {body_excerpt(raw)}", status=200) from error
    return data


def _joined_text(content: str | list[Any] | None) -> str | None:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str)) or None
    return content


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MAX_TOKENS else None


def _lenient_count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= _MAX_TOKENS else None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return _storable(value)
    try:
        return storable(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "(nested too deep)"


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < _MAX_WAIT_SECONDS else None
