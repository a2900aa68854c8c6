"""Which proxy a service is reached through, if any. `NO_PROXY` is read as curl reads it.

curl's rules are those of its manual (`--noproxy`, CURLOPT_NOPROXY) and of `lib/noproxy.c`: names match themselves and
their subdomains, `*` matches everything, addresses are compared as numbers, also with a range (`10.0.0.0/8`). Beyond
curl, an entry may have a port (as in Python's own rules) or stars (`*.corp`, `10.1.*`).
"""

from __future__ import annotations

import base64
import re
import urllib.request
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from runner.config import ServiceConfig, is_loopback
from runner.errors import ConfigError
from runner.types import Secret

Address = IPv4Address | IPv6Address

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_AND_PORT = re.compile(r"\[([^\[\]]*)\](?::(\d+))?|([^:]*):(\d+)")


class Proxy(msgspec.Struct, frozen=True):
    """A proxy between this machine and a service.

    Attributes:
        url: its URL, which may contain a password.
        name: its URL without user name and password, for messages.
        source: what names it: `service.proxy`, or the environment.
    """

    url: Secret
    name: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The forms in which its password may occur in a message."""
        parts = urlsplit(self.url.reveal())
        if parts.password is None:
            return ()
        user, password = unquote(parts.username or ""), unquote(parts.password)
        header = base64.b64encode(f"{user}:{password}".encode()).decode()
        return tuple(Secret(text) for text in (parts.password, password, header))


def find_proxy(service: ServiceConfig, url: str) -> Proxy | None:
    """Return the proxy through which an address is reached; None for a direct connection.

    `service.proxy` is used for every address; the proxy of the environment never for a loopback address. A look-up for
    each request would cost more than the request.

    Raises:
        ConfigError: the environment names a proxy of an unknown kind.
    """
    if service.kind == "emulator":
        return None  # a child process on this machine, which no proxy can reach
    return _configured(service) or _from_environment(url)


def check_clear_text(service: ServiceConfig, base_url: str, proxy: Proxy | None) -> None:
    """Raise ConfigError if a secret of the service would leave this machine over plain http."""
    problem = service.clear_text_problem(base_url, None if proxy is None else proxy.url)
    if problem is not None:
        raise ConfigError(f"service '{service.name}': {base_url}: {problem}")


def bypasses_proxy(host: str, port: int | None, no_proxy: str) -> bool:
    """Return True if a value of `NO_PROXY` says that a host is reached without a proxy.

    Args:
        host: a host name, or an address without brackets.
        port: the port of the connection; None matches no entry with a port.
        no_proxy: names, addresses and ranges, separated by commas or blanks.
    """
    name = host.strip("[]").rstrip(".").lower()
    address = _address(name)
    return bool(name) and any(_matches(entry, name, address, port) for entry in re.split(r"[,\s]+", no_proxy.lower()))


def _matches(entry: str, name: str, address: Address | None, port: int | None) -> bool:
    found = _HOST_AND_PORT.fullmatch(entry)
    if found is not None:
        entry, wanted = found[1] or found[3] or "", found[2] or found[4]
        if wanted is not None and int(wanted[:6]) != port:
            return False
    if "*" in entry:
        return fnmatchcase(name, entry.replace("[", "[[]")) or name == entry.removeprefix("*.")
    if address is not None:
        return _is_in_range(address, entry)
    suffix = entry.removeprefix(".").rstrip(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _is_in_range(address: Address, entry: str) -> bool:
    """Return True if an address is this one, or in this range (`10.1.0.0/16`, `fd00::/8`)."""
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        return False
    return address in network


def _address(name: str) -> Address | None:
    """Return a host's address if its name is one; an IPv4 address that is written as IPv6 counts as IPv4."""
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _configured(service: ServiceConfig) -> Proxy | None:
    return None if service.proxy is None else _proxy(service.proxy.reveal(), "service.proxy")


def _from_environment(base_url: str) -> Proxy | None:
    target = urlsplit(base_url)
    host, port = target.hostname or "", target.port or _DEFAULT_PORTS.get(target.scheme)
    if is_loopback(host):
        return None
    environment = urllib.request.getproxies_environment()
    found = environment or urllib.request.getproxies()  # without variables, some systems have settings of their own
    url = found.get(target.scheme)
    bypassed = bypasses_proxy(host, port, environment.get("no", "")) if environment else _system_bypasses(host)
    if not url or bypassed:
        return None
    scheme, separator, _ = url.partition("://")
    if separator and scheme.lower() not in _DEFAULT_PORTS:
        raise ConfigError(
            f"{target.scheme.upper()}_PROXY in the environment names a {scheme} proxy; expected http://host:port. "
            f"Unset it for this command, or add {host} to NO_PROXY"
        )
    return _proxy(url if separator else f"http://{url}", f"{target.scheme.upper()}_PROXY in the environment")


def _system_bypasses(host: str) -> bool:
    return bool(urllib.request.proxy_bypass(host))


def _proxy(url: str, source: str) -> Proxy:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    if not parts.hostname:
        raise ConfigError(f"{source}: expected the address of a proxy, such as http://host:3128")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(Secret(url), f"{parts.scheme}://{host}" + ("" if port is None else f":{port}"), source)
