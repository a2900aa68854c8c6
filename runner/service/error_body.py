"""Find the error in a body: its code, its message, and the HTTP status that it stands for.

Many shapes are read: `{"error": {"message", "type", "code"}}` (OpenAI), `{"code", "message", "request_id"}` (Alibaba
Cloud), the same in a list (Google), `base_resp: {status_code, status_msg}` (MiniMax), `error_code`, `error_msg` and
`msg` (Baidu), `errors: [...]` (Cloudflare). Codes are texts or numbers. A body need not be JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from runner.errors import BadReply
from runner.service.billing import ACCOUNT_CODE, BILLING_CODES, BILLING_NUMBERS, TRANSIENT_CODES
from runner.service.bodies import as_text, body_excerpt, load_json, one_line

CONTENT_CODES = frozenset(
    {
        "data_inspection_failed",
        "datainspectionfailed",
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "base_resp.1026",  # MiniMax: the input, and the output
        "base_resp.1027",
    }
)
# Codes and reasons of a token that is wrong, whatever the status: Model Studio, OpenAI, Google, MiniMax.
KEY_CODES = frozenset({"invalidapikey", "invalid_api_key", "api_key_invalid", "base_resp.1004", "base_resp.2049"})
THROTTLE_CODES = ("throttling", "limit_requests", "limit_burst_rate", "rate_limit", "ratelimit")

# The statuses that codes stand for in a reply whose own status says nothing. Texts are those of OpenAI, Anthropic,
# Google and Moonshot; numbers are Zhipu's (docs.bigmodel.cn/cn/api/api-code), Baidu's
# (cloud.baidu.com/doc/WENXINWORKSHOP) and MiniMax's (platform.minimax.io/docs/api-reference/errorcode).
STATUS_OF_CODE: Mapping[str, int] = {
    **dict.fromkeys((ACCOUNT_CODE, *TRANSIENT_CODES), 429),
    **dict.fromkeys(
        ("resource_exhausted", "too_many_requests", "requestlimitexceeded", "engine_overloaded_error"), 429
    ),
    **dict.fromkeys(("1302", "1303", "1305", "1312", "336501", "336502"), 429),
    **dict.fromkeys(("base_resp.1002", "base_resp.1039", "base_resp.1041", "base_resp.2056"), 429),
    **dict.fromkeys(
        ("overloaded", "unavailable", "service_unavailable", "serviceunavailable", "engine_overloaded"), 503
    ),
    **dict.fromkeys(("internal", "internal_error", "internalerror", "internal_server_error", "server_error"), 500),
    **dict.fromkeys(("base_resp.1000", "base_resp.1013", "base_resp.1024", "base_resp.1033"), 500),
    **dict.fromkeys(("deadline_exceeded", "timeout", "timeout_error", "gateway_timeout", "base_resp.1001"), 504),
    **dict.fromkeys(
        ("invalid_api_key", "authentication_error", "invalid_authentication_error", "unauthenticated"), 401
    ),
    **dict.fromkeys(("base_resp.1004", "base_resp.2049"), 401),
    **dict.fromkeys(("permission_denied", "permission_error", "permission_denied_error"), 403),
    **dict.fromkeys(("not_found", "not_found_error", "model_not_found", "resource_not_found_error"), 404),
    **dict.fromkeys(("invalid_argument", "invalid_request_error", "invalid_request", "invalidparameter"), 400),
    **dict.fromkeys(("context_length_exceeded", "base_resp.2013"), 400),
    "overloaded_error": 529,
    "upstream_error": 502,
    "bad_gateway": 502,
    "request_too_large": 413,
}

# Where codes and messages are, in the order in which they are looked for.
_CODE_KEYS = ("code", "type", "status", "status_code", "error_code", "reason")
_MESSAGE_KEYS = ("message", "msg", "error_msg", "error_message", "status_msg", "detail")
_SPECIAL = (CONTENT_CODES, BILLING_CODES, BILLING_NUMBERS, KEY_CODES, TRANSIENT_CODES, {ACCOUNT_CODE})


class ErrorBody(msgspec.Struct, frozen=True, gc=False):
    """The error in a body.

    Attributes:
        code: the code that says most, in lower case; empty without one.
        message: the service's message, in one line; empty without one.
        text: the message with its code, or an excerpt of the body: for a person.
        status: the HTTP status that the codes stand for, or None.
    """

    code: str
    message: str
    text: str
    status: int | None = None

    @property
    def is_throttling(self) -> bool:
        """True if the code says that there are too many requests at the moment."""
        return self.code.startswith(THROTTLE_CODES)

    @property
    def is_error(self) -> bool:
        """True if there is an error in the body at all."""
        return bool(self.code or self.message)


def read_error(raw: bytes) -> ErrorBody:
    """Return what a body says about an error."""
    try:
        data = load_json(raw)
    except BadReply:
        return ErrorBody("", "", body_excerpt(raw))
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return ErrorBody("", "", body_excerpt(raw))
    codes = [code for code in _codes(data) if code]
    lower = [code.lower() for code in codes]
    message = _message(data)
    code = next((code for code in lower if _is_special(code)), lower[0] if lower else "")
    shown = codes[0].removeprefix("base_resp.") if codes else ""
    text = f"{message} ({one_line(shown)})" if shown and message else message or body_excerpt(raw)
    return ErrorBody(code, message, text, _status(lower))


def _codes(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the codes in a body, the most telling ones first."""
    error = _error_of(data)
    for source in (data,) if error is None else (error, data):
        for key in _CODE_KEYS if source is not data or error is None else ("code", "error_code"):
            if isinstance(source.get(key), str | int | float | list | dict) and not isinstance(source[key], bool):
                yield as_text(source[key]) or ""
    for name in ("details", "metadata"):
        yield from _reasons((error or data).get(name))
    base = data.get("base_resp")
    if isinstance(base, dict) and base.get("status_code"):
        yield f"base_resp.{as_text(base['status_code'])}"


def _reasons(details: Any) -> Iterator[str]:
    """Yield what Google, Anthropic and OpenRouter say beside the code: the reason stands only there."""
    for each in details if isinstance(details, list) else [details]:
        if isinstance(each, dict):
            yield from (each[key] for key in ("reason", "error_code") if isinstance(each.get(key), str))


def _message(data: Mapping[str, Any]) -> str:
    error, base = _error_of(data), data.get("base_resp")
    for source in (error, data, base):
        if isinstance(source, dict):
            bare = data.get("error") if source is data and isinstance(data.get("error"), str) else None
            found = next((source[key] for key in _MESSAGE_KEYS if source.get(key)), None) or bare
            if found:
                return one_line(found) + _raw(source)
    return ""


def _raw(error: Mapping[str, Any]) -> str:
    """Return what the provider behind a router said, if the router's own message does not (OpenRouter)."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f": {one_line(raw, 200)}" if isinstance(raw, str) and raw else ""


def _error_of(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    error, errors = data.get("error"), data.get("errors")
    if not isinstance(error, dict) and isinstance(errors, list) and errors:
        error = errors[0]
    return error if isinstance(error, dict) else None


def _is_special(code: str) -> bool:
    return any(code in table for table in _SPECIAL) or code.startswith(THROTTLE_CODES)


def _status(codes: list[str]) -> int | None:
    """Return the status that the first telling code stands for: a number from 400 to 599, or a known text."""
    for code in codes:
        if len(code) == 3 and code.isascii() and code.isdigit() and code >= "400" and code < "600":
            return int(code)
    for code in codes:
        if code.startswith(THROTTLE_CODES):
            return 429
        if code in STATUS_OF_CODE:
            return STATUS_OF_CODE[code]
    return None
