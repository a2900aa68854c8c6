"""What the service says of a batch job: its status words and its errors. Pure functions.

PAI's page names only `Creating` and `Succeeded`; the other words of its row are those of PAI-DLC's jobs, whose
vocabulary these two belong to. They only decide whether a word is worth a line in the log: what is not known to be
an ending is a running job.
"""

from __future__ import annotations

import json
from typing import Any, Literal

State = Literal["running", "completed", "failed", "expired", "cancelling", "cancelled"]
"""What a job is doing, whatever its service calls it."""

_WORDS: dict[str, State] = {
    "succeeded": "completed",
    "completed": "completed",
    "complete": "completed",
    "success": "completed",
    "failed": "failed",
    "error": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
    "canceled": "cancelled",
    "stopped": "cancelled",
    "cancelling": "cancelling",
    "canceling": "cancelling",
    "stopping": "cancelling",
}

_OPENAI = frozenset({"validating", "inprogress", "finalizing"})
_RUNNING = {
    "pai": frozenset(
        {
            "creating",
            "queuing",
            "bidding",
            "envpreparing",
            "sanitychecking",
            "running",
            "restarting",
            "inprocess",
            "finalizing",
            "succeededreserving",
            "failedreserving",
        }
    ),
    "openai": _OPENAI,
    "dashscope": _OPENAI,
}

_SHOWN = 5
_LIMIT = 360


def meaning(word: object, dialect: str) -> tuple[State, bool]:
    """Tell what a status word means and whether it is known; an unknown one means that the job runs."""
    name = _plain(word) if isinstance(word, str) else ""
    state = _WORDS.get(name)
    if state is not None:
        return state, True
    return "running", name in _RUNNING.get(dialect, ())


def enqueued_limit(errors: object) -> bool:
    """Whether a job failed only because too many tokens are waiting at the service: it may go again later."""
    return any(
        _plain(code) == "tokenlimitexceeded" or "enqueued token limit" in f"{code} {message}".lower()
        for code, message in map(told, _entries(errors))
    )


def reasons(errors: object) -> str:
    """The errors of a job as one short line for a person; empty where there are none."""
    entries = _entries(errors)
    line = one_line("; ".join(filter(None, map(_reason, entries[:_SHOWN]))), _LIMIT)
    more = len(entries) - _SHOWN
    return f"{line} and {more} more" if more > 0 else line


def told(error: object) -> tuple[str, str]:
    """The code and the message of an error of any shape; a bare text counts as its code."""
    if not isinstance(error, dict):
        return text_of(error), ""
    code = text_of(error.get("code") or error.get("type"))
    message = text_of(error.get("message"))
    return (code, message) if code or message else (text_of(error), "")


def text_of(value: object) -> str:
    """A value out of JSON as text: null is empty, objects stay JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        return "(unreadable)"


def one_line(text: str, size: int = 400) -> str:
    """The beginning of a text as one line that UTF-8 can hold."""
    line = " ".join(text[: 8 * size].split()).encode("utf-8", "replace").decode("utf-8")
    return line[:size] + "…" if len(line) > size else line


def _plain(word: str) -> str:
    return "".join(word.lower().replace("-", "").replace("_", "").split())


def _entries(errors: object) -> list[Any]:
    if isinstance(errors, dict) and ("data" in errors or errors.get("object") == "list"):
        errors = errors.get("data")
    if isinstance(errors, list):
        return [error for error in errors if error]
    return [errors] if errors else []


def _reason(error: object) -> str:
    line = error.get("line") if isinstance(error, dict) else None
    said = ": ".join(filter(None, (one_line(part) for part in told(error))))
    return f"{said} (line {line})" if isinstance(line, int) and not isinstance(line, bool) else said
