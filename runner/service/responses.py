"""Parse a response of the service that is no answer: status, headers and body to a ServiceError. Pure functions only.

PAI-Judge does not document its HTTP statuses; the closest page is that of PAI-EAS (408, 429, 450 and 5xx are worth
another attempt).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from runner.errors import BadReply, Fatal, RateLimited, Refused, ServerFault, ServiceError
from runner.service.billing import is_account_empty
from runner.service.error_body import CONTENT_CODES, KEY_CODES, read_error
from runner.service.refusal_words import exceeds_quota, is_moderated, is_too_long

# 4xx statuses that report the service's state, not an error in the request.
SERVER_STATUS = frozenset({408, 409, 425, 450, 499})

# 4xx statuses whose words are read: is it the content that is refused?
REFUSAL_STATUS = frozenset({400, 403, 405, 422, 451})

_MAX_WAIT_SECONDS = 1e9
_GO_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_GO_PIECE = re.compile(r"(\d{1,12}(?:\.\d{0,12})?)(h|ms|m|s|us|µs|ns)")
_GO_DURATION = re.compile(rf"(?:{_GO_PIECE.pattern})+")


def error_from_response(status: int, headers: Mapping[str, str], raw: bytes, dialect: str = "pai") -> ServiceError:
    """Map a response that is no answer to a ServiceError. This is the only mapping from status and code to errors.

    An error in the body of a 2xx is read by its code, as if that were the status.

    Args:
        status: the HTTP status.
        headers: the response headers, for the wait that the service requests.
        raw: the response body.
        dialect: what `insufficient_quota` means: at OpenAI (`openai`) that the account is empty, at Model Studio that
            the tokens per minute are used up.
    """
    found = read_error(raw)
    code, shown = found.code, f"HTTP {status}"
    if 200 <= status < 300 and found.status is not None:
        status, shown = found.status, f"{shown} with {found.status} inside"
    message = f"{shown}: {found.text}"
    wait, asks_to_wait = retry_after(headers), "Retry-After" in headers or "retry-after" in headers
    if code in CONTENT_CODES or (status in REFUSAL_STATUS and is_moderated(message)):
        return Refused(message, error_type="content_filter", status=status)
    if is_account_empty(status, code, found.message, dialect, asks_to_wait=asks_to_wait):
        return Fatal(message, reason="quota", status=status)
    if status in (413, 429) and exceeds_quota(message):
        return Refused(f"{message}; this one request is larger than the quota", error_type="too_long", status=status)
    if status in (402, 429) or (status in (200, 400, 503) and found.is_throttling):
        return RateLimited(message, status=status, retry_after=wait)
    if status in (401, 403, 407) or code in KEY_CODES:
        return Fatal(message, reason="authentication", status=status, is_certain=code in KEY_CODES)
    if 200 <= status < 300:
        text = f"a {status} without an answer: {found.text}"
        return BadReply(text, status=status, retry_after=wait, is_foreign=status == 200 and not found.is_error)
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
    moment = moment_of(value)
    return None if moment is None else max(0.0, moment - (time.time() if now is None else now))


def moment_of(value: str | None) -> float | None:
    """Return the moment that a header names, as Unix time in seconds; None if it names none."""
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


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


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < _MAX_WAIT_SECONDS else None
