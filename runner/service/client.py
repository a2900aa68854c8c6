"""The HTTP client of one judge service. It maps every failure to a ServiceError and keeps secrets out of messages."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import aiohttp
import msgspec
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from runner.config import ServiceConfig
from runner.emulator.marker import EMULATED_HEADER
from runner.errors import ConfigError, Fatal, ServiceError
from runner.model_names import EMULATED_PREFIX
from runner.service.bounded import read_bounded
from runner.service.event_stream import as_streaming
from runner.service.failures import CallTarget, FirstReplies, connection_error, explained
from runner.service.partial_file import NO_SUCH_RANGE, PartialFile
from runner.service.proxy import check_clear_text, find_proxy
from runner.service.redirects import REDIRECT_STATUSES, Redirects
from runner.service.reply_body import in_utf8, read_reply
from runner.service.responses import error_from_response, moment_of
from runner.service.scrubber import Scrubber
from runner.service.tls import tls_context
from runner.service.transport import (
    HEADER_LIMITS,
    Reply,
    SessionTransport,
    Transport,
    TransportFactory,
    TransportUnsupported,
    reuse_trace,
)
from runner.service.transport_direct import DirectTransport
from runner.types import JudgeResponse, Secret
from runner.version import __version__

log = logging.getLogger(__name__)

Params = ParamSpec("Params")
Result = TypeVar("Result")

MIN_UPLOAD_BYTES_PER_SECOND = 20_000  # a slower upload is given up
# If the first replies are of another kind (not HTTP, a web page), the address is wrong: the service is not down. The
# number is that of an outage, for which a run would wait.
FOREIGN_FIRST_REPLIES = 5
CHAT_PATH = "/chat/completions"


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
        service_time: the service's clock at the last reply to a call that is no chat (Unix time in seconds), by its
            `Date` header; None if it has none.
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
        self.service_time: float | None = None
        self._query = {name: value.reveal() for name, value in service.query.items()}
        self._chat_url = URL(f"{base_url}{CHAT_PATH}").update_query(self._query)
        self._proxy = find_proxy(service, base_url)
        check_clear_text(service, base_url, self._proxy)
        self._max_reply_bytes = service.max_reply_mb * 1_000_000
        self._hidden = list(service.headers.values())
        self._hidden += [value for name, value in service.query.items() if not _is_shown(name)]
        self._hidden += () if self._proxy is None else self._proxy.secrets
        self._scrubber = Scrubber([*self._hidden, *(() if token is None else (token,))])
        self._first_replies = FirstReplies(FOREIGN_FIRST_REPLIES)
        self._make_transport = transport
        self._closing = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None
        self._redirects: Redirects | None = None

    async def __aenter__(self) -> Self:
        timeout = self._service.timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls_context(self._service)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=timeout.total, sock_connect=timeout.connect),
            trace_configs=[reuse_trace()],
            **HEADER_LIMITS,
        )
        self._closing.push_async_callback(self._session.close)
        try:
            self._transport = self._make_transport(
                self._session, self._chat_url, self._proxy_url, self._max_reply_bytes
            )
        except TransportUnsupported:
            self._transport = self._session_transport()
        except BaseException:
            await self._closing.aclose()
            raise
        self._closing.push_async_callback(self._transport.close)
        if self._proxy is not None:
            proxy = self._proxy
            log.info(
                "the service '%s' is reached through the proxy %s (%s)", self._service.name, proxy.name, proxy.source
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def chat_url(self) -> str:
        """The URL that chat requests are sent to, for messages: without secrets."""
        return self._target("POST", self._chat_url).url

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

    async def download(self, path: str, file: PartialFile) -> None:
        """Stream to the disk what is missing of a file; raises ServiceError and OSError.

        Another call with the same `file` continues where this one broke off. Redirects are followed without the token.
        A file that is not whole still has what the service wrote into it: call `scrub_file` if it is kept.
        """
        await self._authorized(self._download, path, file)
        self.scrub_file(file.path)

    def scrub_file(self, path: Path) -> None:
        """Mask the service's secrets in a downloaded file; raises OSError."""
        self._scrubber.scrub_file(path)

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
            status, headers, raw = await self._post(as_streaming(body) if self._service.stream else body)
        except ServiceError as error:
            raise self._scrubbed(error) from None
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise self._connection_error(error, "POST", self._chat_url) from None
        raw = self._scrubber.scrub(raw)
        try:
            if not 200 <= status < 300:
                raise error_from_response(status, headers, in_utf8(raw, headers), self._service.dialect)
            response = read_reply(raw, headers, status, self._service.dialect)
        except ServiceError as error:
            target = self._target("POST", self._chat_url)
            failure = explained(error, headers.get("Location"), target)
            raise self._scrubbed(self._first_replies.judged(failure, target)) from None
        self._first_replies.on_usable()
        return emulated(response) if self._notes_emulator(headers) else response

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
            return await self._read(response)

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
                return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        return self._scrubber.scrub(await read_bounded(response.content, self._max_reply_bytes))

    async def _download(self, path: str, file: PartialFile) -> None:
        timeout, headers = self._service.timeout, file.next_headers()
        limits = aiohttp.ClientTimeout(None, sock_connect=timeout.connect, sock_read=timeout.total)
        handled = (*REDIRECT_STATUSES, NO_SUCH_RANGE)
        async with self._reply("GET", path, handled, headers=headers, timeout=limits) as response:
            if response.status not in REDIRECT_STATUSES:
                return await file.receive(response, timeout.total)
            start, location = response.url, response.headers.get("Location")
        if self._redirects is None:
            self._redirects = Redirects(self._service, self.base_url, self._opened, self._proxy_url_for)
            self._closing.push_async_callback(self._redirects.close)
        try:
            await self._redirects.receive(file, start, location, headers, limits, timeout.total)
        except ServiceError as error:
            raise self._scrubbed(error) from None

    @asynccontextmanager
    async def _reply(
        self, method: str, path: str, handled: Container[int] = (), **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open the response of a call to read its body.

        Raises ServiceError unless a complete response is read that is a 2xx, or has a status that the caller handles.
        """
        url = URL(f"{self.base_url}{path}", encoded=True)
        if params := {**self._query, **options.pop("params", {})}:
            url = url.update_query(params)
        try:
            async with self._opened.request(
                method, url, proxy=self._proxy_url, allow_redirects=False, **options
            ) as response:
                if "html" not in response.headers.get("Content-Type", ""):
                    self._first_replies.on_usable()
                self._notes_emulator(response.headers)
                self.service_time = moment_of(response.headers.get("Date"))
                if not 200 <= response.status < 300 and response.status not in handled:
                    raw = await read_bounded(response.content, self._max_reply_bytes, is_error=True)
                    raw = in_utf8(self._scrubber.scrub(raw), response.headers)
                    error = error_from_response(response.status, response.headers, raw, self._service.dialect)
                    raise explained(error, response.headers.get("Location"), self._target(method, url))
                yield response
        except ServiceError as error:
            raise self._scrubbed(error) from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise self._connection_error(error, method, url) from None

    def _connection_error(self, error: Exception, method: str, url: URL) -> ServiceError:
        target = self._target(method, url)
        failure = connection_error(error, self._service.timeout.total, target)
        return self._scrubbed(self._first_replies.judged(failure, target))

    def _target(self, method: str, url: URL) -> CallTarget:
        """Describe a call for a message; of the query's values only versions are shown."""
        hidden = {name: "***" for name in self._query if not _is_shown(name)}
        shown = url.update_query(hidden) if hidden else url
        path = url.raw_path.removeprefix(URL(self.base_url).raw_path.rstrip("/"))
        return CallTarget(method, str(shown), path, self._proxy)

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
            self._scrubber.add(token)
            self._token = token
            self._session.headers.update(self._headers())
            self._transport.use(self._session.headers)
        return sent is not self._token

    def _proxy_url_for(self, url: str) -> str | None:
        proxy = find_proxy(self._service, url)
        return None if proxy is None else proxy.url.reveal()

    def _session_transport(self) -> SessionTransport:
        return SessionTransport(self._opened, self._chat_url, self._proxy_url, self._max_reply_bytes)

    @property
    def _proxy_url(self) -> str | None:
        return None if self._proxy is None else self._proxy.url.reveal()

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


def check_connection(service: ServiceConfig) -> None:
    """Raise ConfigError if a service's proxy or its certificates cannot be used; sends nothing."""
    if service.kind == "http":
        check_clear_text(service, service.base_url, find_proxy(service, service.base_url))
        tls_context(service)


def emulated(response: JudgeResponse) -> JudgeResponse:
    """Return an answer marked as an emulator's: the name of its model says so."""
    return msgspec.structs.replace(response, model=f"{EMULATED_PREFIX}{response.model or 'unknown'}")


def _is_shown(name: str) -> bool:
    """Return True for a name in the query whose value may stand in messages: `api-version` and the like."""
    return name.lower().endswith("version")


def _outside_context() -> RuntimeError:
    return RuntimeError("the client is used outside its context")


def _without(secret: str, text: str) -> str:
    """Replace the secret in a text, and also its beginning, because the text may be cut off inside it."""
    for size in range(len(secret), min(len(secret), 8) - 1, -1):
        if size > 3:
            text = text.replace(secret[:size], "***")
    return text
