"""The same request with another body, over and over, for a quarter of what `ClientSession.post` takes.

`ClientSession.post` works out for each call what is the same for all of them (address, headers, cookies, proxy,
redirects) and starts a task to write the body. Here that is done once. All else is aiohttp's: connections, TLS, and the
reading of HTTP. What is used of it is no promise of its, so
`TransportUnsupported` tells where it is not there as it was.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

Reply = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""

IDLE_MAX_SECONDS = 15.0
"""A connection that rested for longer is not used again (aiohttp's own figure): services close theirs unasked."""


class TransportUnsupported(Exception):
    """This aiohttp is made in another way: post through its session. Nothing was sent."""


class DirectTransport:
    """Posts bodies to one address, without a proxy, over connections of a session.

    Args:
        session: whose connector opens the connections, and closes them at the end.
        url: where to post.
        headers: of each request.
        timeout: `sock_connect` and `total` of each request.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str], timeout: aiohttp.ClientTimeout
    ) -> None:
        if session.connector is None or timeout.total is None:
            raise TransportUnsupported
        self._connector = session.connector
        self._timeout = timeout
        self._total = timeout.total
        self._loop = asyncio.get_running_loop()
        self._session, self._url = session, url
        self.use(headers)
        self._resting: deque[tuple[Connection, float]] = deque()
        self._deadlines: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = math.inf

    def use(self, headers: CIMultiDict[str]) -> None:
        """Send these headers from now on; raises NoSeam."""
        self._request, self._head = _prepared(self._session, self._url, headers)

    async def post(self, body: bytes) -> Reply:
        """Send one body and return the whole reply.

        Raises what `ClientSession.post` raises, `HttpProcessingError` in place of `ClientResponseError`, and NoSeam.
        """
        deadline = self._loop.time() + self._total
        connection = self._rested() or await self._connect()
        self._deadlines[connection] = deadline
        if deadline < self._alarm:
            self._set_alarm(deadline)
        try:
            reply = await self._exchange(connection, body)
        except BaseException as error:
            connection.close()
            if self._deadlines.pop(connection, None) is None and isinstance(error, Exception):
                raise TimeoutError from None
            raise
        if self._deadlines.pop(connection, None) is None:
            connection.close()
            raise TimeoutError
        self._resting.append((connection, self._loop.time()))
        return reply

    def close(self) -> None:
        """Give the connections back to the session, which closes them."""
        if self._timer is not None:
            self._timer.cancel()
        while self._resting:
            self._resting.pop()[0].release()

    async def _connect(self) -> Connection:
        limit = asyncio.timeout(self._total)
        try:
            async with limit:
                connection = await self._connector.connect(self._request, [], self._timeout)
        except TimeoutError:
            if limit.expired():
                raise
            raise aiohttp.ConnectionTimeoutError from None
        except (AttributeError, TypeError) as error:
            raise TransportUnsupported from error
        _look_at(connection)
        return connection

    def _rested(self) -> Connection | None:
        """A connection to use again: none that rested for long, the service ended, or spoke on unasked."""
        longest = self._loop.time() - IDLE_MAX_SECONDS
        while self._resting:
            connection, since = self._resting.popleft()
            protocol = connection.protocol
            if since >= longest and protocol is not None and protocol.is_connected() and not protocol.should_close:
                return connection
            connection.close()
        return None

    async def _exchange(self, connection: Connection, body: bytes) -> Reply:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True)
        transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:  # the answer is still to come
            message, payload = await protocol.read()
        raw = payload.read_nowait() if payload.is_eof() else await payload.read()
        if transport.get_write_buffer_size():
            transport.abort()  # answered before all was read: what is sent here next would wait behind the rest
        return message.code, message.headers, raw

    def _set_alarm(self, deadline: float) -> None:
        """One timer for all calls, at the earliest deadline there was: a timer each would cost more than the rest."""
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = deadline
        self._timer = self._loop.call_at(deadline, self._end_the_late)

    def _end_the_late(self) -> None:
        """Break off what takes too long; who waits for it finds its deadline gone."""
        self._timer, self._alarm, now = None, math.inf, self._loop.time()
        for connection in [each for each, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[connection]
            if connection.transport is not None:
                connection.transport.abort()
        if self._deadlines:
            self._set_alarm(min(self._deadlines.values()))


def _prepared(
    session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str]
) -> tuple[aiohttp.ClientRequest, bytes]:
    """What tells a connector where to connect, and the head of each request up to its length, as aiohttp writes it."""
    try:
        request = aiohttp.ClientRequest("POST", url, headers=headers, loop=asyncio.get_running_loop(), session=session)
        named = [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "content-length"]
        lines = [f"POST {request.url.raw_path_qs} HTTP/1.1", *named, "Content-Length: "]
    except (AttributeError, TypeError) as error:
        raise TransportUnsupported from error
    if any("\r" in line or "\n" in line for line in lines):
        raise TransportUnsupported
    return request, "\r\n".join(lines).encode()


def _look_at(connection: Connection) -> None:
    """Raise NoSeam where a connection lacks what is used of it here."""
    protocol = connection.protocol
    try:
        if protocol is not None:
            protocol.set_response_params(read_until_eof=True)
            _ = protocol.read, protocol.is_connected(), protocol.should_close
    except (AttributeError, TypeError) as error:
        connection.close()
        raise TransportUnsupported from error
