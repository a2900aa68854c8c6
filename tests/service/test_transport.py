"""The short way of chat calls over real sockets: the same on the wire as aiohttp's own, and nothing mixed up."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from raw_server import ANSWER, BODY, Call, Handler, answering, client, hang, response, serving
from yarl import URL

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.service import transport
from runner.service.transport import DirectTransport, TransportUnsupported

pytestmark = pytest.mark.anyio

HEADERS = CIMultiDict({"Content-Type": "application/json", "Authorization": "Bearer tok", "X-Scope": "team-7"})


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def posting_to(url: str, total: float = 30.0) -> AsyncIterator[DirectTransport]:
    timeout = aiohttp.ClientTimeout(total=total, sock_connect=5)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS, timeout=timeout) as session:
        poster = DirectTransport(session, URL(f"{url}/chat/completions"), session.headers, timeout)
        yield poster
        poster.close()


async def until(true: Callable[[], bool]) -> None:
    """Let the loop go on until something is true, which nothing here could wait for otherwise."""
    for _ in range(100_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was")


class Counting:
    """A handler that counts the connections, and says which one each call came over."""

    def __init__(self, handler: Handler) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.over: list[int] = []
        self._handler = handler

    async def __call__(self, call: Call, writer: asyncio.StreamWriter) -> None:
        if writer not in self.writers:
            self.writers.append(writer)
        self.over.append(self.writers.index(writer))
        await self._handler(call, writer)


async def test_the_same_on_the_wire_as_the_session() -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        async with posting_to(server.url) as poster:
            short = await poster.post(BODY)
        url, timeout = f"{server.url}/chat/completions", aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(headers=HEADERS, timeout=timeout) as session,
            session.post(url, data=BODY) as reply,
        ):
            long = reply.status, reply.headers, await reply.read()
    assert short == long
    one, other = server.calls
    assert (one.line, one.body) == (other.line, other.body)
    assert one.headers == other.headers
    assert len(one.names) == len(set(one.names))


@pytest.mark.parametrize("path", ["/v1", "/a b/v1", "/评/v1", "/x%2Fy/v1"])
async def test_the_path_goes_out_as_the_session_writes_it(path: str) -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        base = server.url.removesuffix("/v1") + path
        async with posting_to(base) as poster:
            await poster.post(BODY)
        async with aiohttp.ClientSession() as session, session.post(URL(f"{base}/chat/completions"), data=BODY):
            pass
    assert server.calls[0].line == server.calls[1].line


async def test_one_connection_serves_one_request_after_the_other() -> None:
    handler = Counting(answering(response(200, ANSWER)))
    async with serving(handler) as server, posting_to(server.url) as poster:
        for _ in range(5):
            assert (await poster.post(BODY))[2] == ANSWER
        await asyncio.gather(*(poster.post(BODY) for _ in range(3)))
    assert handler.over[:5] == [0] * 5
    assert sorted(handler.over[5:]) == [0, 1, 2]


@pytest.mark.parametrize(
    "last",
    [
        response(200, ANSWER, "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
        response(200, ANSWER) + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["close", "old", "unasked"],
)
async def test_a_connection_that_is_done_with_is_not_used_again(last: bytes) -> None:
    handler = Counting(answering(response(200, ANSWER), last, response(200, ANSWER)))
    async with serving(handler) as server, posting_to(server.url) as poster:
        for _ in range(3):
            status, _, raw = await poster.post(BODY)
            assert (status, raw) == (200, ANSWER)
    assert handler.over == [0, 0, 1]


async def test_an_answer_nobody_asked_for_is_nobodys() -> None:
    handler = Counting(answering(response(200, ANSWER)))
    async with serving(handler) as server, posting_to(server.url) as poster:
        await poster.post(BODY)
        handler.writers[0].write(response(408, b"too slow"))
        await handler.writers[0].drain()
        await until(lambda: _resting(poster).should_close)
        assert (await poster.post(BODY))[2] == ANSWER
    assert handler.over == [0, 1]


async def test_a_connection_that_the_service_closed_is_not_used_again() -> None:
    async def closing(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, ANSWER))
        writer.close()

    async with serving(closing) as server, posting_to(server.url) as poster:
        await poster.post(BODY)
        await until(lambda: not _resting(poster).is_connected())
        assert (await poster.post(BODY))[2] == ANSWER
    assert len(server.calls) == 2


async def test_a_connection_that_rested_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Counting(answering(response(200, ANSWER)))
    async with serving(handler) as server, posting_to(server.url) as poster:
        await poster.post(BODY)
        monkeypatch.setattr(transport, "IDLE_MAX_SECONDS", -1.0)
        await poster.post(BODY)
    assert handler.over == [0, 1]


async def test_a_service_that_answers_before_it_has_read_everything() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(413, b"too large"))
        await writer.drain()
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    listener = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1 << 12)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    async with posting_to(url) as poster:
        for _ in range(2):
            assert (await poster.post(b"x" * 50_000_000))[0] == 413
    gone.set()
    listener.close()


async def test_answers_on_the_way_are_passed_over() -> None:
    before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with serving(answering(before + response(200, ANSWER))) as server, posting_to(server.url) as poster:
        assert (await poster.post(BODY))[0] == 200


@pytest.mark.parametrize("head", [b"", b"Transfer-Encoding: chunked\r\n"], ids=["until the end", "chunked"])
async def test_a_body_of_unknown_length(head: bytes) -> None:
    async def slowly(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for size in (1, 70_000, 300_000):
            chunk = b"y" * size
            writer.write(b"%x\r\n%b\r\n" % (size, chunk) if head else chunk)
            await writer.drain()
        if head:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()

    async with serving(slowly) as server, posting_to(server.url) as poster:
        for _ in range(2):
            assert (await poster.post(BODY))[2] == b"y" * 370_001


async def test_only_the_late_are_broken_off() -> None:
    waiting = asyncio.Event()

    async def sometimes(call: Call, writer: asyncio.StreamWriter) -> None:
        if call.body == b"hang":
            await hang(call, writer)
        elif call.body == b"endless":  # no length: the end of the connection would be the end of the body
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(30)
        elif call.body == b"wait":
            await waiting.wait()
        writer.write(response(200, ANSWER))

    async with serving(sometimes) as server, posting_to(server.url, total=0.3) as poster:
        began = asyncio.get_running_loop().time()
        first = [asyncio.ensure_future(poster.post(body)) for body in (b"hang", b"endless", BODY)]
        await asyncio.sleep(0.15)
        second = asyncio.ensure_future(poster.post(b"wait"))
        came = await asyncio.gather(*first, return_exceptions=True)
        took = asyncio.get_running_loop().time() - began
        waiting.set()
        assert (await second)[2] == ANSWER
        with pytest.raises(TimeoutError):
            await poster.post(b"hang")
    assert [type(one) for one in came] == [TimeoutError, TimeoutError, tuple]
    assert 0.28 < took < 2


async def test_a_cancelled_request_leaves_its_connection_to_nobody() -> None:
    handler = Counting(answering(response(200, ANSWER)))
    waits = Counting(hang)
    async with serving(waits) as slow, posting_to(slow.url) as poster:
        asking = asyncio.ensure_future(poster.post(BODY))
        await until(lambda: bool(waits.over))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not poster._resting
    async with serving(handler) as server, posting_to(server.url) as poster:
        await poster.post(BODY)
        asking = asyncio.ensure_future(poster.post(BODY))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await poster.post(BODY))[2] == ANSWER


async def test_nothing_is_left_open() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with serving(answering(response(200, ANSWER))) as server, posting_to(server.url) as poster:
            await asyncio.gather(*(poster.post(BODY) for _ in range(20)))
        gc.collect()
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []


def another_request(*_: Any, **__: Any) -> Any:
    raise TypeError("another signature")


async def another_connect(self: Any, request: Any) -> Any:
    raise AssertionError("not reached: the signature does not fit")


@pytest.mark.parametrize(
    ("holder", "name", "other"),
    [
        (aiohttp, "ClientRequest", another_request),
        (aiohttp.TCPConnector, "connect", another_connect),
        (ResponseHandler, "set_response_params", lambda self, *, other: None),
        (ResponseHandler, "is_connected", None),
    ],
    ids=["request", "connect", "parameters", "protocol"],
)
async def test_another_aiohttp_is_met_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, other: Any
) -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        monkeypatch.setattr(holder, name, other)
        with pytest.raises(TransportUnsupported):
            async with posting_to(server.url) as poster:
                await poster.post(BODY)
    assert server.calls == []


async def test_without_the_seam_the_client_posts_through_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[str] = []
    kept = aiohttp.ClientSession.post

    def watched(self: aiohttp.ClientSession, url: Any, **options: Any) -> Any:
        ways.append("session")
        return kept(self, url, **options)

    def no_request(*_: Any) -> Any:
        raise TransportUnsupported

    monkeypatch.setattr(aiohttp.ClientSession, "post", watched)
    async with serving(answering(response(200, ANSWER))) as server:
        async with client(server.url) as judge:
            await judge.chat(BODY)
        assert ways == []
        monkeypatch.setattr(transport, "_look_at", no_request)
        async with client(server.url) as judge:
            answers = await asyncio.gather(*(judge.chat(BODY) for _ in range(5)))
    assert [answer.text for answer in answers] == ["[[4]]"] * 5
    assert ways == ["session"] * 5
    assert len(server.calls) == 6


async def test_the_emulator_answers_both_ways_alike() -> None:
    text = ",".join(f'"{name}":"{name} of a sample"' for name in ("question", "answer1", "answer2"))
    part = '{"mode":"pairwise","type":"json","json":{' + text + "}}"
    bodies = [
        f'{{"model":"pai-judge","seed":{seed},"messages":[{{"role":"user","content":[{part}]}}]}}'.encode()
        for seed in range(40)
    ]
    async with await start(EmulatorOptions()) as emulator:
        async with posting_to(f"{emulator.url}/v1") as poster:
            short = await asyncio.gather(*(poster.post(body) for body in bodies))
        async with aiohttp.ClientSession() as session:
            for body, (status, _, raw) in zip(bodies, short, strict=True):
                async with session.post(f"{emulator.url}/v1/chat/completions", data=body) as reply:
                    assert (status, _told(raw)) == (reply.status, _told(await reply.read()))


def _told(raw: bytes) -> bytes:
    """The answer itself: ids and times differ between two askings."""
    return raw[raw.index(b'"choices"') :]


def _resting(poster: DirectTransport) -> ResponseHandler:
    protocol = poster._resting[0][0].protocol
    assert protocol is not None
    return protocol
