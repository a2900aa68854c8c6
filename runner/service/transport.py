"""How `Client` sends a chat request: the `Transport` protocol, and the transport on aiohttp's public API.

Pass `Client` another `TransportFactory` to try another way of sending. `transport_direct` holds the default one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

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

Reply = tuple[int, Mapping[str, str], bytes]  # status, headers, body


class TransportUnsupported(Exception):
    """A transport does not work here, for example with this version of a library. Nothing was sent."""


class Transport(Protocol):
    """Sends bodies to one URL. Any number of calls may be in flight."""

    async def post(self, body: bytes) -> Reply:
        """Send one body as JSON and return the complete reply, with any status; follow no redirect.

        Raises:
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


# Makes a transport from the client's session, the URL of chat completions and the proxy's URL (None: no proxy).
# The session holds the headers, the timeouts and the TLS settings. The factory may raise TransportUnsupported.
TransportFactory = Callable[[aiohttp.ClientSession, URL, str | None], Transport]


class SessionTransport:
    """Sends with `ClientSession.post`: works with every proxy and every version of aiohttp.

    Args:
        session: sends the requests; its headers and timeouts apply.
        url: the URL to post to.
        proxy: the proxy's URL, or None.
    """

    def __init__(self, session: aiohttp.ClientSession, url: URL, proxy: str | None) -> None:
        self._session, self._url, self._proxy = session, url, proxy

    async def post(self, body: bytes) -> Reply:
        """Send one body and return the complete reply; raises aiohttp.ClientError and OSError."""
        async with self._session.post(self._url, data=body, proxy=self._proxy, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    def use(self, headers: CIMultiDict[str]) -> None:
        """Send these headers with each later request of the session."""
        if headers is not self._session.headers:
            self._session.headers.update(headers)

    async def close(self) -> None:
        """Do nothing: the connections belong to the session."""
