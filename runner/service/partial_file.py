"""A file that is downloaded in as many pieces as the connection needs.

Connections to large files break, at some services at the same byte each time (openai/openai-python#2959,
openai/openai-java#649). What has arrived is kept, and the next request asks for the rest with `Range` (RFC 9110,
section 14). Pieces are put together at the end of a line, so that a line never mixes two versions of a file; inside a
line only if the service vouches with a strong ETag that it is the same file.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import aiohttp

from runner.core import TEMPORARY_SUFFIX, open_private, put_in_place
from runner.errors import BadReply, ConnectionLost, ReplyTooLarge

DOWNLOAD_CHUNK_BYTES = 1 << 18
MIN_DOWNLOAD_BYTES_PER_SECOND = 1000  # a slower download is broken off

# 416: the range begins at the end of the file.
NO_SUCH_RANGE = 416

_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)")
_NO_RANGE = re.compile(r"bytes \*/(\d{1,15})")


class PartialFile:
    """What has arrived of a file, kept over the attempts to download it.

    Args:
        to: where the file is put once it is whole.
        max_bytes: the most that may arrive, decompressed.

    Attributes:
        path: where the file is put once it is whole.
        size: bytes that have arrived.
        reached: the largest `size` so far; a file that starts over is smaller for a while.
        is_breaking: True if the last attempt broke off inside the file.
        is_slow: True if it did because hardly anything arrived.
    """

    def __init__(self, to: Path, max_bytes: int) -> None:
        self.reached = 0
        self.is_breaking = self.is_slow = False
        self._max_bytes = max_bytes
        self.path = to
        self._temporary = to.with_name(f".{to.name}{TEMPORARY_SUFFIX}")
        self._start_over()

    def next_headers(self) -> dict[str, str]:
        """Return the headers that ask for what is missing. Call this before each attempt."""
        self.is_breaking = self.is_slow = False
        if not self._whole_size:
            return {}
        headers = {"Range": f"bytes={self._whole_size}-", "Accept-Encoding": "identity"}
        return headers if self._etag is None else {**headers, "If-Range": self._etag}

    async def receive(self, response: aiohttp.ClientResponse, pace_seconds: float) -> None:
        """Receive what a 2xx or a 416 has of the file, and put it in place if it is whole.

        Raises ConnectionLost if it is not, BadReply if the response is no part of this file, ReplyTooLarge if it is too
        large, and OSError.

        Args:
            response: the response.
            pace_seconds: over each span of this length, at least MIN_DOWNLOAD_BYTES_PER_SECOND must arrive.
        """
        start = self._place(response)
        if response.status != NO_SUCH_RANGE:
            await self._write(response.content, start, pace_seconds)
        if self._total is not None and self.size < self._total:
            self.is_breaking = True
            raise ConnectionLost(f"the download ended after {self.progress}")
        put_in_place(self._temporary, self.path)

    def discard(self) -> None:
        """Remove what has arrived. Raises OSError."""
        self._temporary.unlink(missing_ok=True)

    def keep_whole_lines(self) -> bool:
        """Put the lines in place that arrived whole; returns False if there are none. Raises OSError."""
        if not self._line_end:
            return False
        with self._temporary.open("r+b") as file:
            file.truncate(self._line_end)
        put_in_place(self._temporary, self.path)
        return True

    @property
    def progress(self) -> str:
        """How much has arrived, as text: `1,500 of 2,724 bytes`."""
        return f"{self.size:,} bytes" if self._total is None else f"{self.size:,} of {self._total:,} bytes"

    @property
    def _whole_size(self) -> int:
        """Bytes that the next piece may be appended to."""
        return self.size if self._etag is not None else self._line_end

    def _start_over(self) -> None:
        self.size = self._line_end = 0
        self._total: int | None = None
        self._etag: str | None = None

    def _place(self, response: aiohttp.ClientResponse) -> int:
        """Return the offset at which this response continues the file; raises BadReply if it does not continue it."""
        if response.content_type == "text/html":
            raise BadReply("a web page instead of the file", status=response.status)
        if response.status not in (206, NO_SUCH_RANGE):
            self._start_over()
            if "Content-Encoding" not in response.headers:
                etag = response.headers.get("ETag", "")
                self._etag = etag if etag.startswith('"') else None
                self._total = response.content_length
            return 0
        asked, known_total = self._whole_size, self._total
        if response.status == 206 and self._etag is not None and "ETag" not in response.headers:
            self._etag = None  # the next attempt begins at the end of a line
            raise BadReply("a piece of the file without its ETag", status=206)
        start, total = _range_of(response)
        if response.status == NO_SUCH_RANGE:
            fits = total == asked == self.size
        else:
            fits = start == asked and (total is None or known_total in (None, total))
            fits = fits and self._etag in (None, response.headers.get("ETag"))
        if not fits:
            self._start_over()
            raise BadReply("no continuation of the file that was begun", status=response.status)
        self._total = known_total if total is None else total
        return asked

    async def _write(self, content: aiohttp.StreamReader, start: int, pace_seconds: float) -> None:
        self.size, self._line_end = start, min(start, self._line_end)
        with open_private(self._temporary, "r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            watch = _Pace(pace_seconds, start)
            try:
                async for chunk in content.iter_chunked(DOWNLOAD_CHUNK_BYTES):
                    if self.size + len(chunk) > self._max_bytes:
                        raise ReplyTooLarge(f"the file has more than {self._max_bytes:,} bytes; it is not read")
                    file.write(chunk)
                    self._count(chunk)
                    if watch.is_too_slow(self.size):
                        self.is_breaking = self.is_slow = True
                        pace = f"less than {MIN_DOWNLOAD_BYTES_PER_SECOND:,} bytes/s arrived"
                        raise ConnectionLost(f"{pace}, after {self.progress} of the file")
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                rest = _rest_of(content)
                file.write(rest)
                self._count(rest)
                self.is_breaking = True
                why = "no data arrived any more" if isinstance(error, TimeoutError) else "the connection broke"
                raise ConnectionLost(f"{why} after {self.progress} of the file") from None

    def _count(self, chunk: bytes) -> None:
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            self._line_end = self.size + newline + 1
        self.size += len(chunk)
        self.reached = max(self.reached, self.size)


class _Pace:
    """Watches how fast a file grows.

    Args:
        seconds: the length of each span.
        size: bytes at the start.
    """

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._began, self._size = time.monotonic(), size

    def is_too_slow(self, size: int) -> bool:
        """Return True if a span has passed in which too little arrived."""
        now = time.monotonic()
        seconds, grown = now - self._began, size - self._size
        if seconds < self._seconds:
            return False
        self._began, self._size = now, size
        return grown < seconds * MIN_DOWNLOAD_BYTES_PER_SECOND


def _rest_of(content: aiohttp.StreamReader) -> bytes:
    """Return what had arrived before the connection broke: aiohttp raises the break before it gives these bytes."""
    with suppress(Exception):  # a private method; without it, a few kilobytes are downloaded again
        return bytes(content._read_nowait(-1))
    return b""


def _range_of(response: aiohttp.ClientResponse) -> tuple[int | None, int | None]:
    """Return where the piece in a 206 begins, and the size of the whole file; None for what is unknown or unusable."""
    value = response.headers.get("Content-Range", "")
    if response.status == NO_SUCH_RANGE:
        found = _NO_RANGE.fullmatch(value)
        return None, None if found is None else int(found[1])
    found = _RANGE.fullmatch(value)
    if found is None or "Content-Encoding" in response.headers:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])
