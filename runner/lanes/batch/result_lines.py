"""What a line of a batch's result files means, and where the line of each request stands. Nothing is kept decoded.

No service promises an order, a file for each kind of line, or that a count is right: an answer is a line with status
200, without an error and with a whole completion in it, in whichever file it stands.
"""

from __future__ import annotations

import json
import mmap
import os
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from runner.errors import Refused, ServiceError
from runner.lanes.batch.job_status import meaning, one_line, text_of, told
from runner.service import Completion, answer_in, error_from, excerpt, read_completion
from runner.types import Failure, JudgeResponse

AGAIN_STATUS = frozenset({408, 409, 429})
"""The 4xx of a line that leave its request open; every other one settles it."""

NOTHING: tuple[Any, ...] = (None, "", {})
"""What services write where there is no error: PAI fills other nulls with empty texts too."""

_BUFFER = 1 << 18
_FORGET = 1 << 24
"""After so many bytes, what was looked at is given back: until then it counts as this process's memory."""

_LENGTH = 32
_START = 48


class Leftover(msgspec.Struct, frozen=True, gc=False):
    """Why a batch left a request unanswered that may be asked again: a transient `error_type` and what was seen.

    `was_run` is False where the service says that it never came to run it.
    """

    error_type: str
    message: str
    was_run: bool = True


LineResult = JudgeResponse | Failure | Leftover

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


class _Named(msgspec.Struct, gc=False):
    custom_id: str


_line = msgspec.json.Decoder(_Line).decode
_usual_line = msgspec.json.Decoder(_UsualLine).decode
_named = msgspec.json.Decoder(_Named).decode
_string = msgspec.json.Decoder(str).decode
_ODD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_line(line: bytes, dialect: str = "pai") -> LineResult:
    """Tell what one line of an output or error file means; any bytes mean something."""
    return _usual(line) or _any(line, dialect)


def _usual(line: bytes) -> JudgeResponse | None:
    """The answer of a line as nearly all are, decoded in one go; None where the general rules must say."""
    try:
        found = _usual_line(line)
    except _ODD:
        return None
    if found.response.status_code != 200 or found.error not in NOTHING:
        return None
    return answer_in(found.response.body, line)


def _any(line: bytes, dialect: str) -> LineResult:
    try:
        found = _line(line)
    except _ODD:
        odd = _lenient(line)
        if odd is None:
            return Leftover("bad_reply", f"not a result line: {excerpt(line)}")
        found = odd
    response = found.response
    if found.error not in NOTHING:
        return _from_error(found.error, response, dialect)
    if response is None:
        return Leftover("bad_reply", f"a result line without a response: {excerpt(line)}")
    status = _status(response.status_code)
    if status == 200:
        return _from_answer(_body(response.body))
    if status is None:
        return Leftover("bad_reply", one_line(f"an unreadable status_code: {text_of(response.status_code)}"))
    return _unanswered(error_from(status, {}, _body(response.body), dialect), _settles(status))


class ResultFiles:
    """The downloaded files of one batch, each line found by its custom_id; a context manager.

    Entering reads every line once. Where a custom_id has several lines, an answer counts before a failure and that
    before a leftover, else the first of them.

    Args:
        paths: the output and error files there are; they may be empty.
        wanted: the custom_ids of the shard.
        dialect: of the service.

    Attributes:
        torn: lines that are not whole JSON with a custom_id.
        strangers: lines whose custom_id nobody asked for.
        doubled: further lines of a custom_id.
    """

    def __init__(self, paths: Sequence[Path], wanted: Container[str], dialect: str) -> None:
        self.torn = 0
        self.strangers = 0
        self.doubled = 0
        self._paths = paths
        self._wanted = wanted
        self._dialect = dialect
        self._maps: list[mmap.mmap | bytes] = []
        self._looked = 0
        self._places: dict[str, int] = {}
        self._ranks: dict[str, int] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for number, path in enumerate(self._paths):
                file = opened.enter_context(path.open("rb", buffering=_BUFFER))
                self._maps.append(opened.enter_context(_mapped(file)))
                self._index(number, file)
            self._closing = opened.pop_all()
        self._ranks.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def find(self, custom_id: str) -> LineResult | None:
        """What the files say of a request; None where no line of them names it."""
        place = self._places.get(custom_id)
        return None if place is None else self._read(place)

    def _index(self, number: int, file: BinaryIO) -> None:
        places, wanted = self._places, self._wanted
        start = number << _START
        for line in file:
            place = start << _LENGTH | len(line)
            start += len(line)
            try:
                custom_id: str | None = _named(line).custom_id
            except _ODD:
                custom_id = _odd_custom_id(line)
            if custom_id is None:
                self.torn += not line.isspace()
            elif custom_id not in wanted:
                self.strangers += 1
            elif custom_id in places:
                self.doubled += 1
                self._prefer(custom_id, place)
            else:
                places[custom_id] = place

    def _prefer(self, custom_id: str, place: int) -> None:
        """Keep the better of two lines; how good the kept one is stays known, so that each line is read once."""
        rank = self._ranks.get(custom_id)
        if rank is None:
            rank = _RANK[type(self._read(self._places[custom_id]))]
        if rank > 0:
            other = _RANK[type(self._read(place))]
            if other < rank:
                self._places[custom_id], rank = place, other
        self._ranks[custom_id] = rank

    def _read(self, place: int) -> LineResult:
        where, length = place >> _LENGTH, place & ((1 << _LENGTH) - 1)
        content, start = self._maps[where >> _START], where & ((1 << _START) - 1)
        line = content[start : start + length]
        self._looked += length
        if self._looked > _FORGET and isinstance(content, mmap.mmap):
            content.madvise(mmap.MADV_DONTNEED)
            self._looked = 0
        return read_line(line, self._dialect)


@contextmanager
def _mapped(file: BinaryIO) -> Iterator[mmap.mmap | bytes]:
    """A file's content without reading it: reading each line on its own would hand the interpreter over each time."""
    if os.fstat(file.fileno()).st_size == 0:
        yield b""
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _odd_custom_id(line: bytes) -> str | None:
    data = _loads(line)
    custom_id = data.get("custom_id") if isinstance(data, dict) else None
    return custom_id if isinstance(custom_id, str) else None


def _lenient(line: bytes) -> _Line | None:
    """Read what is whole but odd: a mark at the start of the file, NaN, escapes that stand for no character."""
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


def _from_answer(body: bytes) -> LineResult:
    try:
        return read_completion(body)
    except ServiceError as error:
        return _unanswered(error, isinstance(error, Refused))


def _from_error(error: Any, response: _Response | None, dialect: str) -> LineResult:
    code, message = told(error)
    said = one_line(": ".join(filter(None, (code, message)))) or "an error without a word"
    ending, _ = meaning(code.lower().replace("batch", "", 1), dialect)
    if ending == "expired":
        return Leftover("batch_expired", one_line(message) or said, was_run=response is not None)
    if ending == "cancelled":
        return Leftover("batch_lost", one_line(message) or said, was_run=response is not None)
    named = error_from(400, {}, text_of({"error": error}).encode("utf-8", "replace"), dialect)
    if named.error_type == "content_filter":
        return Failure("content_filter", said)
    status = None if response is None else _status(response.status_code)
    if response is not None and status is not None and _settles(status):
        refused = _unanswered(error_from(status, {}, _body(response.body), dialect), True)
        return Failure(refused.error_type, one_line(f"HTTP {status}: {said}"))
    return Leftover("server_error", said)


def _unanswered(error: ServiceError, settled: bool) -> Failure | Leftover:
    message = one_line(str(error))
    if error.error_type == "content_filter":
        return Failure("content_filter", message)
    if settled:
        return Failure("bad_request", message)
    return Leftover("bad_reply" if isinstance(error, Refused) else error.error_type, message)


def _settles(status: int) -> bool:
    return 400 <= status < 500 and status not in AGAIN_STATUS


def _status(value: Any) -> int | None:
    """The status as a number, 200 where it is missing (the body must then be an answer), None where it is neither."""
    if value is None:
        return 200
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if len(digits) == 3 and digits.isascii() and digits.isdigit() else None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1000 and value == int(value)
    return int(value) if whole else None


def _body(raw: msgspec.Raw) -> bytes:
    """The body's own JSON, also where a service wraps it into a string."""
    body = bytes(raw)
    if not body.startswith(b'"'):
        return body
    try:
        return _string(body).encode()
    except _ODD:
        text = _loads(body)
        return text.encode("utf-8", "replace") if isinstance(text, str) else body


def ends_whole(path: Path) -> bool:
    """Whether a file of lines was not cut off in the middle of its last one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        if size == 0 or file.read(1) == b"\n":
            return True
        file.seek(0)
        last = deque(file, maxlen=1).pop()
    try:
        msgspec.json.decode(last)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
