"""A chat completion as the stream of events that `stream: true` asks for."""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"
CHUNK_CHARS = 16


def stream_events(body: dict[str, Any], counts_tokens: bool) -> list[bytes]:
    """Return the events of a chat.completion object, in OpenAI's form.

    Args:
        body: the object.
        counts_tokens: True if the last chunk has the usage (`stream_options: {include_usage: true}`).
    """
    choice, usage = body["choices"][0], body["usage"]
    text: str = choice["message"]["content"]
    head = {key: body[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    pieces = [text[start : start + CHUNK_CHARS] for start in range(0, len(text), CHUNK_CHARS)]
    deltas: list[tuple[dict[str, Any], Any]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces]
    deltas.append(({}, choice["finish_reason"]))
    chunks: list[dict[str, Any]] = [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas
    ]
    if counts_tokens:
        chunks = [{**chunk, "usage": None} for chunk in chunks] + [head | {"choices": [], "usage": usage}]
    return [b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks] + [DONE]
