"""Replies without an end: every one is left after `service.max_reply_mb`, and memory stays near that."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_server
from raw_server import ANSWER, BODY, Call, Handler, client, failure, response, serving

from runner.errors import BadReply, ConnectionLost, Fatal, ReplyTooLarge, ServiceError
from runner.service import PartialFile, partial_file
from runner.service.transport import SessionTransport
from runner.service.transport_direct import MAX_INTERIM_RESPONSES, DirectTransport

pytestmark = pytest.mark.anyio

ONE_MB = 1_000_000
SECONDS = 20  # until the test fails


@pytest.fixture(params=[DirectTransport, SessionTransport], autouse=True)
def both_transports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_server, "transport_factory", request.param)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Endless:
    """Sends the same bytes until nobody reads them any more; counts them."""

    def __init__(self, head: bytes, repeated: bytes) -> None:
        self.sent = 0
        self._head, self._repeated = head, repeated

    async def __call__(self, _: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head)
        while not writer.is_closing():
            writer.write(self._repeated)
            await writer.drain()
            self.sent += len(self._repeated)


def endless(status: str) -> Endless:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Endless(head.encode(), chunk(b" " * 65_536))


async def test_an_answer_without_an_end_is_left() -> None:
    async with serving(service := endless("200 OK")) as server, asyncio.timeout(SECONDS):
        error = await failure(server.url, max_reply_mb=1)
    assert isinstance(error, ReplyTooLarge)
    assert "more than 1 MB (service.max_reply_mb)" in str(error)
    assert error.is_answer
    assert service.sent < 10 * ONE_MB


async def test_the_status_of_an_error_without_an_end_counts() -> None:
    async with serving(endless("401 Unauthorized")) as server, asyncio.timeout(SECONDS):
        error = await failure(server.url, max_reply_mb=1)
    assert isinstance(error, Fatal)
    assert (error.reason, error.status) == ("authentication", 401)


async def test_a_whole_reply_that_is_too_large_is_none() -> None:
    replies = raw_server.answering(response(200, ANSWER + b" " * ONE_MB), response(200, ANSWER))
    async with serving(replies) as server, client(server.url, max_reply_mb=1) as judge:
        with pytest.raises(ReplyTooLarge):
            await judge.chat(BODY)
        assert (await judge.chat(BODY)).text == "[[4]]"


def bomb(encoding: str, size: int) -> Iterator[bytes]:
    """Yield a compressed reply of `size` bytes that decompress to a thousand times as much."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    yield f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    block, sent = b" " * ONE_MB, 0
    while sent < size:
        if data := compressor.compress(block):
            sent += len(data)
            yield chunk(data)
    yield chunk(compressor.flush()) + b"0\r\n\r\n"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_reply_is_decompressed_in_steps(encoding: str) -> None:
    parts = b"".join(bomb(encoding, 200_000))  # of 200 MB

    async def send(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(parts)

    async with serving(send) as server, asyncio.timeout(SECONDS):
        tracemalloc.start()
        try:
            error = await failure(server.url, max_reply_mb=4)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(error, ReplyTooLarge)
    assert peak < 40 * ONE_MB


async def test_interim_responses_without_an_end() -> None:
    if raw_server.transport_factory is SessionTransport:
        pytest.skip("aiohttp's own loop; the time limit of the request ends it")
    interim = Endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10)
    async with serving(interim) as server, asyncio.timeout(SECONDS):
        error = await failure(server.url)
    assert isinstance(error, BadReply)
    assert f"more than {MAX_INTERIM_RESPONSES} interim responses (103)" in str(error)


async def test_other_calls_are_bounded_too() -> None:
    async with serving(endless("200 OK")) as server, client(server.url, max_reply_mb=1) as judge:
        with pytest.raises(ReplyTooLarge):
            await judge.call("GET", "/batches/b-1")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def download(handler: Handler, to: Path, max_bytes: int, **section: object) -> tuple[ServiceError, PartialFile]:
    """Return the error with which a download fails, and what has arrived."""
    file = PartialFile(to, max_bytes)
    async with serving(handler) as server, asyncio.timeout(SECONDS), client(server.url, **section) as judge:
        with pytest.raises(ServiceError) as caught:
            await judge.download("/files/f/content", file)
    return caught.value, file


async def test_a_file_without_an_end_is_left(tmp_path: Path) -> None:
    error, file = await download(endless("200 OK"), tmp_path / "out", 3 * ONE_MB)
    assert isinstance(error, ReplyTooLarge)
    assert "more than 3,000,000 bytes" in str(error)
    assert file.size <= 3 * ONE_MB
    file.discard()
    assert names(tmp_path) == []


async def test_a_file_that_hardly_arrives_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_file, "MIN_DOWNLOAD_BYTES_PER_SECOND", 10_000)

    async def drip(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 10)
            await writer.drain()
            await asyncio.sleep(0.02)

    error, file = await download(drip, tmp_path / "out", ONE_MB, timeout={"total": 0.2})
    assert isinstance(error, ConnectionLost)
    assert "less than 10,000 bytes/s arrived" in str(error)
    assert (file.is_slow, file.is_breaking) == (True, True)
