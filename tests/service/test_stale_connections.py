"""Services that close a connection after a reply and do not announce it: what was sent on it is sent again."""

from __future__ import annotations

import asyncio
import gc

import aiohttp
import pytest
import raw_server
from raw_server import ANSWER, BODY, Call, Server, client, response, serving

from runner.errors import ConnectionLost, StaleConnection, TimedOut
from runner.service import Client
from runner.service.transport import (
    MAX_STALE_CONNECTIONS,
    NO_REUSE_SECONDS,
    REPLIES_PER_STALE_CONNECTION,
    ConnectionReuse,
    SessionTransport,
    TransportFactory,
)
from runner.service.transport_direct import DirectTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True, params=[DirectTransport, SessionTransport], ids=["direct", "session"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TransportFactory:
    factory: TransportFactory = request.param
    monkeypatch.setattr(raw_server, "transport_factory", factory)
    return factory


class Closing:
    """A handler that answers the first request of a connection and ends the connection at the second one.

    It ends a connection at once if the client asks for that, and says so.
    """

    def __init__(self, before: bytes = b"") -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self._before = before

    async def __call__(self, call: Call, writer: asyncio.StreamWriter) -> None:
        is_first = writer not in self.connections
        self.connections.append(writer)
        as_asked = ["Connection: close"] if call.headers.get("connection") == "close" else []
        writer.write(response(200, ANSWER, *as_asked) if is_first else self._before)
        await writer.drain()
        if as_asked or not is_first:
            writer.close()


async def until_answered(judge: Client) -> int:
    """Send a request until it is answered; return how often it found a stale connection."""
    for stale in range(100):
        try:
            assert (await judge.chat(BODY)).text == "[[4]]"
        except StaleConnection:
            continue
        return stale
    raise AssertionError("only stale connections")


async def test_a_reused_connection_that_ends_before_the_reply_is_stale() -> None:
    handler = Closing()
    async with serving(handler) as server, client(server.url) as judge:
        assert await until_answered(judge) == 0
        assert await until_answered(judge) == 1


async def test_after_a_few_stale_connections_none_is_reused() -> None:
    handler = Closing()
    async with serving(handler) as server, client(server.url) as judge:
        stale = [await until_answered(judge) for _ in range(30)]
        gc.collect()
    assert sum(stale) == MAX_STALE_CONNECTIONS
    assert len(set(handler.connections)) == 30


async def test_connections_are_reused_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.service.transport.NO_REUSE_SECONDS", 0.0)
    async with serving(Closing()) as server, client(server.url) as judge:
        stale = [await until_answered(judge) for _ in range(30)]
    assert sum(stale) > MAX_STALE_CONNECTIONS


async def test_a_new_connection_that_ends_before_the_reply_is_lost() -> None:
    async def close(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(close) as server, client(server.url) as judge:
        for _ in range(MAX_STALE_CONNECTIONS + 1):
            with pytest.raises(ConnectionLost) as caught:
                await judge.chat(BODY)
            assert not isinstance(caught.value, StaleConnection)


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["head", "body", "interim"],
)
async def test_a_reply_that_has_begun_shows_that_the_service_had_the_request(
    begun: bytes, transport: TransportFactory
) -> None:
    if transport is SessionTransport and begun.startswith(b"HTTP/1.1 100"):
        pytest.skip("aiohttp does not show interim replies")
    async with serving(Closing(begun)) as server, client(server.url) as judge:
        await judge.chat(BODY)
        with pytest.raises(ConnectionLost) as caught:
            await judge.chat(BODY)
    assert not isinstance(caught.value, StaleConnection)


async def test_a_timeout_on_a_reused_connection_is_a_timeout() -> None:
    async def answer_once(call: Call, writer: asyncio.StreamWriter) -> None:
        if len(server.calls) == 1:
            writer.write(response(200, ANSWER))
        else:
            await asyncio.sleep(30)

    server: Server
    async with serving(answer_once) as server, client(server.url, timeout={"total": 0.3}) as judge:
        await judge.chat(BODY)
        with pytest.raises(TimedOut):
            await judge.chat(BODY)


def test_connections_that_end_now_and_then_are_reused_all_the_same() -> None:
    reuse = ConnectionReuse()
    for _ in range(100):
        assert isinstance(reuse.stale(aiohttp.ServerDisconnectedError()), StaleConnection)
        for _ in range(REPLIES_PER_STALE_CONNECTION):
            reuse.on_reply()
        assert reuse.is_allowed
    for _ in range(MAX_STALE_CONNECTIONS):
        assert reuse.is_allowed
        reuse.on_reply()
        reuse.stale(aiohttp.ServerDisconnectedError())
    assert not reuse.is_allowed


def test_reuse_is_allowed_again_after_some_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [5.0]
    monkeypatch.setattr("runner.service.transport.time.monotonic", lambda: clock[0])
    reuse = ConnectionReuse()
    for _ in range(MAX_STALE_CONNECTIONS):
        assert reuse.is_allowed
        clock[0] += 1
        assert isinstance(reuse.stale(aiohttp.ServerDisconnectedError()), StaleConnection)
    assert not reuse.is_allowed
    clock[0] += NO_REUSE_SECONDS
    assert reuse.is_allowed
