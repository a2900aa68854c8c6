"""Follow the redirects of a download to another address, such as a signed one of a storage, without the token.

The token and the service's headers are for the service only. A storage does not need them (the address is signed), and
some refuse a request that has both. A redirect within the service may need the token (`/content` to `/content/`): it is
sent there once the service asks for it. The query of a signed address is itself a secret, so no message has more than
the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import aiohttp
from yarl import URL

from runner.config import ServiceConfig, is_loopback
from runner.errors import ConnectFailed, ConnectionLost, Fatal, ServerFault, ServiceError
from runner.service.partial_file import NO_SUCH_RANGE, PartialFile
from runner.service.transport import HEADER_LIMITS

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})

# A service, its gateway and its storage are three; browsers give up after 20.
MAX_REDIRECTS = 5

# The storage has no such file (yet): the service is asked for it again later. Any other refusal of a storage is one of
# this address, and the service makes a new one for each attempt.
_NO_FILE_STATUSES = frozenset({404, 410})

# The error code in a storage's XML: S3, OSS, Azure. The rest of the body repeats the signature.
_STORAGE_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")
_EXCERPT_BYTES = 4096


class Redirects:
    """Follows redirects of one service.

    Args:
        service: the service's section of the YAML.
        base_url: the service's URL.
        session: the service's session, with its token and headers.
        proxy_for: returns the proxy's URL for an address, or None.
    """

    def __init__(
        self,
        service: ServiceConfig,
        base_url: str,
        session: aiohttp.ClientSession,
        proxy_for: Callable[[str], str | None],
    ) -> None:
        self._service = service
        self._base = URL(base_url)
        self._session = session
        self._proxy_for = proxy_for
        self._without_token = aiohttp.ClientSession(
            connector=session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": session.headers["User-Agent"]},
            timeout=session.timeout,
            **HEADER_LIMITS,
        )

    async def close(self) -> None:
        """Release the session; the connections belong to the service's session."""
        await self._without_token.close()

    async def receive(
        self,
        file: PartialFile,
        start: URL,
        location: str | None,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        pace_seconds: float,
    ) -> None:
        """Receive a file from where a redirect leads; raises ServiceError and OSError.

        Args:
            file: takes what arrives.
            start: the URL that answered with the redirect.
            location: the redirect's `Location`.
            headers: the headers of the request for the file, without the service's own.
            limits: the time limits of each request.
            pace_seconds: as in `PartialFile.receive`.
        """
        at, session = self._target(start, location), self._without_token
        for _ in range(MAX_REDIRECTS):
            try:
                async with session.get(
                    at, headers=headers, timeout=limits, allow_redirects=False, proxy=self._proxy_for(str(at))
                ) as response:
                    if response.status in REDIRECT_STATUSES:
                        at, session = self._target(at, response.headers.get("Location")), self._without_token
                    elif response.status in (401, 403) and self._is_own(at) and session is not self._session:
                        session = self._session
                    elif 200 <= response.status < 300 or response.status == NO_SUCH_RANGE:
                        return await file.receive(response, pace_seconds)
                    else:
                        raise _refusal(at, response.status, await response.content.read(_EXCERPT_BYTES))
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                raise _failure(at, error) from None
        raise Fatal(f"more than {MAX_REDIRECTS} redirects, the last one to {_name(at)}", reason="address", status=302)

    def _target(self, at: URL, location: str | None) -> URL:
        """Return where a redirect leads; raises Fatal if it may not be followed."""
        target = _joined(at, location) if location else None
        if target is None or target.scheme not in ("http", "https") or not target.host:
            raise Fatal(f"{_name(at)} answers with a redirect that names no address", reason="address", status=302)
        is_local = is_loopback(target.host) and is_loopback(self._base.host or "")
        if target.scheme == "http" and not (is_local or self._is_own(target) or self._service.allow_http):
            raise Fatal(
                f"the service redirects its files to {_name(target)}, where everybody on the way can read them; "
                "'service.allow_http: true' allows it",
                reason="address",
                status=302,
            )
        return target.with_fragment(None)

    def _is_own(self, url: URL) -> bool:
        """Return True if an address is the service's own: the same scheme, host and port."""
        return url.origin() == self._base.origin()


def _joined(at: URL, location: str) -> URL | None:
    """Return the address that a `Location` names, unchanged if possible: a signature is of the exact text."""
    try:
        return at.join(URL(location, encoded=location.isascii() and " " not in location))
    except ValueError:
        return None


def _refusal(at: URL, status: int, body: bytes) -> ServiceError:
    code = _STORAGE_CODE.search(body)
    detail = f" ({code[1].decode()})" if code else ""
    message = f"HTTP {status}{detail} from {_name(at)}, to which the service redirects its files"
    if status in _NO_FILE_STATUSES:
        return Fatal(message, reason="address", status=status)
    return ServerFault(message, status=status)


def _failure(at: URL, error: Exception) -> ServiceError:
    """Map an exception of aiohttp, whose text may contain the address, to a ServiceError."""
    where = f"{_name(at)}, to which the service redirects its files"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Fatal(f"TLS refused by {where}", reason="address")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return ConnectFailed(f"no connection to {where}")
    return ConnectionLost(f"no reply from {where} ({type(error).__name__})")


def _name(url: URL) -> str:
    """Return an address without what may be secret in it."""
    return str(url.origin())
