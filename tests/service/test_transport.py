"""The transports over real sockets: the direct one sends what aiohttp's session sends and mixes up no replies."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import raw_server
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from raw_server import ANSWER, BODY, TOKEN, Call, Handler, answering, client, hang, response, serving
from yarl import URL

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.errors import BadReply, TimedOut
from runner.service import transport_direct
from runner.service.transport import Reply, TransportUnsupported
from runner.service.transport_direct import PAUSE_SECONDS, DirectTransport

pytestmark = pytest.mark.anyio

HEADERS = CIMultiDict({"Content-Type": "application/json", "Authorization": "Bearer tok", "X-Scope": "team-7"})


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def direct_transport(url: str, total: float = 30.0) -> AsyncIterator[DirectTransport]:
    timeout = aiohttp.ClientTimeout(total=total, sock_connect=5)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS, timeout=timeout) as session:
        transport = DirectTransport(session, URL(f"{url}/chat/completions"), None, 16_000_000)
        yield transport
        await transport.close()


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition holds; there is no event to wait for."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never held")


class ConnectionCounter:
    """A handler that numbers the connections and records the connection of each call."""

    def __init__(self, handler: Handler) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.used: list[int] = []
        self._handler = handler

    async def __call__(self, call: Call, writer: asyncio.StreamWriter) -> None:
        if writer not in self.writers:
            self.writers.append(writer)
        self.used.append(self.writers.index(writer))
        await self._handler(call, writer)


async def test_the_request_is_that_of_the_session() -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        async with direct_transport(server.url) as transport:
            direct = await transport.post(BODY)
        url, timeout = f"{server.url}/chat/completions", aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(headers=HEADERS, timeout=timeout) as session,
            session.post(url, data=BODY) as reply,
        ):
            by_session = reply.status, reply.headers, await reply.read()
    assert direct == by_session
    first, second = server.calls
    assert (first.line, first.body) == (second.line, second.body)
    assert first.headers == second.headers
    assert len(first.names) == len(set(first.names))


@pytest.mark.parametrize("path", ["/v1", "/a b/v1", "/评/v1", "/x%2Fy/v1"])
async def test_the_path_is_encoded_as_the_session_encodes_it(path: str) -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        base = server.url.removesuffix("/v1") + path
        async with direct_transport(base) as transport:
            await transport.post(BODY)
        async with aiohttp.ClientSession() as session, session.post(URL(f"{base}/chat/completions"), data=BODY):
            pass
    assert server.calls[0].line == server.calls[1].line


async def test_a_connection_is_reused_for_one_request_at_a_time() -> None:
    handler = ConnectionCounter(answering(response(200, ANSWER)))
    async with serving(handler) as server, direct_transport(server.url) as transport:
        for _ in range(5):
            assert (await transport.post(BODY))[2] == ANSWER
        await asyncio.gather(*(transport.post(BODY) for _ in range(3)))
    assert handler.used[:5] == [0] * 5
    assert sorted(handler.used[5:]) == [0, 1, 2]


@pytest.mark.parametrize(
    "last",
    [
        response(200, ANSWER, "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
        response(200, ANSWER) + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["close", "http-1.0", "unexpected"],
)
async def test_a_connection_that_the_reply_ends_is_not_reused(last: bytes) -> None:
    handler = ConnectionCounter(answering(response(200, ANSWER), last, response(200, ANSWER)))
    async with serving(handler) as server, direct_transport(server.url) as transport:
        for _ in range(3):
            status, _, raw = await transport.post(BODY)
            assert (status, raw) == (200, ANSWER)
    assert handler.used == [0, 0, 1]


async def test_a_connection_with_an_unexpected_reply_is_not_reused() -> None:
    handler = ConnectionCounter(answering(response(200, ANSWER)))
    async with serving(handler) as server, direct_transport(server.url) as transport:
        await transport.post(BODY)
        handler.writers[0].write(response(408, b"too slow"))
        await handler.writers[0].drain()
        await until(lambda: _idle_protocol(transport).should_close)
        assert (await transport.post(BODY))[2] == ANSWER
    assert handler.used == [0, 1]


async def test_a_connection_that_the_service_closed_is_not_reused() -> None:
    async def closing(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, ANSWER))
        writer.close()

    async with serving(closing) as server, direct_transport(server.url) as transport:
        await transport.post(BODY)
        await until(lambda: not _idle_protocol(transport).is_connected())
        assert (await transport.post(BODY))[2] == ANSWER
    assert len(server.calls) == 2


async def test_a_connection_that_was_idle_too_long_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = ConnectionCounter(answering(response(200, ANSWER)))
    async with serving(handler) as server, direct_transport(server.url) as transport:
        await transport.post(BODY)
        monkeypatch.setattr(transport_direct, "MAX_IDLE_SECONDS", -1.0)
        await transport.post(BODY)
    assert handler.used == [0, 1]


async def test_a_service_may_reply_before_it_has_read_the_whole_body() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(413, b"too large"))
        await writer.drain()
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    listener = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1 << 12)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    async with direct_transport(url) as transport:
        for _ in range(2):
            assert (await transport.post(b"x" * 50_000_000))[0] == 413
    gone.set()
    listener.close()


async def test_answers_that_arrived_while_the_process_was_stopped_are_read() -> None:
    """A thread answers while this loop stands still for longer than the time limit, as after SIGSTOP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(response(200, ANSWER))
                connection.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with client(url, timeout={"total": 0.5}) as judge:
            call = asyncio.create_task(judge.chat(BODY))
            await asyncio.sleep(0.2)  # the request is sent
            time.sleep(0.5 + PAUSE_SECONDS + 0.3)  # noqa: ASYNC251 - the process is stopped
            assert (await call).text == "[[4]]"
        thread.join()


async def test_interim_responses_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with serving(answering(interim + response(200, ANSWER))) as server, direct_transport(server.url) as transport:
        assert (await transport.post(BODY))[0] == 200


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

    async with serving(slowly) as server, direct_transport(server.url) as transport:
        for _ in range(2):
            assert (await transport.post(BODY))[2] == b"y" * 370_001


async def test_only_overdue_requests_are_aborted() -> None:
    released = asyncio.Event()

    async def by_body(call: Call, writer: asyncio.StreamWriter) -> None:
        if call.body == b"hang":
            await hang(call, writer)
        elif call.body == b"endless":  # without a length, the body ends with the connection
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(30)
        elif call.body == b"wait":
            await released.wait()
        writer.write(response(200, ANSWER))

    async with serving(by_body) as server, direct_transport(server.url, total=0.3) as transport:
        started = asyncio.get_running_loop().time()
        first = [asyncio.ensure_future(transport.post(body)) for body in (b"hang", b"endless", BODY)]
        await asyncio.sleep(0.15)
        second = asyncio.ensure_future(transport.post(b"wait"))
        results = await asyncio.gather(*first, return_exceptions=True)
        took = asyncio.get_running_loop().time() - started
        released.set()
        assert (await second)[2] == ANSWER
        with pytest.raises(TimeoutError):
            await transport.post(b"hang")
    assert [type(result) for result in results] == [TimeoutError, TimeoutError, tuple]
    assert 0.28 < took < 2


async def test_the_connection_of_a_cancelled_request_is_not_reused() -> None:
    handler = ConnectionCounter(answering(response(200, ANSWER)))
    stalled = ConnectionCounter(hang)
    async with serving(stalled) as slow, direct_transport(slow.url) as transport:
        request_task = asyncio.ensure_future(transport.post(BODY))
        await until(lambda: bool(stalled.used))
        request_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request_task
        assert not transport._idle
    async with serving(handler) as server, direct_transport(server.url) as transport:
        await transport.post(BODY)
        request_task = asyncio.ensure_future(transport.post(BODY))
        await asyncio.sleep(0)
        request_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request_task
        assert (await transport.post(BODY))[2] == ANSWER


async def test_close_leaves_no_connection_open() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with serving(answering(response(200, ANSWER))) as server, direct_transport(server.url) as transport:
            await asyncio.gather(*(transport.post(BODY) for _ in range(20)))
        gc.collect()
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []


def changed_request(*_: Any, **__: Any) -> Any:
    raise TypeError("the signature has changed")


async def changed_connect(self: Any, request: Any) -> Any:
    raise AssertionError("not reached: the signature differs")


@pytest.mark.parametrize(
    ("holder", "name", "changed"),
    [
        (aiohttp, "ClientRequest", changed_request),
        (aiohttp.TCPConnector, "connect", changed_connect),
        (ResponseHandler, "set_response_params", lambda self, *, other: None),
        (ResponseHandler, "is_connected", None),
    ],
    ids=["request", "connect", "parameters", "protocol"],
)
async def test_a_change_of_aiohttp_is_found_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, changed: Any
) -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        monkeypatch.setattr(holder, name, changed)
        with pytest.raises(TransportUnsupported):
            async with direct_transport(server.url) as transport:
                await transport.post(BODY)
    assert server.calls == []


def watch_session_posts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets the body of each `ClientSession.post`."""
    bodies: list[bytes] = []
    original = aiohttp.ClientSession.post

    def post(self: aiohttp.ClientSession, url: Any, **options: Any) -> Any:
        bodies.append(options["data"])
        return original(self, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "post", post)
    return bodies


async def test_the_client_uses_the_direct_transport_if_it_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = watch_session_posts(monkeypatch)
    async with serving(answering(response(200, ANSWER))) as server, client(server.url) as judge:
        await judge.chat(BODY)
    assert bodies == []
    assert len(server.calls) == 1


@pytest.mark.parametrize("part", ["_prepare_request", "_check_connection"])
async def test_the_client_falls_back_to_the_session(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def unsupported(*_: Any) -> Any:
        raise TransportUnsupported

    bodies = watch_session_posts(monkeypatch)
    monkeypatch.setattr(transport_direct, part, unsupported)
    async with serving(answering(response(200, ANSWER))) as server, client(server.url) as judge:
        answers = await asyncio.gather(*(judge.chat(BODY) for _ in range(5)))
    assert [answer.text for answer in answers] == ["[[4]]"] * 5
    assert bodies == [BODY] * 5
    assert len(server.calls) == 5


class ScriptedTransport:
    """A transport without a network: returns or raises each result in turn."""

    def __init__(self, *results: Reply | Exception) -> None:
        self.bodies: list[bytes] = []
        self.authorizations: list[str] = []
        self.is_closed = False
        self._results = list(results)

    def __call__(self, session: aiohttp.ClientSession, url: URL, proxy: str | None, _: int) -> ScriptedTransport:
        assert (str(url), proxy) == ("http://judge.invalid/v1/chat/completions", None)
        self.use(session.headers)
        return self

    async def post(self, body: bytes) -> Reply:
        self.bodies.append(body)
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def use(self, headers: CIMultiDict[str]) -> None:
        self.authorizations.append(headers["Authorization"])

    async def close(self) -> None:
        self.is_closed = True


async def test_the_client_takes_another_transport(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("tok-new-0123456789")
    transport = ScriptedTransport((401, {}, b"no"), (200, {}, ANSWER), TimeoutError(), BadReply(f"odd: {TOKEN}"))
    monkeypatch.setattr(raw_server, "transport_factory", transport)
    async with client("http://judge.invalid/v1", token_file=str(file), allow_http=True) as judge:
        assert (await judge.chat(BODY)).text == "[[4]]"
        with pytest.raises(TimedOut):
            await judge.chat(BODY)
        with pytest.raises(BadReply, match=r"^odd: \*\*\*$"):
            await judge.chat(BODY)
    assert transport.bodies == [BODY] * 4
    assert transport.authorizations == [f"Bearer {TOKEN}", "Bearer tok-new-0123456789"]
    assert transport.is_closed


async def test_a_transport_may_be_unsupported_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> Any:
        raise TransportUnsupported

    monkeypatch.setattr(raw_server, "transport_factory", unsupported)
    async with serving(answering(response(200, ANSWER))) as server, client(server.url) as judge:
        assert (await judge.chat(BODY)).text == "[[4]]"


async def test_the_emulator_gives_both_transports_the_same_answer() -> None:
    text = ",".join(f'"{name}":"{name} of a sample"' for name in ("question", "answer1", "answer2"))
    part = '{"mode":"pairwise","type":"json","json":{' + text + "}}"
    bodies = [
        f'{{"model":"pai-judge","seed":{seed},"messages":[{{"role":"user","content":[{part}]}}]}}'.encode()
        for seed in range(40)
    ]
    async with await start(EmulatorOptions()) as emulator:
        async with direct_transport(f"{emulator.url}/v1") as transport:
            direct = await asyncio.gather(*(transport.post(body) for body in bodies))
        async with aiohttp.ClientSession() as session:
            for body, (status, _, raw) in zip(bodies, direct, strict=True):
                async with session.post(f"{emulator.url}/v1/chat/completions", data=body) as reply:
                    assert (status, _choices(raw)) == (reply.status, _choices(await reply.read()))


def _choices(raw: bytes) -> bytes:
    """Return the answer without its id and time, which differ between two requests."""
    return raw[raw.index(b'"choices"') :]


def _idle_protocol(transport: DirectTransport) -> ResponseHandler:
    protocol = transport._idle[0][0].protocol
    assert protocol is not None
    return protocol
