"""The HTTP client of one judge service. It maps every failure to a ServiceError and keeps secrets out of messages.

Only this module maps exceptions of aiohttp.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from runner.config import ServiceConfig
from runner.core import TEMPORARY_SUFFIX, put_in_place
from runner.emulator.marker import EMULATED_HEADER
from runner.errors import BadReply, ConfigError, ConnectFailed, ConnectionLost, Fatal, ServiceError, TimedOut
from runner.model_names import EMULATED_PREFIX
from runner.service.completions import read_completion
from runner.service.responses import error_from_response
from runner.service.transport import Reply, SessionTransport, Transport, TransportFactory, TransportUnsupported
from runner.service.transport_direct import DirectTransport
from runner.types import JudgeResponse, Secret
from runner.version import __version__

Params = ParamSpec("Params")
Result = TypeVar("Result")

DOWNLOAD_CHUNK_BYTES = 1 << 18
MIN_UPLOAD_BYTES_PER_SECOND = 20_000  # a slower upload is given up


class Client:
    """One service over HTTP; used as an async context manager.

    Args:
        service: the service's section of the YAML.
        base_url: the service's URL (an embedded emulator's URL differs from the YAML's).
        token: the token of the Authorization header, or None for no such header.
        transport: makes the transport of chat requests. If it raises TransportUnsupported, or if its transport does at
            a request, the client uses `SessionTransport`.

    Attributes:
        is_emulated: True once a response named an emulator as its sender.
    """

    def __init__(
        self,
        service: ServiceConfig,
        base_url: str,
        token: Secret | None,
        transport: TransportFactory = DirectTransport,
    ) -> None:
        self._service = service
        self._token = token
        self.base_url = base_url
        self.is_emulated = False
        self._chat_url = URL(f"{base_url}/chat/completions")
        proxy = _proxy_for(service, base_url)
        self._proxy = None if proxy is None else proxy.reveal()
        self._hidden = [secret for secret in (*service.headers.values(), proxy) if secret is not None]
        self._make_transport = transport
        self._closing = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        timeout = self._service.timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_tls(self._service)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=timeout.total, sock_connect=timeout.connect),
        )
        self._closing.push_async_callback(self._session.close)
        try:
            self._transport = self._make_transport(self._session, self._chat_url, self._proxy)
        except TransportUnsupported:
            self._transport = self._session_transport()
        self._closing.push_async_callback(self._transport.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def chat(self, body: bytes) -> JudgeResponse:
        """Send one chat body and return the complete answer; raises ServiceError."""
        return await self._authorized(self._chat, body)

    async def call(
        self, method: str, path: str, body: bytes | None = None, query: Mapping[str, str] | None = None
    ) -> bytes:
        """Send any other call, such as `GET`, `/batches/b-1`, and return the body of the 2xx; raises ServiceError."""
        return await self._authorized(self._call, method, path, body, query or {})

    async def upload(self, path: str, file: Path, name: str | None = None, **fields: str) -> bytes:
        """Stream a file as a form with further fields, and return the body of the 2xx; raises ServiceError.

        `name` is the file's name at the service; None: its own.
        """
        return await self._authorized(self._upload, path, file, name or file.name, fields)

    async def download(self, path: str, to: Path) -> None:
        """Stream a file to the disk, all of it or nothing; raises ServiceError and OSError."""
        await self._authorized(self._download, path, to)

    async def _authorized(
        self, send: Callable[Params, Awaitable[Result]], *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """Send; if the service refuses the token and the token file now holds another one, send once more."""
        sent = self._token
        try:
            return await send(*args, **kwargs)
        except Fatal as error:
            if error.reason != "authentication" or not self._has_another_token(sent):
                raise
        return await send(*args, **kwargs)

    async def _chat(self, body: bytes) -> JudgeResponse:
        try:
            status, headers, raw = await self._post(body)
            if status == 200:
                response = read_completion(raw)
                return emulated(response) if self._notes_emulator(headers) else response
            raise error_from_response(status, headers, raw, self._service.dialect)
        except ServiceError as error:
            raise self._scrubbed(error) from None
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise self._scrubbed(connection_error(error, self._service.timeout.total)) from None

    async def _post(self, body: bytes) -> Reply:
        transport = self._transport
        if transport is None:
            raise _outside_context()
        try:
            return await transport.post(body)
        except TransportUnsupported:
            self._transport = self._session_transport()
        return await self._transport.post(body)

    async def _call(self, method: str, path: str, body: bytes | None, query: Mapping[str, str]) -> bytes:
        async with self._reply(method, path, data=body, params=query) as response:
            return await response.read()

    async def _upload(self, path: str, file: Path, name: str, fields: Mapping[str, str]) -> bytes:
        timeout = self._service.timeout
        with file.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            form = aiohttp.FormData(fields)
            form.add_field("file", content, filename=name, content_type="application/jsonl")
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
        """Open the response of a call to read its body; raises ServiceError unless a complete 2xx response is read."""
        url = URL(f"{self.base_url}{path}", encoded=True)
        try:
            async with self._opened.request(
                method, url, proxy=self._proxy, allow_redirects=False, **options
            ) as response:
                self._notes_emulator(response.headers)
                if not 200 <= response.status < 300:
                    raw = await response.read()
                    raise error_from_response(response.status, response.headers, raw, self._service.dialect)
                yield response
        except ServiceError as error:
            raise self._scrubbed(error) from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise self._scrubbed(connection_error(error, self._service.timeout.total)) from None

    def _notes_emulator(self, headers: Mapping[str, str]) -> bool:
        """Return True if the sender of a response is an emulator."""
        if EMULATED_HEADER in headers:
            self.is_emulated = True
            return True
        return False

    def _has_another_token(self, sent: Secret | None) -> bool:
        """Read `token_file` again and use its token; returns True if it is not the token that was sent."""
        if self._service.token_file is None or self._session is None or self._transport is None:
            return False
        try:
            token = self._service.token()
        except ConfigError:
            return False  # the file is being replaced, or is gone: the service's refusal is the error
        if self._token is not None and token is not None and token.reveal() != self._token.reveal():
            self._hidden.append(self._token)
            self._token = token
            self._session.headers.update(self._headers())
            self._transport.use(self._session.headers)
        return sent is not self._token

    def _session_transport(self) -> SessionTransport:
        return SessionTransport(self._opened, self._chat_url, self._proxy)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise _outside_context()
        return self._session

    def _headers(self) -> CIMultiDict[str]:
        headers = CIMultiDict({"Content-Type": "application/json", "User-Agent": f"judge-runner/{__version__}"})
        if self._token is not None:
            bearer = f"Bearer {self._token.reveal()}"
            doubled = self._service.authorization == "doubled"
            headers["Authorization"] = f"Bearer Authorization: {bearer}" if doubled else bearer
        headers.update({name: value.reveal() for name, value in self._service.headers.items()})
        return headers

    def _scrubbed(self, error: ServiceError) -> ServiceError:
        """Remove the secrets from an error's message: some services repeat what they received."""
        text = str(error)
        for secret in self._hidden if self._token is None else (self._token, *self._hidden):
            text = _without(secret.reveal(), text)
        error.args = (text,)
        return error


def emulated(response: JudgeResponse) -> JudgeResponse:
    """Return an answer marked as an emulator's: the name of its model says so."""
    return msgspec.structs.replace(response, model=f"{EMULATED_PREFIX}{response.model or 'unknown'}")


def _outside_context() -> RuntimeError:
    return RuntimeError("the client is used outside its context")


def _without(secret: str, text: str) -> str:
    """Replace the secret in a text, and also its beginning, because the text may be cut off inside it."""
    for size in range(len(secret), min(len(secret), 8) - 1, -1):
        if size > 3:
            text = text.replace(secret[:size], "***")
    return text


def connection_error(error: Exception, total: float) -> ServiceError:
    """Map an exception for which there is no complete reply to a ServiceError.

    Args:
        error: an exception of aiohttp, or an OSError (TimeoutError included).
        total: the time limit of the request in seconds, for the message.
    """
    detail = " ".join(str(error).split()) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return Fatal(f"TLS refused: {detail}", reason="address")
        case aiohttp.ConnectionTimeoutError():
            return ConnectFailed("no connection within the connect timeout")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientConnectorError():
            return ConnectFailed(detail)
        case aiohttp.ClientHttpProxyError(status=403 | 407):
            return Fatal(f"the proxy answered {error.status}", reason="authentication", status=error.status)
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(f"the proxy answered {error.status}")
        case aiohttp.InvalidURL():
            return Fatal(f"not a URL: {detail}", reason="address")
        case TimeoutError():
            return TimedOut(f"no complete answer within {total:g} s")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return BadReply(f"not HTTP: {detail}")
        case _:
            return ConnectionLost(f"the connection broke: {detail}")


def _tls(service: ServiceConfig) -> ssl.SSLContext | bool:
    """Return what TLS trusts: True is aiohttp's own context (honours SSL_CERT_FILE), else a context with `ca_file`."""
    if service.ca_file is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(service.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"service.ca_file: {service.ca_file}: not readable as certificates ({error})") from error
    return context


def _proxy_for(service: ServiceConfig, base_url: str) -> Secret | None:
    """Return the URL of the service's proxy. A look-up for each request would cost more than the request."""
    if service.kind == "emulator":
        return None  # a child process on this machine, which no proxy can reach
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
