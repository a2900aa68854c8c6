"""The `service` section: where requests are sent, with which token and within which limits."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from runner.config.fields import (
    AutoOrFlag,
    EnvVarName,
    Flag,
    Frozen,
    JsonMapping,
    LocalPath,
    NonEmptyText,
    PositiveDuration,
    PositiveInt,
    SecretText,
    expected,
    is_whole,
    refused,
)
from runner.core import read_small
from runner.errors import ConfigError
from runner.types import Secret

# What people paste in front of a token, and around it.
_PREFIX = re.compile(r"\A(?:authorization\s*:|bearer(?:\s|\Z))\s*", re.IGNORECASE)
_AROUND = " \t\r\n'\""
# What people paste behind the address: the paths of single calls. (Some services have an address that ends in /models.)
_ENDPOINT = re.compile(r"/(chat/completions|completions|responses|embeddings)\Z")
# Names of headers, and of values in the query, that carry a secret.
SECRET_HEADER = re.compile(r"authorization|api[-_]?key|token|secret|cookie|passw", re.IGNORECASE)
SECRET_QUERY = re.compile(rf"{SECRET_HEADER.pattern}|auth|(\A|[-_])(key|code|sig|signature)\Z", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class TokenLimits(Frozen):
    """Tokens per minute for a service that counts input and output separately."""

    input: PositiveInt = Field(description="Input tokens per minute.")
    output: PositiveInt = Field(description="Output tokens per minute.")


class Adaptive(Frozen):
    """A concurrency that adapts to the service, between two numbers."""

    start: PositiveInt = Field(default=20, description="Requests in flight at the start.")
    max: PositiveInt = Field(default=512, description="The most requests in flight.")


def _tokens(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Mapping):
        return TokenLimits.model_validate(value, context=info.context)
    if value is None or isinstance(value, TokenLimits) or _is_count(value):
        return value
    raise expected("a whole number of at least 1, {input: N, output: N} or null")


def _concurrency(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Mapping):
        return Adaptive.model_validate(value, context=info.context)
    if isinstance(value, Adaptive) or _is_count(value):
        return value
    raise expected("a whole number of at least 1, or {start: N, max: N}")


def _is_count(value: Any) -> bool:
    return is_whole(value) and value >= 1


class LimitsConfig(Frozen):
    """The quota of one service entry, shared by all judges that use it."""

    rpm: PositiveInt | None = Field(default=None, description="Requests per minute; null: not limited.")
    tpm: Annotated[PositiveInt | TokenLimits | None, BeforeValidator(_tokens)] = Field(
        default=None, description="Tokens per minute; null: not limited."
    )
    concurrency: Annotated[PositiveInt | Adaptive, BeforeValidator(_concurrency)] = Field(
        default=Adaptive(), description="Requests in flight: adaptive between two numbers, or a fixed number."
    )


class TimeoutConfig(Frozen):
    """How long one attempt may take, in seconds."""

    connect: PositiveDuration = Field(default=10.0, description="Until the connection is established.")
    total: PositiveDuration = Field(default=300.0, description="Until the whole answer has arrived.")


def _base_url(value: str) -> str:
    # No message repeats the value: a URL can contain a password.
    try:
        url = urlsplit(value.strip())
        fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and " " not in url.netloc
    except ValueError:
        fits = False
    if not fits:
        raise refused("expected an address such as https://host/v1")
    if "@" in url.netloc:
        raise refused("an address must not contain a user name or password; use token_env")
    if url.query or url.fragment:
        raise refused("expected an address without '?' or '#'; put what follows '?' under 'query'")
    endpoint = _ENDPOINT.search(url.path.rstrip("/"))
    if endpoint:
        raise refused(f"expected the address up to its version, such as https://host/v1, without {endpoint[0]}")
    return value.strip().rstrip("/")


def _proxy(value: Any) -> Secret | None:
    if value is None or isinstance(value, Secret):
        return value
    try:
        url = urlsplit(value) if isinstance(value, str) else SplitResult("", "", "", "", "")
        fits = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise refused("expected an address such as http://host:3128")
    return Secret(value)


def _headers(value: Mapping[str, Secret]) -> Mapping[str, Secret]:
    for name, content in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise refused("the name of a header may contain only letters, digits and '-'")
        if not content.reveal().isprintable():
            raise refused(f"the header {name} contains a line break or another character that cannot be sent")
    return value


def _query(value: Mapping[str, Secret]) -> Mapping[str, Secret]:
    for name, content in value.items():
        if not name or not name.isprintable() or not content.reveal().isprintable():
            raise refused("the names and values of a query may not be empty or contain line breaks")
    return value


def is_loopback(host: str) -> bool:
    """Return True if a host's name is a loopback address of this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class ServiceConfig(Frozen):
    """One service entry: its address, its token and its limits."""

    name: NonEmptyText = Field(default="default", description="The name by which judges refer to it.")
    kind: Literal["http", "emulator"] = Field(
        default="http", description="A service on the network, or the embedded emulator."
    )
    base_url: Annotated[NonEmptyText, AfterValidator(_base_url)] = Field(
        default="https://aiservice.cn-hangzhou.aliyuncs.com/v1", description="The address up to its version."
    )
    token_env: EnvVarName | None = Field(
        default="JUDGE_MODEL_TOKEN", description="The environment variable with the token; null: none is sent."
    )
    token_file: LocalPath | None = Field(default=None, description="A file with the token; read again on 401.")
    authorization: Literal["plain", "doubled"] = Field(
        default="plain", description="The Authorization header; doubled: as PAI's documented Python SDK sends it."
    )
    dialect: Literal["pai", "openai", "dashscope"] = Field(
        default="pai", description="Batch statuses and limits, the form of result lines, the meaning of 429."
    )
    batch: AutoOrFlag = Field(default="auto", description="Whether it has a Batch API.")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="The quota of this entry.")
    timeout: TimeoutConfig = Field(default=TimeoutConfig(), description="How long one attempt may take.")
    headers: Annotated[Mapping[str, SecretText], AfterValidator(_headers)] = Field(
        default={}, description="Additional headers; secrets only as ${VAR}."
    )
    query: Annotated[Mapping[str, SecretText], AfterValidator(_query)] = Field(
        default={}, description="Added to the address of every call, such as api-version; secrets only as ${VAR}."
    )
    stream: Flag = Field(default=False, description="Ask for a stream of events, for models that give no other reply.")
    max_reply_mb: PositiveInt = Field(default=16, description="The largest reply that is read, in MB, decompressed.")
    proxy: Annotated[SecretText | None, BeforeValidator(_proxy)] = Field(
        default=None, description="A proxy for this service; a password only as ${VAR}."
    )
    ca_file: LocalPath | None = Field(default=None, description="Certificates to trust, as a PEM file.")
    client_cert: LocalPath | None = Field(
        default=None, description="The client's certificate, as a PEM file; it may contain the key."
    )
    client_key: LocalPath | None = Field(default=None, description="Its key, as a PEM file without a password.")
    allow_http: Flag = Field(default=False, description="Send a token over plain http to another host.")
    emulator: JsonMapping = Field(default={}, description="kind: emulator: its options.")

    @property
    def sends_token(self) -> bool:
        """True if requests to this service have an Authorization header with the token."""
        return self.kind == "http" and (self.token_env is not None or self.token_file is not None)

    @property
    def secret_names(self) -> list[str]:
        """The names of headers and of values in the query that carry a secret."""
        headers = [name for name in self.headers if SECRET_HEADER.search(name)]
        return headers + [name for name in self.query if SECRET_QUERY.search(name)]

    def clear_text_problem(self, base_url: str, proxy: Secret | None) -> str | None:
        """Return what is wrong if a secret would leave this machine over plain http, else None.

        Args:
            base_url: the address that is called.
            proxy: the proxy through which it is reached; None for a direct connection.
        """
        if self.kind != "http" or self.allow_http or not (self.sends_token or self.secret_names):
            return None
        target, hop = urlsplit(base_url), urlsplit("" if proxy is None else proxy.reveal())
        if target.scheme.lower() != "http":
            return None
        if not is_loopback(target.hostname or ""):
            return "a token would be sent over plain http to another host; use https, or set 'allow_http: true'"
        if hop.scheme.lower() == "http" and not is_loopback(hop.hostname or ""):
            return (
                f"a token would be sent over plain http to the proxy at {hop.hostname}; "
                "remove the proxy, use https, or set 'allow_http: true'"
            )
        return None

    def token(self, environ: Mapping[str, str] | None = None) -> Secret | None:
        """Read the token from its file, else from its environment variable; None if none is sent.

        Raises:
            ConfigError: the file or the variable is missing or empty, or contains something that cannot be sent.
        """
        if self.kind == "emulator":
            given = self.emulator.get("token")
            return None if given is None else Secret(str(given))
        if self.token_file is not None:
            return _usable(_read(self.token_file), f"the token file {self.token_file}")
        if self.token_env is None:
            return None
        location = f"the environment variable {self.token_env}"
        given = (os.environ if environ is None else environ).get(self.token_env)
        if given is None:
            raise ConfigError(f"{location} is not set; it should contain the token of the service '{self.name}'")
        return _usable(given, location)


def _read(path: Path) -> str:
    try:
        return read_small(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"the token file {path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read the token file {path}: {os.strerror(error.errno or 0)}") from None


def _usable(raw: str, location: str) -> Secret:
    """Return the bare token, without pasted quotes and without the header's name."""
    token = raw
    while (shorter := _PREFIX.sub("", token.strip(_AROUND))) != token:
        token = shorter
    if not token:
        raise ConfigError(f"{location} is empty; it should contain the service's token")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{location} does not contain a token: it has blanks or other characters that no token has")
    return Secret(token)
