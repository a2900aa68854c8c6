"""What an answer of the service means: a whole reply, or one of the errors of the tree. Pure functions, one table.

Both error shapes are read: `{"error": {"message", "type", "code"}}` (OpenAI) and `{"code", "message", "request_id"}`
(Alibaba Cloud), codes as text or number, and bodies that are not JSON at all. Which HTTP statuses exist at PAI-Judge
is not documented; the nearest page is that of PAI-EAS (408, 429, 450 and 5xx are worth another attempt).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from runner.errors import BadReply, Fatal, RateLimited, Refused, ServerFault, ServiceError
from runner.types import JudgeResponse, Usage

SERVER_STATUS = frozenset({408, 409, 425, 450, 499})
"""4xx statuses that speak of the service's state, not of the request."""

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
_NOT_COUNTED = Usage()
_LONGEST_S = 1e9
_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
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
    """A chat completion as it stands in a reply, or in a line of a batch's results."""

    choices: list[_Choice]
    id: str | None = None
    usage: _Usage | None = None


_completion = msgspec.json.Decoder(Completion).decode
_escaped = re.compile(rb"\\u").search
"""Whether a character is spelled out: a pattern is found three times as fast as by `in`."""


def read_completion(raw: bytes) -> JudgeResponse:
    """A chat completion as it came on the wire; raises ServiceError where it holds no answer."""
    try:
        reply = _completion(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        reply = _lenient(raw)
    response = answer_in(reply, raw)
    if response is None:
        raise error_from(200, {}, raw)
    return response


def answer_in(reply: Completion, raw: bytes) -> JudgeResponse | None:
    """The answer in a completion, which was read from `raw`; None where it has none."""
    message = reply.choices[0].message if reply.choices else None
    if message is None:
        return None
    usage = reply.usage
    response = JudgeResponse(
        _text(message.content),
        reply.choices[0].finish_reason,
        reply.id,
        _NOT_COUNTED
        if usage is None
        else Usage(_count(usage.prompt_tokens), _count(usage.completion_tokens), _count(usage.total_tokens)),
        message.refusal or None,
    )
    return _whole_characters(response) if _escaped(raw) else response  # looking at every text costs more than all else


def _whole_characters(response: JudgeResponse) -> JudgeResponse:
    return JudgeResponse(
        _sound(response.text),
        _sound(response.finish_reason),
        _sound(response.response_id),
        response.usage,
        _sound(response.refusal),
    )


def _lenient(raw: bytes) -> Completion:
    """Read what is odd but whole: numbers as ids, floats as counts, escapes that stand for no character."""
    data = _loads(raw)
    if not isinstance(data, dict):
        raise BadReply(f"a 200 that is not a chat completion: {excerpt(raw)}", status=200)
    if not isinstance(data.get("choices"), list) or not data["choices"]:
        raise error_from(200, {}, raw)
    first = data["choices"][0]
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise BadReply(f"a 200 without an answer: {excerpt(raw)}", status=200)
    counted = data.get("usage")
    usage: Mapping[str, Any] = counted if isinstance(counted, dict) else {}
    content = message.get("content")
    return Completion(
        choices=[
            _Choice(
                _Message(
                    content if isinstance(content, list) else _word(content),
                    _word(message.get("refusal")),
                ),
                _word(first.get("finish_reason")),
            )
        ],
        id=_word(data.get("id")),
        usage=_Usage(*(_whole(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))),
    )


def error_from(status: int, headers: Mapping[str, str], raw: bytes, dialect: str = "pai") -> ServiceError:
    """The error that a reply means: the one table from status and code to the tree.

    `dialect` tells what `insufficient_quota` means: an empty account at OpenAI, tokens per minute at Model Studio.
    """
    code, said = _code_and_message(raw)
    message = f"HTTP {status}: {said}" if said else f"HTTP {status}"
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
        return BadReply(f"a 200 without an answer: {said or excerpt(raw)}", status=status)
    if status >= 500 or status in SERVER_STATUS:
        return ServerFault(message, status=status, retry_after=wait)
    if status in (404, 405) or 300 <= status < 400:
        return Fatal(message, reason="address", status=status)
    return Refused(message, status=status)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds the service asks us to wait; None where it does not say.

    `retry-after-ms`, else `Retry-After` as seconds or as an HTTP date, else the resets of `x-ratelimit-*`: of what has
    run out, or the shortest where that is not said (OpenAI's form: durations as Go writes them, `1s`, `6m0s`, `120ms`).
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
    """When what ran out is there again, by the `x-ratelimit-*` headers."""
    resets = {}
    for what in ("requests", "tokens"):
        seconds = go_duration(headers.get(f"x-ratelimit-reset-{what}"))
        if seconds is not None:
            resets[what] = seconds
    out = [seconds for what, seconds in resets.items() if _number(headers.get(f"x-ratelimit-remaining-{what}")) == 0]
    return max(out) if out else min(resets.values(), default=None)


def go_duration(value: str | None) -> float | None:
    """Seconds of a duration as Go writes it (`1h2m3.5s`, `120ms`), or of a plain number; None for anything else."""
    if not value:
        return None
    if not _GO_DURATION.fullmatch(value):
        return _number(value)
    return min(_LONGEST_S, sum(float(amount) * _GO_UNITS[unit] for amount, unit in _GO_PIECE.findall(value)))


def excerpt(raw: bytes, size: int = 160) -> str:
    """The beginning of a body as one line of text, without markup."""
    text = _TAGS.sub(" ", raw[: 8 * size].decode("utf-8", "replace"))
    line = " ".join(text.split())
    return (line[:size] + "…" if len(line) > size else line) or "an empty body"


def _code_and_message(raw: bytes) -> tuple[str, str]:
    try:
        data = _loads(raw)
    except BadReply:
        return "", excerpt(raw)
    if not isinstance(data, dict):
        return "", excerpt(raw)
    error = data.get("error")
    source: Mapping[str, Any] = error if isinstance(error, dict) else data
    codes = [_word(source[key]) or "" for key in ("code", "type") if source.get(key) not in (None, "")]
    said = source.get("message") or (error if isinstance(error, str) else None) or data.get("detail")
    text = " ".join((_word(said) or "").split())[:400] if said else excerpt(raw)
    known = next((code for code in map(str.lower, codes) if _is_known(code)), codes[0].lower() if codes else "")
    return known, f"{text} ({codes[0]})" if codes and said else text


def _is_known(code: str) -> bool:
    single = code in ("invalidapikey", ACCOUNT_CODE)
    return single or code in CONTENT_CODES or code in BILL_CODES or code.startswith(THROTTLE_CODES)


def _loads(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8-sig")
        data = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"not JSON: {excerpt(raw)}", status=200) from error
    return data


def _text(content: str | list[Any] | None) -> str | None:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str)) or None
    return content


def _sound(text: str | None) -> str | None:
    """The text with U+FFFD for each half of a surrogate pair, which JSON's escapes can spell but UTF-8 cannot."""
    if text is not None and not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MAX_TOKENS else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= _MAX_TOKENS else None


def _word(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return _sound(value)
    try:
        return _sound(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "(nested too deep)"


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < _LONGEST_S else None
