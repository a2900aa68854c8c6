"""The HTTP calls. Nothing outside this module knows aiohttp's exceptions."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from runner.config import ServiceConfig
from runner.core import TEMPORARY_SUFFIX, put_in_place
from runner.errors import BadReply, ConfigError, ConnectFailed, ConnectionLost, Fatal, ServiceError, TimedOut
from runner.service.responses import error_from, read_completion
from runner.service.transport import DirectTransport, Reply, TransportUnsupported
from runner.types import JudgeResponse, Secret
from runner.version import __version__

Sent = ParamSpec("Sent")
Came = TypeVar("Came")

DOWNLOAD_CHUNK_BYTES = 1 << 18
MIN_UPLOAD_BYTES_PER_SECOND = 20_000
"""Bytes a second: a file that goes slower than this is given up."""


class Client:
    """One service over HTTP; used as an async context manager.

    Args:
        service: its section of the YAML.
        base_url: where it stands (an embedded emulator's address differs from the YAML's).
        token: what goes into the Authorization header, or None for no such header.
    """

    def __init__(self, service: ServiceConfig, base_url: str, token: Secret | None) -> None:
        self._service = service
        self._token = token
        self.base_url = base_url
        self._chat_url = URL(f"{base_url}/chat/completions")
        proxy = _proxy_for(service, base_url)
        self._proxy = None if proxy is None else proxy.reveal()
        self._hidden = [secret for secret in (*service.headers.values(), proxy) if secret is not None]
        self._session: aiohttp.ClientSession | None = None
        self._poster: DirectTransport | None = None

    async def __aenter__(self) -> Self:
        timeout = self._service.timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_tls(self._service)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=timeout.total, sock_connect=timeout.connect),
        )
        self._poster = self._short_way()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._poster is not None:
            self._poster.close()
        if self._session is not None:
            await self._session.close()

    async def chat(self, body: bytes) -> JudgeResponse:
        """Send one chat body and return the whole answer; raises ServiceError."""
        return await self._authorized(self._chat, body)

    async def call(
        self, method: str, path: str, body: bytes | None = None, query: Mapping[str, str] | None = None
    ) -> bytes:
        """Send any other call, such as `GET`, `/batches/b-1`, and return the body of the 2xx; raises ServiceError."""
        return await self._authorized(self._call, method, path, body, query or {})

    async def upload(self, path: str, file: Path, **fields: str) -> bytes:
        """Post a file as a form with further fields, streamed, and return the body of the 200; raises ServiceError."""
        return await self._authorized(self._upload, path, file, fields)

    async def download(self, path: str, to: Path) -> None:
        """Get a file, streamed to the disk, whole or not at all; raises ServiceError and OSError."""
        await self._authorized(self._download, path, to)

    async def _authorized(self, send: Callable[Sent, Awaitable[Came]], *args: Sent.args, **kwargs: Sent.kwargs) -> Came:
        """Send; once more where the token was refused and its file holds another one by now."""
        sent = self._token
        try:
            return await send(*args, **kwargs)
        except Fatal as error:
            if error.reason != "authentication" or not self._has_another_token(sent):
                raise
        return await send(*args, **kwargs)

    async def _chat(self, body: bytes) -> JudgeResponse:
        status, headers, raw = await self._post(body)
        try:
            if status == 200:
                return read_completion(raw)
            raise error_from(status, headers, raw, self._service.dialect)
        except ServiceError as error:
            raise self._scrubbed(error) from None

    async def _call(self, method: str, path: str, body: bytes | None, query: Mapping[str, str]) -> bytes:
        async with self._reply(method, path, data=body, params=query) as response:
            return await response.read()

    async def _upload(self, path: str, file: Path, fields: Mapping[str, str]) -> bytes:
        timeout = self._service.timeout
        with file.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            form = aiohttp.FormData(fields)
            form.add_field("file", content, filename=file.name, content_type="application/jsonl")
            payload = form()
            async with self._reply(
                "POST",
                path,
                data=payload,
                headers={"Content-Type": payload.headers["Content-Type"]},
                timeout=aiohttp.ClientTimeout(
                    timeout.total + size / MIN_UPLOAD_BYTES_PER_SECOND, sock_connect=timeout.connect
                ),
            ) as response:
                return await response.read()

    async def _download(self, path: str, to: Path) -> None:
        timeout = self._service.timeout
        limits = aiohttp.ClientTimeout(None, sock_connect=timeout.connect, sock_read=timeout.total)
        temporary = to.with_name(f".{to.name}{TEMPORARY_SUFFIX}")
        async with self._reply("GET", path, timeout=limits) as response:
            with temporary.open("wb") as file:
                async for chunk in response.content.iter_chunked(DOWNLOAD_CHUNK_BYTES):
                    file.write(chunk)
        put_in_place(temporary, to)

    @asynccontextmanager
    async def _reply(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """The reply of a call while its body is read; raises ServiceError for all that is no whole 2xx."""
        url = URL(f"{self.base_url}{path}", encoded=True)
        try:
            async with self._opened.request(
                method, url, proxy=self._proxy, allow_redirects=False, **options
            ) as response:
                if not 200 <= response.status < 300:
                    raise error_from(response.status, response.headers, await response.read(), self._service.dialect)
                yield response
        except ServiceError as error:
            raise self._scrubbed(error) from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise self._scrubbed(connection_error(error, self._service.timeout.total)) from None

    def _has_another_token(self, sent: Secret | None) -> bool:
        """Read `token_file` again; say whether another token than the one that was sent stands in it now."""
        if self._service.token_file is None or self._session is None:
            return False
        try:
            token = self._service.token()
        except ConfigError:
            return False  # it is just being replaced, or gone: the service's own word stands
        if self._token is not None and token is not None and token.reveal() != self._token.reveal():
            self._hidden.append(self._token)
            self._token = token
            self._session.headers.update(self._headers())
            if self._poster is not None:
                self._poster.use(self._session.headers)
        return sent is not self._token

    def _short_way(self) -> DirectTransport | None:
        """The short way for chat calls, where there is one: not through a proxy."""
        session = self._opened
        try:
            return (
                DirectTransport(session, self._chat_url, session.headers, session.timeout)
                if self._proxy is None
                else None
            )
        except TransportUnsupported:
            return None

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used outside its context")
        return self._session

    async def _post(self, body: bytes) -> Reply:
        try:
            if self._poster is not None:
                try:
                    return await self._poster.post(body)
                except TransportUnsupported:
                    self._poster = None
            return await self._post_by_session(body)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise self._scrubbed(connection_error(error, self._service.timeout.total)) from None

    async def _post_by_session(self, body: bytes) -> Reply:
        async with self._opened.post(self._chat_url, data=body, proxy=self._proxy, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    def _headers(self) -> CIMultiDict[str]:
        headers = CIMultiDict({"Content-Type": "application/json", "User-Agent": f"judge-runner/{__version__}"})
        if self._token is not None:
            bearer = f"Bearer {self._token.reveal()}"
            doubled = self._service.authorization == "doubled"
            headers["Authorization"] = f"Bearer Authorization: {bearer}" if doubled else bearer
        headers.update({name: value.reveal() for name, value in self._service.headers.items()})
        return headers

    def _scrubbed(self, error: ServiceError) -> ServiceError:
        """Take the token out of a message: some services repeat what they were sent."""
        text = str(error)
        for secret in self._hidden if self._token is None else (self._token, *self._hidden):
            text = _without(secret.reveal(), text)
        error.args = (text,)
        return error


def _without(secret: str, text: str) -> str:
    """The text without the secret, and without its beginning where the text was cut short in it."""
    for size in range(len(secret), min(len(secret), 8) - 1, -1):
        if size > 3:
            text = text.replace(secret[:size], "***")
    return text


def connection_error(error: Exception, total: float) -> ServiceError:
    """The error of the tree for what aiohttp raises when no whole reply came."""
    said = " ".join(str(error).split()) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return Fatal(f"TLS refused: {said}", reason="address")
        case aiohttp.ConnectionTimeoutError():
            return ConnectFailed("no connection within the connect timeout")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientConnectorError():
            return ConnectFailed(said)
        case aiohttp.ClientHttpProxyError(status=403 | 407):
            return Fatal(f"the proxy answered {error.status}", reason="authentication", status=error.status)
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(f"the proxy answered {error.status}")
        case aiohttp.InvalidURL():
            return Fatal(f"not a URL: {said}", reason="address")
        case TimeoutError():
            return TimedOut(f"no whole answer within {total:g} s")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return BadReply(f"not HTTP: {said}")
        case _:
            return ConnectionLost(f"the connection broke: {said}")


def _tls(service: ServiceConfig) -> ssl.SSLContext | bool:
    """What TLS trusts: aiohttp's own context (made once, SSL_CERT_FILE honoured), or that and `ca_file`."""
    if service.ca_file is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(service.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"service.ca_file: {service.ca_file}: not readable as certificates ({error})") from error
    return context


def _proxy_for(service: ServiceConfig, base_url: str) -> Secret | None:
    """The proxy of this service, looked up once: per request it would cost more than the request."""
    if service.kind == "emulator":
        return None  # a child of this run: no proxy could reach it
    if service.proxy is not None:
        return service.proxy
    parts = urlsplit(base_url)
    if urllib.request.proxy_bypass(parts.hostname or "") or urllib.request.proxy_bypass(parts.netloc):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None:
        return None
    scheme, found, _ = proxy.partition("://")
    if found and scheme.lower() not in ("http", "https"):
        raise ConfigError(f"the environment names a {scheme} proxy for {parts.scheme}; expected http://host:port")
    return Secret(proxy if found else f"http://{proxy}")
