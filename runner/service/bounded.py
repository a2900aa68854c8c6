"""Read the body of a reply up to a number of bytes: what a service sends has no end by itself."""

from __future__ import annotations

import aiohttp

from runner.errors import ReplyTooLarge


async def read_bounded(content: aiohttp.StreamReader, max_bytes: int, *, is_error: bool = False) -> bytes:
    """Read a body, decompressed, to its end.

    aiohttp decompresses in steps and reads no more while a step waits, so that memory stays near `max_bytes`.

    Args:
        content: the body.
        max_bytes: the most that is read.
        is_error: True if only what fits counts, and the rest is left: the status of an error says enough.

    Raises:
        ReplyTooLarge: it is larger.
    """
    chunks, size = [], 0
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            if is_error:
                break
            raise too_large(max_bytes)
    return b"".join(chunks)[:max_bytes]


def too_large(max_bytes: int) -> ReplyTooLarge:
    """Return the error for a reply of more bytes."""
    return ReplyTooLarge(f"a reply of more than {max_bytes // 1_000_000:,} MB (service.max_reply_mb); it is not read")
