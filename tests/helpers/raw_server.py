"""Servers that send raw bytes, valid HTTP or not, and a client to test against them."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runner.config import ServiceConfig
from runner.errors import ServiceError
from runner.service import Client
from runner.service.transport import TransportFactory
from runner.service.transport_direct import DirectTransport
from runner.types import Secret

TOKEN = "tok-0123456789-abcdef-SECRET"
BODY = b'{"model": "pai-judge", "messages": []}'
ANSWER = json.dumps({"id": "c-1", "choices": [{"message": {"content": "[[4]]"}, "finish_reason": "stop"}]}).encode()


class Call:
    """One request as the server received it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.line, *lines = head.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines if line]
        self.headers = {name.lower(): value for name, value in pairs}
        self.names = [name.lower() for name, _ in pairs]
        self.body = body


Handler = Callable[[Call, asyncio.StreamWriter], Awaitable[None]]

transport_factory: TransportFactory = DirectTransport  # of `client` and `failure`; tests replace it


class Server:
    """A server whose handler writes raw bytes, so that it can also send invalid ones."""

    def __init__(self, handler: Handler) -> None:
        self.calls: list[Call] = []
        self.port = 0
        self._handler = handler

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                call = Call(head, b"")
                call.body = await reader.readexactly(int(call.headers.get("content-length", 0)))
                self.calls.append(call)
                await self._handler(call, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(handler)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, backlog=1000)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def response(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(*parts: bytes) -> Handler:
    """Reply with each part in turn, then always with the last."""
    remaining = list(parts)

    async def handler(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return handler


def breaking(before: bytes = b"", reset: bool = False) -> Handler:
    """Write these bytes, then close the connection, or reset it."""

    async def handler(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort() if reset else writer.close()

    return handler


async def hang(_: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(30)


def client(url: str, token: str | None = TOKEN, **section: Any) -> Client:
    """Return a client of this URL; `section` is the rest of the service's section in the YAML."""
    service = ServiceConfig.model_validate({"base_url": url, "token_env": None, **section})
    return Client(service, url, None if token is None else Secret(token), transport_factory)


async def failure(url: str, token: str | None = TOKEN, **section: Any) -> ServiceError:
    """Return the error with which a chat request fails."""
    async with client(url, token, **section) as judge:
        with pytest.raises(ServiceError) as caught:
            await judge.chat(BODY)
    return caught.value


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def visible_text(error: BaseException) -> str:
    """Return everything that a log or a traceback would show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
