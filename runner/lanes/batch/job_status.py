"""Map the services' job statuses and job errors to ours. Pure functions.

PAI's documentation names only `Creating` and `Succeeded`; the other names in its row are those of PAI-DLC jobs, whose
vocabulary includes these two. The names of running states only decide if an unknown one is logged: any status that is
not known to be an ending means that the job is running.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from runner.lanes.batch.refusals import says_file_not_ready, says_queue_full

# The state of a job, whatever its service calls it.
State = Literal["running", "completed", "failed", "expired", "cancelling", "cancelled"]

_STATES: dict[str, State] = {
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

_OPENAI_RUNNING = frozenset({"validating", "inprogress", "finalizing"})
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
    "openai": _OPENAI_RUNNING,
    "dashscope": _OPENAI_RUNNING,
}

_MAX_ERRORS_SHOWN = 5
_MAX_REASON_CHARS = 360


class BatchJob(msgspec.Struct, frozen=True):
    """A batch as the service describes it.

    Attributes:
        state: what its status means.
        word: the status as the service names it.
        known: True if the dialect has this status.
        completed, failed: numbers of lines, if the service counts them.
        errors: the service's errors about the batch as a whole, unchanged.
        created_at: by the service's clock, in seconds since 1970, if it says so.
    """

    id: str
    state: State
    word: str
    known: bool
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int | None = None
    failed: int | None = None
    errors: Any = None
    created_at: float | None = None

    @property
    def has_answers(self) -> bool:
        """True if lines of it were answered, as far as the service says."""
        return bool(self.output_file_id or self.completed)

    @property
    def hides_answers(self) -> bool:
        """True if it has ended and has or may have answers, but names no result file."""
        if self.output_file_id or self.error_file_id or self.state in ("running", "cancelling"):
            return False
        return bool(self.completed) or (self.state == "completed" and not self.failed)

    @property
    def finished(self) -> int:
        """Number of lines that are done, with an answer or a failure."""
        return (self.completed or 0) + (self.failed or 0)


def job_state(word: object, dialect: str) -> tuple[State, bool]:
    """Return the state that a status means, and if the dialect knows it; an unknown status means a running job."""
    name = _plain(word) if isinstance(word, str) else ""
    state = _STATES.get(name)
    if state is not None:
        return state, True
    return "running", name in _RUNNING.get(dialect, ())


def may_be_created_later(errors: object) -> bool:
    """Return True if a job failed because too much is enqueued, or because its file was not processed yet."""
    return any(
        says_queue_full(text) or says_file_not_ready(text)
        for text in (" ".join(code_and_message(error)) for error in _entries(errors) if not _line_of(error))
    )


def reasons(errors: object) -> str:
    """Return the errors of a job as one short line for the user; empty if there are none."""
    entries = _entries(errors)
    line = one_line("; ".join(filter(None, map(_reason, entries[:_MAX_ERRORS_SHOWN]))), _MAX_REASON_CHARS)
    more = len(entries) - _MAX_ERRORS_SHOWN
    return f"{line} and {more} more" if more > 0 else line


def code_and_message(error: object) -> tuple[str, str]:
    """Return the code and the message of an error of any shape; a bare text counts as its code."""
    if not isinstance(error, dict):
        return text_of(error), ""
    code = text_of(error.get("code") or error.get("type"))
    message = text_of(error.get("message"))
    return (code, message) if code or message else (text_of(error), "")


def text_of(value: object) -> str:
    """Return a JSON value as text: null is empty, objects stay JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        return "(unreadable)"


def one_line(text: str, max_chars: int = 400) -> str:
    """Return the beginning of a text as one line that UTF-8 can encode."""
    line = " ".join(text[: 8 * max_chars].split()).encode("utf-8", "replace").decode("utf-8")
    return line[:max_chars] + "…" if len(line) > max_chars else line


def _plain(word: str) -> str:
    return "".join(word.lower().replace("-", "").replace("_", "").split())


def _entries(errors: object) -> list[Any]:
    if isinstance(errors, dict) and ("data" in errors or errors.get("object") == "list"):
        errors = errors.get("data")
    if isinstance(errors, list):
        return [error for error in errors if error]
    return [errors] if errors else []


def _reason(error: object) -> str:
    line = _line_of(error)
    text = ": ".join(filter(None, (one_line(part) for part in code_and_message(error))))
    return text if line is None else f"{text} (line {line})"


def _line_of(error: object) -> int | None:
    line = error.get("line") if isinstance(error, dict) else None
    return line if isinstance(line, int) and not isinstance(line, bool) else None
