"""Parse the lines of a batch's output and error files, and find the line of each request. Nothing is kept decoded.

No service promises an order, a file for each kind of line, or a correct count: an answer is a line with status 200,
without an error and with a complete completion, in either file.

`_read_usual` decodes a plain answer in one step and leaves every other line to `_read_general`. Without it, a run that
collects 100,000 lines takes 3.8 % more CPU (user + system; `benchmarks/batch_results.py`, median of 8 alternating
pairs, 2.7 to 5.9 %), and 2.4 % more with PAI's longer answers. Reading each line by its offset, instead of mapping the
files into memory, takes 1.7 % and 0.2 % more, which is not worth the code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from runner.errors import Refused, ServiceError
from runner.lanes.batch.job_status import code_and_message, job_state, one_line, text_of
from runner.service import Completion, body_excerpt, error_from_response, read_completion, response_from_completion
from runner.types import Failure, JudgeResponse, Usage

# The 4xx statuses of a line after which its request may be sent again; every other 4xx is final.
RETRYABLE_4XX = frozenset({408, 409, 429})

# What services write if there is no error. PAI writes empty texts for other nulls too.
NO_ERROR: tuple[Any, ...] = (None, "", {})

_BUFFER_BYTES = 1 << 18
MAX_LINE_BYTES = 64_000_000

# The custom_id of a line that is not JSON: ours have no escapes.
_TORN_ID = re.compile(rb'"custom_id"\s*:\s*"([^"\\]{1,512})"')


class Leftover(msgspec.Struct, frozen=True, gc=False):
    """A request that a batch did not answer and that may be sent again.

    Attributes:
        error_type: a transient one.
        message: what the service text.
        was_run: False if the service says that it never ran the request.
    """

    error_type: str
    message: str
    was_run: bool = True


LineResult = JudgeResponse | Failure | Leftover

_Location = tuple[BinaryIO, int, int]  # file, offset and length of a line, in bytes

# The line that counts, if a request has several: the one with the lowest rank.
_RANK = {JudgeResponse: 0, Failure: 1, Leftover: 2}


class _Response(msgspec.Struct, gc=False):
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct, gc=False):
    response: _Response | None = None
    error: Any = None


class _UsualResponse(msgspec.Struct, gc=False):
    body: Completion
    status_code: Any = None


class _UsualLine(msgspec.Struct, gc=False):
    response: _UsualResponse
    error: Any = None


class _Identified(msgspec.Struct, gc=False):
    custom_id: str


_line = msgspec.json.Decoder(_Line).decode
_usual_line = msgspec.json.Decoder(_UsualLine).decode
_identified = msgspec.json.Decoder(_Identified).decode
_string = msgspec.json.Decoder(str).decode
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_line(line: bytes, dialect: str = "pai") -> LineResult:
    """Return the result of one line of an output or error file. Any bytes give a result."""
    return _read_usual(line) or _read_general(line, dialect)


def _read_usual(line: bytes) -> JudgeResponse | None:
    """Return the answer of a line in the usual form, decoded in one step; None if the general rules must decide."""
    try:
        found = _usual_line(line)
    except _UNDECODABLE:
        return None
    if found.response.status_code != 200 or found.error not in NO_ERROR:
        return None
    try:
        return response_from_completion(found.response.body, line)
    except ServiceError:
        return None


def _read_general(line: bytes, dialect: str) -> LineResult:
    """Return the result of a line by the general rules, which hold for all lines."""
    try:
        found = _line(line)
    except _UNDECODABLE:
        lenient = _decode_leniently(line)
        if lenient is None:
            return Leftover("bad_reply", f"not a result line: {body_excerpt(line)}")
        found = lenient
    response = found.response
    if found.error not in NO_ERROR:
        return _from_error(found.error, response, dialect)
    if response is None:
        return Leftover("bad_reply", f"a result line without a response: {body_excerpt(line)}")
    status = _status(response.status_code)
    if status is None:
        return Leftover("bad_reply", one_line(f"an unreadable status_code: {text_of(response.status_code)}"))
    if 200 <= status < 300:
        return _from_answer(_body(response.body), status, dialect)
    return _unanswered(error_from_response(status, {}, _body(response.body), dialect), _is_final(status))


class ResultFiles:
    """The downloaded files of one batch, with each line found by its custom_id; a context manager.

    Entering reads every line once. If a custom_id has several lines, an answer counts before a failure and a failure
    before a leftover; among equals, the first line counts.

    Args:
        paths: the output and error files that exist; they may be empty.
        wanted: the custom_ids of the shard.
        dialect: the service's dialect.

    Attributes:
        torn: lines that are not complete JSON with a custom_id.
        unreadable: the custom_ids in torn lines.
        cut_files: files that end within a line.
        unknown_ids: lines whose custom_id is not in the shard.
        duplicates: further lines of a custom_id.
    """

    def __init__(self, paths: Sequence[Path], wanted: Container[str], dialect: str) -> None:
        self.torn = 0
        self.unreadable: set[str] = set()
        self.cut_files = 0
        self.unknown_ids = 0
        self.duplicates = 0
        self._paths = paths
        self._wanted = wanted
        self._dialect = dialect
        self._locations: dict[str, _Location] = {}
        self._ranks: dict[str, int] = {}
        self._open_files = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as open_files:
            for path in self._paths:
                self._index(open_files.enter_context(path.open("rb", buffering=_BUFFER_BYTES)))
            self._open_files = open_files.pop_all()
        self._ranks.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_files.close()

    def find(self, custom_id: str) -> LineResult | None:
        """Return the result of a request, or None if no line has its custom_id. Raises OSError."""
        location = self._locations.get(custom_id)
        return None if location is None else self._read(location)

    def _index(self, file: BinaryIO) -> None:
        locations, wanted = self._locations, self._wanted
        offset = 0
        for line, length in _bounded_lines(file):
            location = (file, offset, length)
            offset += length
            try:
                custom_id: str | None = _identified(line).custom_id
            except _UNDECODABLE:
                custom_id = _lenient_custom_id(line)
            if custom_id is None:
                self._note_torn(line)
            elif custom_id not in wanted:
                self.unknown_ids += 1
            elif custom_id in locations:
                self.duplicates += 1
                self._keep_better(custom_id, location)
            else:
                locations[custom_id] = location

    def _note_torn(self, line: bytes) -> None:
        """Count a line that is not complete: a whole line that cannot be read, or a last one that is cut off."""
        self.torn += not line.isspace()
        if not line.endswith(b"\n"):
            self.cut_files += not line.isspace()
        elif (found := _TORN_ID.search(line)) is not None:
            self.unreadable.add(found[1].decode("utf-8", "replace"))

    def _keep_better(self, custom_id: str, location: _Location) -> None:
        """Keep the better of two lines. The rank of the kept one is remembered, so that each line is read only once."""
        rank = self._ranks.get(custom_id)
        if rank is None:
            rank = _RANK[type(self._read(self._locations[custom_id]))]
        if rank > 0:
            new_rank = _RANK[type(self._read(location))]
            if new_rank < rank:
                self._locations[custom_id], rank = location, new_rank
        self._ranks[custom_id] = rank

    def _read(self, location: _Location) -> LineResult:
        file, offset, length = location
        # Reading through the file object would fill its whole buffer for each line.
        return read_line(os.pread(file.fileno(), length, offset), self._dialect)


def _bounded_lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each line with its length; a longer line than any answer is cut, so that it cannot be read as one."""
    while line := file.readline(MAX_LINE_BYTES):
        length = len(line)
        if length == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while rest := file.readline(MAX_LINE_BYTES):
                length += len(rest)
                if rest.endswith(b"\n"):
                    line = line[:-1] + b"\n"  # its end is there, so it is damaged, not cut off
                    break
        yield line, length


def _lenient_custom_id(line: bytes) -> str | None:
    data = _loads(line)
    custom_id = data.get("custom_id") if isinstance(data, dict) else None
    return custom_id if isinstance(custom_id, str) else None


def _decode_leniently(line: bytes) -> _Line | None:
    """Decode a complete line that is not strict JSON: with a byte order mark, NaN, or escapes of no character."""
    data = _loads(line)
    if not isinstance(data, dict):
        return None
    response = data.get("response")
    if not isinstance(response, dict):
        return _Line(None, data.get("error"))
    try:
        body = json.dumps(response["body"]).encode() if "body" in response else b""
    except RecursionError:
        return None
    return _Line(_Response(response.get("status_code"), msgspec.Raw(body)), data.get("error"))


def _loads(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), strict=False)
    except (ValueError, RecursionError):
        return None


def _from_answer(body: bytes, status: int, dialect: str) -> LineResult:
    try:
        return read_completion(body, status, {}, dialect)
    except ServiceError as error:
        return _unanswered(error, isinstance(error, Refused))


def _from_error(error: Any, response: _Response | None, dialect: str) -> LineResult:
    code, message = code_and_message(error)
    text = one_line(": ".join(filter(None, (code, message)))) or "an error without a message"
    ending, _ = job_state(code.lower().replace("batch", "", 1), dialect)
    if ending == "expired":
        return Leftover("batch_expired", one_line(message) or text, was_run=response is not None)
    if ending == "cancelled":
        return Leftover("batch_lost", one_line(message) or text, was_run=response is not None)
    named = error_from_response(400, {}, text_of({"error": error}).encode("utf-8", "replace"), dialect)
    if named.error_type == "content_filter":
        return Failure("content_filter", text)
    status = None if response is None else _status(response.status_code)
    if response is not None and status is not None and _is_final(status):
        refused = _unanswered(error_from_response(status, {}, _body(response.body), dialect), True)
        return Failure(refused.error_type, one_line(f"HTTP {status}: {text}"))
    return Leftover("server_error", text)


def _unanswered(error: ServiceError, is_final: bool) -> Failure | Leftover:
    message = one_line(str(error))
    if error.error_type == "content_filter":
        return Failure("content_filter", message, error.usage or Usage())
    if is_final:
        return Failure("bad_request", message)
    return Leftover("bad_reply" if isinstance(error, Refused) else error.error_type, message)


def _is_final(status: int) -> bool:
    return 400 <= status < 500 and status not in RETRYABLE_4XX


def _status(value: Any) -> int | None:
    """Return the status as a number: 200 if missing (the body must then be an answer), None if unreadable."""
    if value is None:
        return 200
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if len(digits) == 3 and digits.isascii() and digits.isdigit() else None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1000 and value == int(value)
    return int(value) if whole else None


def _body(raw: msgspec.Raw) -> bytes:
    """Return the body's JSON, unwrapped if the service puts it into a string."""
    body = bytes(raw)
    if not body.startswith(b'"'):
        return body
    try:
        return _string(body).encode()
    except _UNDECODABLE:
        text = _loads(body)
        return text.encode("utf-8", "replace") if isinstance(text, str) else body
