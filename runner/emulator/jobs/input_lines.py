"""Lines of batch files: checks of input lines, and the form of result lines."""

from __future__ import annotations

import mmap
from array import array
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import msgspec

from runner.emulator.answers.completions import uuid_text
from runner.emulator.draws import DIGEST_BYTES, digest
from runner.emulator.jobs.file_store import Blob
from runner.emulator.options import Dialect

ENDPOINT = "/v1/chat/completions"

# The limit of Model Studio and OpenAI; PAI-Judge documents none.
MAX_LINES = 50_000

_MAX_PROBLEMS = 10

# One entry of a job's `errors`: code, message, param, line.
Problem: TypeAlias = dict[str, Any]


class BatchInput(NamedTuple):
    """The index of an input file.

    Attributes:
        starts: the byte offset of each line.
        keys: the key of each line, derived from its custom_id and body.
        bodies: the digest of each line's body.
        digest: identifies the whole file.
        model: the model of the first line; None in the pai dialect.
        problems: what is wrong with the file; if there are any, no line is run.
    """

    starts: array[int]
    keys: list[bytes]
    bodies: list[bytes]
    digest: bytes
    model: str | None
    problems: list[Problem]


class InputLine(NamedTuple):
    """One valid line of an input file."""

    custom_id: str
    body: Any


def inspect(blob: Blob, dialect: Dialect) -> BatchInput:
    """Check a whole input file by the rules of a dialect; blank lines are ignored. Stops after ten problems."""
    check = _InputCheck(dialect)
    if blob.size:
        with blob.mapped() as view:
            start = 0
            for number, raw in enumerate(iter(view.readline, b""), 1):
                if not raw.isspace():
                    check.add_line(number, start, raw)
                start += len(raw)
                if len(check.problems) >= _MAX_PROBLEMS:
                    break
    return check.result()


def line_at(view: mmap.mmap, start: int) -> InputLine:
    """Read the valid line that starts at this offset."""
    end = view.find(b"\n", start)
    value = msgspec.json.decode(view[start : end if end >= 0 else len(view)])
    return InputLine(value["custom_id"], value["body"])


def response_line(line_id: bytes, custom_id: str, status: int, body: Any, dialect: Dialect) -> dict[str, Any]:
    """Build the result line of a request that got an HTTP response, successful or not.

    Args:
        line_id: 16 bytes, the source of the ids of the line and its request.
    """
    shown_id, request_id = _ids(line_id, dialect)
    response = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": shown_id, "custom_id": custom_id, "response": response, "error": None}


def unrun_line(custom_id: str, cancelled: bool, dialect: Dialect) -> dict[str, Any]:
    """Build the result line of a request that was not run because its job expired or was cancelled."""
    code = "batch_cancelled" if cancelled else "batch_expired"
    reason = "the batch was cancelled." if cancelled else "the completion window ended first."
    error = {"code": code, "message": f"This request was not run: {reason}"}
    return {"id": _ids(digest(custom_id), dialect)[0], "custom_id": custom_id, "response": None, "error": error}


def _ids(line_id: bytes, dialect: Dialect) -> tuple[str, str]:
    """Return the ids of a result line and of its request."""
    text = uuid_text(line_id)
    return (f"batch_req_{line_id.hex()}", line_id.hex()) if dialect == "openai" else (text, text)


class _InputCheck:
    """Indexes the lines of one file and collects their problems."""

    def __init__(self, dialect: Dialect) -> None:
        self._strict = dialect != "pai"
        self._custom_ids: set[str] = set()
        self._starts = array("Q")
        self._keys: list[bytes] = []
        self._bodies: list[bytes] = []
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._model: str | None = None
        self.problems: list[Problem] = []

    def add_line(self, number: int, start: int, raw: bytes) -> None:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._problem("invalid_json_line", f"This line is not valid JSON: {error}.", None, number)
        if not isinstance(value, dict):
            return self._problem("invalid_json_line", "This line is not a JSON object.", None, number)
        custom_id, body = value.get("custom_id"), value.get("body")
        if not isinstance(custom_id, str) or not custom_id:
            return self._missing("custom_id", "a string", number)
        if not isinstance(body, dict):
            return self._missing("body", "an object", number)
        if custom_id in self._custom_ids:
            message = f"The custom_id {custom_id!r} is not unique."
            return self._problem("duplicate_custom_id", message, "custom_id", number)
        if self._strict:
            self._check_target(value, body, number)
        self._custom_ids.add(custom_id)
        self._starts.append(start)
        self._bodies.append(digest(body))
        self._keys.append(blake2b(custom_id.encode() + self._bodies[-1], digest_size=DIGEST_BYTES).digest())
        self._hash.update(self._keys[-1])
        return None

    def result(self) -> BatchInput:
        count = len(self._starts)
        if not count and not self.problems:
            self._problem("empty_file", "The file has no lines.", "input_file_id", None)
        if self._strict and count > MAX_LINES:
            message = f"A file can have at most {MAX_LINES} lines; this one has {count}."
            self._problem("too_many_tasks", message, None, None)
        return BatchInput(self._starts, self._keys, self._bodies, self._hash.digest(), self._model, self.problems)

    def _check_target(self, value: dict[str, Any], body: dict[str, Any], number: int) -> None:
        """Check what OpenAI and Model Studio require and PAI-Judge does not: method, url, one model per file."""
        url, model = value.get("url"), body.get("model")
        if value.get("method") != "POST":
            self._missing("method", '"POST"', number)
        if not isinstance(url, str):
            self._missing("url", "a string", number)
        elif url != ENDPOINT:
            self._problem("url_mismatch", f"The url {url!r} is not the batch's endpoint.", "url", number)
        if self._model is None and isinstance(model, str):
            self._model = model
        elif model != self._model:
            message = f"All lines of a file must have the same model, {self._model!r}."
            self._problem("model_mismatch", message, "body.model", number)

    def _missing(self, name: str, kind: str, number: int) -> None:
        self._problem("missing_required_parameter", f"Every line needs `{name}`, {kind}.", name, number)

    def _problem(self, code: str, message: str, param: str | None, line: int | None) -> None:
        self.problems.append({"code": code, "message": message, "param": param, "line": line})
