"""Parse a response of the service that is no answer: status, headers and body to a ServiceError. Pure functions only.

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

from runner.core import escape_controls, storable
from runner.errors import BadReply, Fatal, RateLimited, Refused, ServerFault, ServiceError
from runner.service.refusal_words import exceeds_quota, is_moderated, is_too_long

# 4xx statuses that report the service's state, not an error in the request.
SERVER_STATUS = frozenset({408, 409, 425, 450, 499})

# 4xx statuses whose words are read: is it the content that is refused?
REFUSAL_STATUS = frozenset({400, 403, 405, 422, 451})

CONTENT_CODES = frozenset(
    {
        "data_inspection_failed",
        "datainspectionfailed",
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
    }
)
# Codes and reasons of a token that is wrong, whatever the status: Model Studio, OpenAI, Google.
KEY_CODES = frozenset({"invalidapikey", "invalid_api_key", "api_key_invalid"})
BILL_CODES = frozenset({"prepaidbilloverdue", "postpaidbilloverdue", "commoditynotpurchased", "arrearage"})
ACCOUNT_CODE = "insufficient_quota"
THROTTLE_CODES = ("throttling", "limit_requests", "limit_burst_rate", "rate_limit")

_MAX_WAIT_SECONDS = 1e9
_GO_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PIECE = re.compile(r"(\d{1,12}(?:\.\d{0,12})?)(h|ms|m|s|us|µs|ns)")
_GO_DURATION = re.compile(rf"(?:{_GO_PIECE.pattern})+")
_TAGS = re.compile(r"<[^<>]{0,200}>")


def error_from_response(status: int, headers: Mapping[str, str], raw: bytes, dialect: str = "pai") -> ServiceError:
    """Map a response that is no answer to a ServiceError. This is the only mapping from status and code to errors.

    Args:
        status: the HTTP status.
        headers: the response headers, for the wait that the service requests.
        raw: the response body.
        dialect: what `insufficient_quota` means: at OpenAI (`openai`) that the account is empty, at Model Studio that
            the tokens per minute are used up.
    """
    code, detail = error_code_and_message(raw)
    message = f"HTTP {status}: {detail}" if detail else f"HTTP {status}"
    wait = retry_after(headers)
    if code in CONTENT_CODES or (status in REFUSAL_STATUS and is_moderated(message)):
        return Refused(message, error_type="content_filter", status=status)
    if code in BILL_CODES or status == 402 or (code == ACCOUNT_CODE and dialect == "openai"):
        return Fatal(message, reason="quota", status=status)
    if status in (413, 429) and exceeds_quota(message):
        return Refused(f"{message}; this one request is larger than the quota", error_type="too_long", status=status)
    if status == 429 or (status in (200, 400, 503) and code.startswith(THROTTLE_CODES)):
        return RateLimited(message, status=status, retry_after=wait)
    if status in (401, 403, 407) or code in KEY_CODES:
        return Fatal(message, reason="authentication", status=status, is_certain=code in KEY_CODES)
    if status == 200:
        return BadReply(f"a 200 without an answer: {detail or body_excerpt(raw)}", status=status)
    if status >= 500 or status in SERVER_STATUS:
        return ServerFault(message, status=status, retry_after=wait)
    if status in (404, 405) or 300 <= status < 400:
        return Fatal(message, reason="address", status=status, is_certain=False)
    return Refused(message, status=status, is_own=status == 413 or is_too_long(code, message))


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
    line = escape_controls(" ".join(text.split()))
    return (line[:size] + "…" if len(line) > size else line) or "an empty body"


def error_code_and_message(raw: bytes) -> tuple[str, str]:
    """Return the code, in lower case, and the message of the error in a body; without a message, an excerpt of it."""
    try:
        data = load_json(raw)
    except BadReply:
        return "", body_excerpt(raw)
    if isinstance(data, list) and data:
        data = data[0]  # Google puts the error into a list
    if not isinstance(data, dict):
        return "", body_excerpt(raw)
    error = data.get("error")
    source: Mapping[str, Any] = error if isinstance(error, dict) else data
    codes = [as_text(source[key]) or "" for key in ("code", "type") if source.get(key) not in (None, "")]
    codes += _reasons(source.get("details"))
    detail = source.get("message") or (error if isinstance(error, str) else None) or data.get("detail")
    text = escape_controls(" ".join((as_text(detail) or "").split())[:400]) if detail else body_excerpt(raw)
    known = next((code for code in map(str.lower, codes) if _is_known(code)), codes[0].lower() if codes else "")
    return known, f"{text} ({escape_controls(codes[0])})" if codes and detail else text


def _reasons(details: Any) -> list[str]:
    """Return the reasons in Google's `details`: `API_KEY_INVALID` stands only there."""
    found = [each.get("reason") for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    return [reason for reason in found if isinstance(reason, str)]


def _is_known(code: str) -> bool:
    single = code in KEY_CODES or code == ACCOUNT_CODE
    return single or code in CONTENT_CODES or code in BILL_CODES or code.startswith(THROTTLE_CODES)


def load_json(raw: bytes) -> Any:
    """Decode a body that may begin with a byte order mark; raises BadReply if it is not JSON."""
    try:
        text = raw.decode("utf-8-sig")
        data = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"not JSON: {body_excerpt(raw)}", status=200) from error
    return data


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


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < _MAX_WAIT_SECONDS else None
