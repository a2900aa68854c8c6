"""The lines of batch files: how an input line is checked, and what a result line looks like."""

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
MOST_LINES = 50_000
"""Lines that Model Studio and OpenAI take in one file; PAI-Judge names no limit."""

_MOST_PROBLEMS = 10

Problem: TypeAlias = dict[str, Any]
"""One entry of a job's `errors`: code, message, param, line."""


class BatchInput(NamedTuple):
    """What is in an input file.

    Attributes:
        starts: where each line begins.
        keys: what identifies each line, by its custom_id and its body.
        digest: what identifies the whole.
        model: that of the first line.
        problems: what is wrong with it; where there is something, nothing of it is run.
    """

    starts: array[int]
    keys: list[bytes]
    digest: bytes
    model: str | None
    problems: list[Problem]


class InputLine(NamedTuple):
    """One line of an input file that was checked."""

    custom_id: str
    body: Any


def inspect(blob: Blob, dialect: Dialect) -> BatchInput:
    """Check a whole input file by the rules of a dialect; blank lines do not count."""
    check = _Check(dialect)
    if blob.size:
        with blob.mapped() as view:
            start = 0
            for number, raw in enumerate(iter(view.readline, b""), 1):
                if not raw.isspace():
                    check.line(number, start, raw)
                start += len(raw)
                if len(check.problems) >= _MOST_PROBLEMS:
                    break
    return check.whole()


def line_at(view: mmap.mmap, start: int) -> InputLine:
    """Read the checked line that begins here."""
    end = view.find(b"\n", start)
    value = msgspec.json.decode(view[start : end if end >= 0 else len(view)])
    return InputLine(value["custom_id"], value["body"])


def reply_line(name: bytes, custom_id: str, status: int, body: Any, dialect: Dialect) -> dict[str, Any]:
    """The result line of a request that got an HTTP answer, good or bad; `name` is 16 bytes for its ids."""
    line_id, request_id = _ids(name, dialect)
    response = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": line_id, "custom_id": custom_id, "response": response, "error": None}


def unrun_line(custom_id: str, cancelled: bool, dialect: Dialect) -> dict[str, Any]:
    """The result line of a request that was never run because its job expired or was cancelled."""
    code = "batch_cancelled" if cancelled else "batch_expired"
    why = "the batch was cancelled." if cancelled else "the completion window ended before its turn."
    error = {"code": code, "message": f"This request was not run: {why}"}
    return {"id": _ids(digest(custom_id), dialect)[0], "custom_id": custom_id, "response": None, "error": error}


def _ids(name: bytes, dialect: Dialect) -> tuple[str, str]:
    text = uuid_text(name)
    return (f"batch_req_{name.hex()}", name.hex()) if dialect == "openai" else (text, text)


class _Check:
    """Collects what is wrong with the lines of one file."""

    def __init__(self, dialect: Dialect) -> None:
        self._strict = dialect != "pai"
        self._seen: set[str] = set()
        self._starts = array("Q")
        self._keys: list[bytes] = []
        self._hash = blake2b(digest_size=DIGEST_BYTES)
        self._model: str | None = None
        self.problems: list[Problem] = []

    def line(self, number: int, start: int, raw: bytes) -> None:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._problem("invalid_json_line", f"This line is not valid JSON: {error}.", None, number)
        if not isinstance(value, dict):
            return self._problem("invalid_json_line", "This line is not a JSON object.", None, number)
        custom_id, body = value.get("custom_id"), value.get("body")
        if not isinstance(custom_id, str) or not custom_id:
            return self._missing("custom_id", "a text", number)
        if not isinstance(body, dict):
            return self._missing("body", "an object", number)
        if custom_id in self._seen:
            return self._problem(
                "duplicate_custom_id", f"The custom_id {custom_id!r} is there twice.", "custom_id", number
            )
        if self._strict:
            self._target(value, body, number)
        self._seen.add(custom_id)
        self._starts.append(start)
        self._keys.append(blake2b(custom_id.encode() + digest(body), digest_size=DIGEST_BYTES).digest())
        self._hash.update(self._keys[-1])
        return None

    def whole(self) -> BatchInput:
        count = len(self._starts)
        if not count and not self.problems:
            self._problem("empty_file", "The file holds no line.", "input_file_id", None)
        if self._strict and count > MOST_LINES:
            self._problem("too_many_tasks", f"A file may hold {MOST_LINES} lines, this one has {count}.", None, None)
        return BatchInput(self._starts, self._keys, self._hash.digest(), self._model, self.problems)

    def _target(self, value: dict[str, Any], body: dict[str, Any], number: int) -> None:
        """Check what OpenAI and Model Studio want and PAI-Judge does not: method, url, one model a file."""
        url, model = value.get("url"), body.get("model")
        if value.get("method") != "POST":
            self._missing("method", '"POST"', number)
        if not isinstance(url, str):
            self._missing("url", "a text", number)
        elif url != ENDPOINT:
            self._problem("url_mismatch", f"The url {url!r} is not the batch's endpoint.", "url", number)
        if self._model is None and isinstance(model, str):
            self._model = model
        elif model != self._model:
            self._problem("model_mismatch", f"All lines of a file ask {self._model!r}.", "body.model", number)

    def _missing(self, name: str, kind: str, number: int) -> None:
        self._problem("missing_required_parameter", f"Every line needs `{name}`, {kind}.", name, number)

    def _problem(self, code: str, message: str, param: str | None, line: int | None) -> None:
        self.problems.append({"code": code, "message": message, "param": param, "line": line})
