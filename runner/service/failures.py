"""What a call that got no complete reply, or a refusal, means for a person: the cause, the URL, and what to do."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp
import msgspec
from aiohttp.http import HttpProcessingError

from runner.core import NO_MORE_FILES, escape_controls, open_file_limit
from runner.errors import (
    BadReply,
    Busy,
    ConnectFailed,
    ConnectionLost,
    Fatal,
    RateLimited,
    Refused,
    ServiceError,
    TimedOut,
)
from runner.service.proxy import Proxy

_SCHEME_HINT = "it may speak plain http: check whether service.base_url begins with http:// or https://"
# For parts of OpenSSL's words, what to do.
_TLS_HINTS = {
    "mismatch": "use the host name that is in the certificate in service.base_url",
    "expired": "the certificate has expired, or the clock of this machine is wrong; set it right",
    "not yet valid": "the clock of this machine is wrong, or the certificate is too new; set it right",
    "wrong version number": _SCHEME_HINT,
    "record layer failure": _SCHEME_HINT,
    "alert": "it refused this client: if it wants a certificate, set service.client_cert and service.client_key",
}
_TRUST_HINT = "name the certificate to trust in service.ca_file or in SSL_CERT_FILE"
# OpenSSL's words for a service that wants another certificate of the client, or one at all.
_CLIENT_CERTIFICATE = ("alert certificate required", "alert bad certificate", "alert unknown ca", "alert handshake")

# Words of aiohttp's parser for replies that are not HTTP, each with what is wrong.
_NOT_HTTP = {
    "be present with": "it has both a Content-Length and a Transfer-Encoding, so that nobody knows where it ends",
    "duplicate content-length": "it has two lengths",
    "got more than": "one of its headers is too long",
    "too many headers": "it has too many headers",
    "bad status line": "it does not begin with an HTTP status",
    "invalid header": "it has an invalid header",
    "content-encoding": "it is compressed in a way that was not asked for",
}
_FOREIGN_HINT = (
    "check service.base_url (that of an API mostly ends in /v1) and what is between this machine and the service"
)
# The first bytes of a TLS alert, as aiohttp shows them.
_TLS_ALERT = r"\x15\x03"


class CallTarget(msgspec.Struct, frozen=True):
    """Where a call goes, without secrets.

    Attributes:
        method: the HTTP method.
        url: the whole URL.
        path: the part of it behind the service's base URL.
        proxy: the proxy in between, or None.
    """

    method: str
    url: str
    path: str
    proxy: Proxy | None

    def __str__(self) -> str:
        return f"{self.method} {self.url}"

    @property
    def via(self) -> str:
        """Words that name the proxy; empty without one."""
        return "" if self.proxy is None else f" through the proxy {self.proxy}"

    @property
    def shares_its_replies(self) -> bool:
        """True if a reply may be the proxy's own: over https the proxy only passes bytes on."""
        return self.proxy is not None and self.url.startswith("http:")


def connection_error(error: Exception, total: float, target: CallTarget) -> ServiceError:
    """Map an exception for which there is no complete reply to a ServiceError.

    Args:
        error: an exception of aiohttp, or an OSError (TimeoutError included).
        total: the time limit of the request in seconds, for the message.
        target: where the call went.
    """
    detail = " ".join(str(error).split()) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return _tls_refused(detail, target)
        case aiohttp.ConnectionTimeoutError():
            return ConnectFailed(f"no connection within the connect timeout{target.via}")
        case aiohttp.ClientProxyConnectionError():
            return ConnectFailed(f"no connection to the proxy {target.proxy}: {detail}")
        case aiohttp.ClientConnectorError() if error.errno in NO_MORE_FILES:
            return Busy(f"no connection: this process may open no more files (ulimit -n is {open_file_limit()})")
        case aiohttp.ClientConnectorError():
            return ConnectFailed(f"{detail}{target.via}")
        case aiohttp.ClientHttpProxyError():
            return proxy_error(error.status, target)
        case aiohttp.InvalidURL():
            return Fatal(f"not a URL: {detail}", reason="address")
        case TimeoutError():
            return TimedOut(f"no complete answer within {total:g} s{target.via}")
        case aiohttp.ServerDisconnectedError() if not isinstance(error.message, str):  # it holds the unfinished reply
            return ConnectionLost(f"the connection ended within the headers of the reply{target.via}")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return _not_http(" ".join(error.message.split()), target)
        case _ if any(words in detail.lower().replace("_", " ") for words in _CLIENT_CERTIFICATE):
            return _tls_refused(detail, target)
        case _:
            return ConnectionLost(f"the connection broke: {detail}{target.via}")


def proxy_error(status: int, target: CallTarget) -> ServiceError:
    """Return the error for a proxy that answers in place of the service."""
    message = f"the proxy {target.proxy} answered {status} to {target}"
    if status == 407:
        hint = "give its user name and password in its address (service.proxy: ${VAR}), or add the host to NO_PROXY"
        return Fatal(message, reason="authentication", status=status, hint=hint)
    if status == 403:
        hint = "it does not let this machine reach the service: ask who runs it, or add the host to NO_PROXY"
        return Fatal(message, reason="authentication", status=status, hint=hint)
    return ConnectFailed(message)


def explained(error: ServiceError, location: str | None, target: CallTarget) -> ServiceError:
    """Add to the error of a response what is known about the call: its URL, a redirect's target, the proxy.

    The refusal of one request is left as it is: its row has no use for the URL.

    Args:
        error: what the response means.
        location: the response's `Location`.
        target: where the call went.
    """
    if isinstance(error, Refused):
        return error
    if error.status == 407 and target.proxy is not None:
        return proxy_error(407, target)
    text = str(error)
    if isinstance(error, Fatal) and error.reason == "address":
        moved = error.status is not None and 300 <= error.status < 400 and location
        goal = _without_secrets(urljoin(target.url, location or ""))
        if moved:
            text = f"HTTP {error.status}, a redirect to {escape_controls(goal)}"
        error.hint = error.hint or (_redirect_hint(goal, target) if moved else _address_hint(target))
    if isinstance(error, BadReply | Fatal):
        text = f"{text} ({target}{target.via})"
    elif target.shares_its_replies:
        text = f"{text} ({target.via.strip()}, which may be what answered)"
    error.args = (text,)
    return error


def _redirect_hint(goal: str, target: CallTarget) -> str:
    base = goal.removesuffix(target.path)
    if target.url.startswith("https:") and goal.startswith("http:"):
        return "redirects are not followed, and this one leads to plain http; check service.base_url"
    if base == goal or base == target.url.partition("?")[0].removesuffix(target.path):
        return "redirects are not followed, and this one leads elsewhere (a login page?); check service.base_url"
    return f"redirects are not followed: set service.base_url to {escape_controls(base)}"


def _address_hint(target: CallTarget) -> str | None:
    """Return what is probably wrong with an address that the service does not know; None for the usual hint."""
    parts = urlsplit(target.url)
    base = parts.path.removesuffix(target.path)
    if not base.strip("/"):
        return f"/v1 is missing? Try service.base_url: {parts.scheme}://{parts.netloc}/v1, or check judge.model"
    if "/openai/deployments/" in f"{base}/" and "api-version" not in parts.query:
        return "an Azure deployment needs service.query: {api-version: ...}; check service.base_url, too"
    return None


def _without_secrets(url: str) -> str:
    """Return a URL without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _tls_refused(detail: str, target: CallTarget) -> Fatal:
    words = detail.lower().replace("_", " ")
    hint = next((hint for part, hint in _TLS_HINTS.items() if part in words), None)
    proxied = "" if target.proxy is None else "; a proxy that inspects traffic has a certificate of its own"
    message = f"TLS refused: {detail} ({target}{target.via})"
    return Fatal(message, reason="address", hint=hint or f"{_TRUST_HINT}{proxied}")


def _not_http(detail: str, target: CallTarget) -> BadReply:
    if _TLS_ALERT in detail:
        cause = "the service speaks TLS: service.base_url must begin with https://"
    else:
        cause = next((cause for words, cause in _NOT_HTTP.items() if words in detail.lower()), "its form is wrong")
    message = f"a reply that cannot be read as HTTP: {cause} ({target}{target.via}; {detail[:200]})"
    return BadReply(message, is_foreign=True)


class FirstReplies:
    """Tells a service that is wrongly set up from one with a fault: the first has never sent a usable reply.

    A reply is usable if it is an answer, the refusal of a request or a 429. Errors of a server say nothing: a gateway
    in front of no service sends them, too.

    Args:
        limit: how many foreign replies in a row, before any usable one, are not an accident.
    """

    def __init__(self, limit: int) -> None:
        self._left: int | None = limit

    def on_usable(self) -> None:
        """Note that a reply could be used: from now on, a foreign one is a fault."""
        self._left = None

    def judged(self, error: ServiceError, target: CallTarget) -> ServiceError:
        """Return the error of a reply, or a Fatal in its place if every reply was foreign so far."""
        if isinstance(error, Refused | RateLimited):
            self.on_usable()
        if self._left is None or not (isinstance(error, BadReply) and error.is_foreign):
            return error
        self._left -= 1
        if self._left > 0:
            return error
        return Fatal(
            f"no reply could be used so far; {error}",
            reason="address",
            status=error.status,
            hint=_address_hint(target) or _FOREIGN_HINT,
        )
