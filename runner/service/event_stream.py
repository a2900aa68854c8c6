"""Put the text of a chat completion together that arrives as a stream of events (`text/event-stream`).

The form is that of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): lines
`field: value`, a blank line behind each event, comments that begin with `:`. The data of an event is a chunk of the
completion as JSON, and the last one is `[DONE]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import BadReply
from runner.service.bodies import body_excerpt, load_json
from runner.service.message_text import THOUGHT_FIELDS

# Asks for a stream, and for the token counts in its last chunk.
_STREAM = b',"stream":true}'
_STREAM_WITH_USAGE = b',"stream":true,"stream_options":{"include_usage":true}}'
_STREAM_OPTIONS = re.compile(rb'"stream_options"\s*:')  # inside a JSON text, its quotes would be escaped

_BEGINS_LIKE_EVENTS = re.compile(rb"\s*(?:data|event|id|retry)?:")
_END_OF_LINE = re.compile(rb"\r\n|\n|\r")
_DONE = b"[DONE]"
_TEXTS = ("content", "refusal", *THOUGHT_FIELDS)  # of a message


def as_streaming(body: bytes) -> bytes:
    """Return a chat body that asks for a stream; `stream_options` of the judge's own parameters are kept."""
    return body.rstrip()[:-1] + (_STREAM if _STREAM_OPTIONS.search(body) else _STREAM_WITH_USAGE)


def is_event_stream(raw: bytes) -> bool:
    """Return True if the body of a response looks like a stream of events."""
    return _BEGINS_LIKE_EVENTS.match(raw.removeprefix(b"\xef\xbb\xbf")) is not None


def joined_completion(raw: bytes) -> bytes:
    """Return the chat completion whose chunks are in a stream, as the JSON of a reply that is not streamed.

    Raises:
        BadReply: the stream ended before its answer did, or contains something else.
    """
    answer = _Answer()
    is_done = False
    for name, data in _events(raw.removeprefix(b"\xef\xbb\xbf")):
        if data == _DONE:
            is_done = True
            break
        answer.add(name, load_json(data))
    if not answer.is_started:
        raise BadReply(f"an event stream without an answer: {body_excerpt(raw)}", status=200, is_foreign=True)
    if not (is_done or answer.is_finished):
        raise BadReply("the event stream broke off before the end of the answer", status=200, is_answer=True)
    # Half a surrogate pair in each of two chunks is one character: escapes in the JSON put it together again.
    return json.dumps(answer.completion()).encode()


class _Answer:
    """The chunks of one completion so far."""

    def __init__(self) -> None:
        self.is_started = False
        self.is_finished = False
        self._top: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._texts: dict[str, list[Any]] = {}
        self._message: dict[str, Any] = {}

    def add(self, event: bytes, chunk: Any) -> None:
        """Add one chunk; what is no chunk is the error that the service sends in its place."""
        if not isinstance(chunk, Mapping):
            raise BadReply(f"an event that is not a part of an answer: {body_excerpt(json.dumps(chunk).encode())}")
        self.is_started = True
        error = chunk.get("error") or (chunk if event == b"error" or _is_bare_error(chunk) else None)
        if error:
            self._top["error"], self.is_finished = error, True
        for key in ("id", "model", "usage"):
            if chunk.get(key) is not None:
                self._top[key] = chunk[key]
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping) and choice.get("index", 0) in (0, None):
                self._add_choice(choice)

    def completion(self) -> dict[str, Any]:
        """Return the whole completion; without a choice if no text but an error arrived."""
        if "error" in self._top and not (self._texts or self._message):
            return {"error": self._top["error"]}
        message = {**self._message, **{name: _joined(parts) for name, parts in self._texts.items()}}
        return {**self._top, "choices": [{**self._choice, "message": message}]}

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        self._choice.setdefault("index", 0)
        for key in ("finish_reason", "error"):
            if choice.get(key):
                self._choice[key] = choice[key]
                self.is_finished = True
        if choice.get("usage") is not None:  # Moonshot counts in the choice
            self._top["usage"] = choice["usage"]
        if isinstance(choice.get("message"), Mapping):  # some services send the whole message in the last chunk
            self._message = dict(choice["message"])
        delta = choice.get("delta")
        if isinstance(delta, Mapping):
            for name in _TEXTS:
                if delta.get(name):
                    self._texts.setdefault(name, []).append(delta[name])


def _is_bare_error(chunk: Mapping[str, Any]) -> bool:
    """Return True for Alibaba Cloud's form of an error: code and message without choices."""
    return "choices" not in chunk and bool(chunk.get("code")) and "message" in chunk


def _joined(parts: list[Any]) -> Any:
    """Join the parts of a text; a list of parts stays one (services that send thoughts as parts of their own)."""
    if all(isinstance(part, str) for part in parts):
        return "".join(parts)
    return [item for part in parts for item in (part if isinstance(part, list) else [part])]


def _events(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the data of each event; the last one may lack its blank line."""
    name = b""
    lines: list[bytes] = []
    for line in (*_END_OF_LINE.split(raw), b""):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data" and (value or lines):
            lines.append(value)
        elif not line:
            yield from ((name, data) for data in _data_of(lines))
            name, lines = b"", []


def _data_of(lines: list[bytes]) -> list[bytes]:
    """Return the data of one event; some services forget the blank lines, so that each line is an event of its own."""
    if len(lines) < 2 or not all(line == _DONE or _is_json(line) for line in lines):
        return [b"\n".join(lines)] if lines else []
    return lines


def _is_json(line: bytes) -> bool:
    try:
        load_json(line)
    except BadReply:
        return False
    return True
