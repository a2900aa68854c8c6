"""How `Client` sends a chat request: the `Transport` protocol, and the transport on aiohttp's public API.

Pass `Client` another `TransportFactory` to try another way of sending. `transport_direct` holds the default one.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from runner.errors import StaleConnection
from runner.service.bounded import read_bounded

# Some networks add headers that are longer than aiohttp's default of 8,190 bytes (its issue 2304), and many of them.
HEADER_MAX_BYTES = 256 * 1024
HEADERS_MAX_COUNT = 1000

# The arguments for this of `ClientSession`, and of a connection; an older aiohttp does not limit the count.
HEADER_LIMITS: Mapping[str, Any] = {
    "max_line_size": HEADER_MAX_BYTES,
    "max_field_size": HEADER_MAX_BYTES,
    **(
        {"max_headers": HEADERS_MAX_COUNT}
        if "max_headers" in inspect.signature(aiohttp.ClientSession.__init__).parameters
        else {}
    ),
}

# Some services close a connection after each reply and do not announce it. If this many more reused connections end
# without a reply than one in so many does, none is reused for some minutes. A reset now and then changes nothing: a new
# connection for each request costs half as much CPU again.
MAX_STALE_CONNECTIONS = 10
REPLIES_PER_STALE_CONNECTION = 10
NO_REUSE_SECONDS = 600.0

Reply = tuple[int, Mapping[str, str], bytes]  # status, headers, body


class TransportUnsupported(Exception):
    """A transport does not work here, for example with this version of a library. Nothing was sent."""


class Transport(Protocol):
    """Sends bodies to one URL. Any number of calls may be in flight."""

    async def post(self, body: bytes) -> Reply:
        """Send one body as JSON and return the complete reply, with any status; follow no redirect.

        Raises:
            ReplyTooLarge: a 2xx is larger than allowed; a larger reply with another status is cut.
            StaleConnection: a reused connection ended before the first byte of the reply.
            TransportUnsupported: the transport does not work here and has not sent the body; `Client` falls back to
                `SessionTransport` for good.
            ServiceError, aiohttp.ClientError, HttpProcessingError, OSError: there is no complete reply. The time limit
                is a `TimeoutError`. `Client` maps these and removes secrets from their messages.
        """
        ...

    def use(self, headers: CIMultiDict[str]) -> None:
        """Send these headers with each later request, for example because the token has changed."""
        ...

    async def close(self) -> None:
        """Release the connections. The client calls this before it closes the session."""
        ...


# Makes a transport from the client's session, the URL of chat completions, the proxy's URL (None: no proxy) and the
# size of the largest reply in bytes. The session holds the headers, the timeouts and the TLS settings. The factory may
# raise TransportUnsupported.
TransportFactory = Callable[[aiohttp.ClientSession, URL, str | None, int], Transport]


class ConnectionReuse:
    """Whether connections are used for more than one request: not while the service closes them without notice."""

    def __init__(self) -> None:
        self._replies_wanted = 0
        self._allowed_from = 0.0

    @property
    def is_allowed(self) -> bool:
        """True if the next request may use a connection that has served another one."""
        return not self._allowed_from or time.monotonic() >= self._allowed_from

    def on_reply(self) -> None:
        """Note a reply on a reused connection."""
        if self._replies_wanted:
            self._replies_wanted -= 1

    def stale(self, error: aiohttp.ClientError) -> StaleConnection | None:
        """Return the error in place of one that ended a reused connection; None if a part of the reply had come.

        Args:
            error: with what aiohttp failed while it waited for the head of the reply.
        """
        if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):
            return None  # the message is the part of the head that had come
        if not isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            return None
        self._replies_wanted += REPLIES_PER_STALE_CONNECTION
        if self._replies_wanted > (MAX_STALE_CONNECTIONS - 1) * REPLIES_PER_STALE_CONNECTION:
            self._replies_wanted, self._allowed_from = 0, time.monotonic() + NO_REUSE_SECONDS
        return StaleConnection("the service closed the connection between two requests")


def reuse_trace() -> aiohttp.TraceConfig:
    """Return the trace of a session that lets `SessionTransport` see which requests use an old connection."""

    async def on_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.is_reused = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(on_reuse)
    return trace


class SessionTransport:
    """Sends with `ClientSession.post`: works with every proxy and every version of aiohttp.

    Args:
        session: sends the requests; its headers and timeouts apply. It has the trace of `reuse_trace`.
        url: the URL to post to.
        proxy: the proxy's URL, or None.
        max_reply_bytes: the size of the largest reply.
    """

    def __init__(self, session: aiohttp.ClientSession, url: URL, proxy: str | None, max_reply_bytes: int) -> None:
        self._session, self._url, self._proxy = session, url, proxy
        self._max_reply_bytes = max_reply_bytes
        self._reuse = ConnectionReuse()

    async def post(self, body: bytes) -> Reply:
        """Send one body and return the complete reply.

        Raises StaleConnection, ReplyTooLarge, aiohttp.ClientError and OSError.
        """
        connection = SimpleNamespace(is_reused=False)
        try:
            async with self._session.post(
                self._url,
                data=body,
                headers=None if self._reuse.is_allowed else {"Connection": "close"},
                proxy=self._proxy,
                allow_redirects=False,
                trace_request_ctx=connection,
            ) as response:
                if connection.is_reused:
                    self._reuse.on_reply()
                is_error = not 200 <= response.status < 300
                raw = await read_bounded(response.content, self._max_reply_bytes, is_error=is_error)
                return response.status, response.headers, raw
        except aiohttp.ClientError as error:
            if connection.is_reused and (stale := self._reuse.stale(error)):
                raise stale from None
            raise

    def use(self, headers: CIMultiDict[str]) -> None:
        """Send these headers with each later request of the session."""
        if headers is not self._session.headers:
            self._session.headers.update(headers)

    async def close(self) -> None:
        """Do nothing: the connections belong to the session."""
