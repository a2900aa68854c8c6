"""The client over real sockets: connection failures, the bytes it sends, and secrets, which messages never show."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import raw_server
from raw_server import (
    ANSWER,
    BODY,
    TOKEN,
    Call,
    Handler,
    answering,
    breaking,
    client,
    failure,
    free_port,
    hang,
    response,
    serving,
    visible_text,
)

from runner.errors import BadReply, Busy, ConnectFailed, ConnectionLost, Fatal, Refused, ServerFault, TimedOut
from runner.service.transport import SessionTransport, TransportFactory
from runner.service.transport_direct import DirectTransport
from runner.types import Secret

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True, params=[DirectTransport, SessionTransport], ids=["direct", "session"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TransportFactory:
    """Run each test with both transports."""
    factory: TransportFactory = request.param
    monkeypatch.setattr(raw_server, "transport_factory", factory)
    return factory


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield


async def test_a_complete_answer() -> None:
    async with serving(answering(response(200, ANSWER))) as server, client(server.url) as judge:
        answers = [await judge.chat(BODY) for _ in range(3)]
    assert [answer.text for answer in answers] == ["[[4]]"] * 3
    call = server.calls[0]
    assert call.line == "POST /v1/chat/completions HTTP/1.1"
    assert call.body == BODY
    assert call.headers["content-type"] == "application/json"
    assert call.headers["user-agent"].startswith("judge-runner/")
    assert "cookie" not in call.names


async def test_a_refused_connection() -> None:
    error = await failure(f"http://127.0.0.1:{free_port()}/v1")
    assert isinstance(error, ConnectFailed)


async def test_an_unknown_host_name() -> None:
    error = await failure("http://no-such-host.invalid/v1", timeout={"total": 20})
    assert isinstance(error, ConnectFailed)


async def test_without_a_descriptor_left_the_request_waits() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(answering(response(200, ANSWER))) as server, client(server.url) as judge:
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        try:
            with suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(Busy, match=r"may open no more files .ulimit -n is 256"):
                await judge.chat(BODY)
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (await judge.chat(BODY)).text == "[[4]]"


async def test_the_connect_timeout() -> None:
    with socket.socket() as full:  # a listener with a full backlog does not answer a SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        error = await failure(f"http://127.0.0.1:{address[1]}/v1", timeout={"connect": 0.15, "total": 5})
        for filler in fillers:
            filler.close()
    assert isinstance(error, ConnectFailed)
    assert "connect timeout" in str(error)


async def test_the_total_timeout() -> None:
    async with serving(hang) as server:
        error = await failure(server.url, timeout={"total": 0.15})
    assert isinstance(error, TimedOut)
    assert "0.15 s" in str(error)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "before",
    [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + ANSWER],
    ids=["nothing", "line", "head", "body"],
)
async def test_a_connection_that_ends_before_the_reply_is_complete(before: bytes, reset: bool) -> None:
    async with serving(breaking(before, reset)) as server:
        error = await failure(server.url)
    assert isinstance(error, ConnectionLost)
    assert error.error_type == "connection"
    assert "RawResponse" not in str(error)  # what aiohttp has read of it
    assert len(server.calls) == 1  # the lane decides if the request is sent again


async def test_a_chunked_reply_that_ends_early() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(breaking(head + b'5\r\n{"cho\r\n')) as server:
        assert isinstance(await failure(server.url), ConnectionLost)


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\x00\x01\x02\r\n\r\n"])
async def test_a_reply_that_is_not_http(raw: bytes) -> None:
    async with serving(breaking(raw)) as server:
        error = await failure(server.url)
    assert isinstance(error, BadReply | ConnectionLost)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_body_that_does_not_match_its_content_encoding(encoding: str) -> None:
    async with serving(answering(response(200, ANSWER, f"Content-Encoding: {encoding}"))) as server:
        error = await failure(server.url)
    assert isinstance(error, BadReply | ConnectionLost)


async def test_a_compressed_body_is_decompressed() -> None:
    compressed = response(200, gzip.compress(ANSWER), "Content-Encoding: gzip", "Content-Type: text/plain")
    async with serving(answering(compressed)) as server, client(server.url) as judge:
        assert (await judge.chat(BODY)).text == "[[4]]"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with (
        serving(answering(response(200, ANSWER))) as other,
        serving(answering(response(status, b"", f"Location: {other.url}/chat/completions"))) as server,
    ):
        error = await failure(server.url)
    assert isinstance(error, Fatal)
    assert error.reason == "address"
    assert other.calls == []


async def test_the_error_has_the_status_and_the_retry_hint() -> None:
    async with serving(answering(response(503, b"busy", "Retry-After: 17"))) as server:
        error = await failure(server.url)
    assert isinstance(error, ServerFault)
    assert (error.status, error.retry_after) == (503, 17)


@pytest.mark.parametrize(
    ("token", "form", "sent"),
    [
        (TOKEN, "plain", f"Bearer {TOKEN}"),
        (TOKEN, "doubled", f"Bearer Authorization: Bearer {TOKEN}"),
        (None, "plain", None),
        (None, "doubled", None),
    ],
)
async def test_the_authorization_header(token: str | None, form: str, sent: str | None) -> None:
    async with (
        serving(answering(response(200, ANSWER))) as server,
        client(server.url, token, authorization=form) as judge,
    ):
        await judge.chat(BODY)
    assert server.calls[0].headers.get("authorization") == sent


async def test_each_configured_header_is_sent_once() -> None:
    given = {"X-Scope": "team-7", "authorization": "Basic abc", "CONTENT-TYPE": "application/json; charset=utf-8"}
    headers = {name: Secret(value) for name, value in given.items()}
    async with serving(answering(response(200, ANSWER))) as server, client(server.url, headers=headers) as judge:
        await judge.chat(BODY)
    call = server.calls[0]
    assert call.headers["x-scope"] == "team-7"
    assert call.headers["authorization"] == "Basic abc"
    assert call.headers["content-type"] == "application/json; charset=utf-8"
    assert len(call.names) == len(set(call.names))


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
@pytest.mark.parametrize("before", [0, 130, 150, 385])
async def test_a_token_that_a_server_repeats_is_hidden(status: int, before: int) -> None:
    for raw in (
        b"x" * before + b" Bearer " + TOKEN.encode() + b" rest" * 9,
        json.dumps({"code": "E", "message": "x" * before + " you sent " + TOKEN}).encode(),
        json.dumps({"code": TOKEN, "message": "no"}).encode(),
    ):
        async with serving(answering(response(status, raw))) as server:
            error = await failure(server.url, headers={"X-Key": Secret("hush-hush-hush")})
        assert TOKEN[:9] not in visible_text(error)
        assert "xx" in str(error) or "no" in str(error) or "***" in str(error)


async def test_other_secrets_are_hidden_too() -> None:
    async with serving(answering(response(400, b"key hush-hush-hush is unknown"))) as server:
        error = await failure(server.url, headers={"X-Key": Secret("hush-hush-hush")})
    assert str(error) == "HTTP 400: key *** is unknown"


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 abc " + TOKEN.encode() + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nBad Header " + TOKEN.encode()]
)
async def test_the_exceptions_of_aiohttp_show_no_token(raw: bytes) -> None:
    async with serving(breaking(raw + b"\r\n\r\n")) as server:
        assert TOKEN not in visible_text(await failure(server.url))


def checking(*good: str) -> Handler:
    """Answer requests with one of these tokens, and refuse all others."""

    async def handler(call: Call, writer: asyncio.StreamWriter) -> None:
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        writer.write(response(200, ANSWER) if token in good else response(401, f"bad token {token}".encode()))

    return handler


async def test_a_401_makes_the_client_read_the_token_file_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("tok-old-0123456789\n")
    async with (
        serving(checking("tok-new-0123456789")) as server,
        client(server.url, "tok-old-0123456789", token_file=str(file)) as judge,
    ):
        file.write_text("tok-new-0123456789\n")
        answers = await asyncio.gather(*(judge.chat(BODY) for _ in range(20)))
        before = len(server.calls)
        await judge.chat(BODY)
    assert [answer.text for answer in answers] == ["[[4]]"] * 20
    assert len(server.calls) == before + 1  # later requests use the new token


async def test_a_refused_token_is_not_sent_again_if_the_token_file_still_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with serving(checking("another")) as server:
        error = await failure(server.url, token_file=str(file))
        assert isinstance(error, Fatal)
        assert error.reason == "authentication"
        assert TOKEN not in str(error)
    assert len(server.calls) == 1


async def test_a_second_refusal_is_final(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("tok-new-0123456789")
    async with serving(checking("another")) as server:
        error = await failure(server.url, token_file=str(file))
    assert isinstance(error, Fatal)
    assert "tok-new" not in str(error)
    assert len(server.calls) == 2


@pytest.mark.parametrize("content", [None, "", "two words"])
async def test_an_invalid_token_file_does_not_hide_the_401(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    async with serving(checking("another")) as server:
        error = await failure(server.url, token_file=str(file))
    assert isinstance(error, Fatal)
    assert error.reason == "authentication"


async def test_without_a_token_file_a_401_is_final() -> None:
    async with serving(checking("another")) as server:
        error = await failure(server.url)
    assert isinstance(error, Fatal)
    assert len(server.calls) == 1


async def test_the_number_of_connections_is_unlimited() -> None:
    in_flight = 0
    all_arrived = asyncio.Event()

    async def hold(_: Call, writer: asyncio.StreamWriter) -> None:
        nonlocal in_flight
        in_flight += 1
        if in_flight == 150:  # aiohttp's default limit is 100
            all_arrived.set()
        await all_arrived.wait()
        writer.write(response(200, ANSWER))

    async with serving(hold) as server, client(server.url) as judge:
        await asyncio.wait_for(asyncio.gather(*(judge.chat(BODY) for _ in range(150))), 60)


async def test_a_400_does_not_affect_later_requests() -> None:
    replies = answering(response(400, b'{"error": {"message": "bad", "code": null}}'), response(200, ANSWER))
    async with serving(replies) as server, client(server.url) as judge:
        with pytest.raises(Refused):
            await judge.chat(BODY)
        assert (await judge.chat(BODY)).text == "[[4]]"
