"""How the client connects to a service: the proxy, and the certificates that it trusts."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from raw_server import ANSWER, BODY, answering, client, failure, free_port, response, serving, visible_text

from runner.config import ServiceConfig
from runner.errors import ConfigError, ConnectFailed, ConnectionLost, Fatal, ServerFault, ServiceError
from runner.lanes import service_stop
from runner.service import Client, check_connection
from runner.service.failures import CallTarget, connection_error
from runner.types import Secret

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield


PROXIED = "http://judge.invalid/v1"


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "HTTP_PROXY http://127.0.0.1:{}"])
async def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    async with serving(answering(response(200, ANSWER))) as proxy:
        name, _, value = form.rpartition(" ")
        monkeypatch.setenv(name or "http_proxy", value.format(proxy.port))
        async with client(PROXIED, None) as judge:
            assert (await judge.chat(BODY)).text == "[[4]]"
    assert proxy.calls[0].line == f"POST {PROXIED}/chat/completions HTTP/1.1"


async def test_a_loopback_address_is_reached_without_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answering(response(200, ANSWER))) as server, serving(answering(response(503))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with client(server.url) as judge:
            assert (await judge.chat(BODY)).text == "[[4]]"
        assert isinstance(await failure(PROXIED, None), ServerFault)
        monkeypatch.setenv("no_proxy", "*.invalid")
        assert "proxy" not in str(await failure(PROXIED, None))
    assert [call.line for call in proxy.calls] == [f"POST {PROXIED}/chat/completions HTTP/1.1"]


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (503, ServerFault, "through the proxy {proxy} (service.proxy), which may be what answered"),
        (403, Fatal, "HTTP 403: no entry (POST http://judge.invalid/v1/chat/completions through the proxy {proxy} ("),
        (407, Fatal, "the proxy {proxy} (service.proxy) answered 407 to POST http://judge.invalid"),
    ],
)
async def test_an_error_that_may_be_the_proxys_own_names_it(status: int, kind: type[ServiceError], words: str) -> None:
    async with serving(answering(response(status, b"no entry"))) as proxy:
        url = Secret(f"http://me:hush-hush@127.0.0.1:{proxy.port}")
        error = await failure(PROXIED, None, proxy=url)
    assert type(error) is kind
    assert words.format(proxy=f"http://127.0.0.1:{proxy.port}") in str(error)
    assert "hush" not in visible_text(error)


async def test_the_log_names_the_proxy_in_use(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "runner")
    async with client(PROXIED, None, proxy=Secret("http://me:hush-hush@127.0.0.1:3128")):
        pass
    assert caplog.messages == [
        "the service 'default' is reached through the proxy http://127.0.0.1:3128 (service.proxy)"
    ]


async def test_the_configured_proxy_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "*")
    async with serving(answering(response(200, ANSWER))) as proxy:
        secret = Secret(f"http://me:hush-hush@127.0.0.1:{proxy.port}")
        async with client(PROXIED, None, proxy=secret) as judge:
            await judge.chat(BODY)
    assert proxy.calls[0].headers["proxy-authorization"].startswith("Basic ")


async def test_an_unreachable_proxy_shows_no_password() -> None:
    error = await failure(PROXIED, None, proxy=Secret(f"http://me:hush-hush@127.0.0.1:{free_port()}"))
    assert isinstance(error, ConnectFailed)
    assert "no connection to the proxy http://127.0.0.1:" in str(error)
    assert "hush" not in visible_text(error)


@pytest.mark.parametrize(("status", "kind"), [(407, Fatal), (403, Fatal), (502, ConnectFailed), (504, ConnectFailed)])
async def test_a_proxy_that_refuses_the_tunnel(status: int, kind: type[ServiceError]) -> None:
    async with serving(answering(response(status))) as proxy:
        error = await failure("https://judge.invalid/v1", proxy=Secret(f"http://127.0.0.1:{proxy.port}"))
    assert type(error) is kind
    assert f"the proxy http://127.0.0.1:{proxy.port} (service.proxy) answered {status}" in str(error)
    assert proxy.calls[0].line.startswith("CONNECT judge.invalid:443")
    assert "authorization" not in proxy.calls[0].names


async def test_the_embedded_emulator_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    service = ServiceConfig(kind="emulator")
    async with serving(answering(response(200, ANSWER))) as server, Client(service, server.url, None) as judge:
        assert (await judge.chat(BODY)).text == "[[4]]"


async def test_an_unsupported_kind_of_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="socks5"):
        client("https://judge.invalid/v1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for 127.0.0.1 and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    path, key = folder / "cert.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=judge", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", str(path), "-keyout", str(key)], check=True, capture_output=True)
    return path, key


def tls_of(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_only_a_trusted_certificate_is_accepted(certificate: tuple[Path, Path]) -> None:
    async with serving(answering(response(200, ANSWER)), tls_of(certificate)) as server:
        url = server.url.replace("http:", "https:")
        async with client(url, ca_file=str(certificate[0])) as judge:
            assert (await judge.chat(BODY)).text == "[[4]]"
        error = await failure(url)
    assert isinstance(error, Fatal)
    assert error.reason == "address"
    assert "certificate" in str(error).lower()
    assert "service.ca_file or in SSL_CERT_FILE" in str(service_stop(error))
    assert len(server.calls) == 1


async def test_a_certificate_of_another_name(certificate: tuple[Path, Path]) -> None:
    async with serving(answering(response(200, ANSWER)), tls_of(certificate)) as server:
        error = await failure(f"https://localhost:{server.port}/v1", ca_file=str(certificate[0]))
    assert isinstance(error, Fatal)
    assert "use the host name that is in the certificate" in str(service_stop(error))


async def test_a_client_certificate(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """The file of the certificate may contain the key."""
    path, key = map(str, certificate)
    together = tmp_path / "both.pem"
    together.write_bytes(certificate[0].read_bytes() + certificate[1].read_bytes())
    tls = tls_of(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(path)
    async with serving(answering(response(200, ANSWER)), tls) as server:
        url = server.url.replace("http:", "https:")
        for own in ({"client_cert": path, "client_key": key}, {"client_cert": str(together)}):
            async with client(url, ca_file=path, **own) as judge:
                assert (await judge.chat(BODY)).text == "[[4]]"
        error = await failure(url, ca_file=path)
    assert isinstance(error, ConnectFailed | ConnectionLost | Fatal)
    assert len(server.calls) == 2


def test_a_service_that_asks_for_a_client_certificate() -> None:
    """What OpenSSL says if its alert arrives before the connection is reset."""
    said = "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)"
    error = connection_error(aiohttp.ClientOSError(1, said), 9.0, CallTarget("POST", "https://x/v1/y", "/y", None))
    assert isinstance(error, Fatal)
    assert "set service.client_cert and service.client_key" in str(service_stop(error))


def test_a_client_certificate_that_cannot_be_used(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    path, key = map(str, certificate)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:hush-hush", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    for section, words in (
        ({"client_cert": path, "client_key": str(locked)}, "client_key: .*locked.pem: the key has a password"),
        ({"client_cert": path}, "client_cert: .*set 'client_key'"),
        ({"client_cert": path, "client_key": path}, "client_cert: .*not readable as a certificate and its key"),
        ({"client_cert": str(tmp_path / "no.pem")}, "client_cert: .*no.pem: No such file"),
        ({"client_cert": path, "client_key": str(tmp_path / "no.pem")}, "client_key: .*no.pem: No such file"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_connection(ServiceConfig.model_validate(section))


ONE_REQUEST = """
import asyncio, sys
from runner.service.client import Client
from runner.config import ServiceConfig

async def main(url):
    async with Client(ServiceConfig(base_url=url, token_env=None), url, None) as judge:
        print((await judge.chat(b"{}")).text)

asyncio.run(main(sys.argv[1]))
"""


async def test_the_client_honours_ssl_cert_file(certificate: tuple[Path, Path]) -> None:
    environment = {**os.environ, "SSL_CERT_FILE": str(certificate[0])}
    async with serving(answering(response(200, ANSWER)), tls_of(certificate)) as server:
        url = server.url.replace("http:", "https:")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ONE_REQUEST, url, env=environment, stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert output == b"[[4]]\n"


@pytest.mark.parametrize(
    ("greeting", "kind"), [(b"", ConnectFailed | ConnectionLost), (b"HTTP/1.1 400 Bad Request\r\n\r\n", Fatal)]
)
async def test_a_broken_tls_handshake_is_transient_and_a_service_without_tls_is_fatal(
    greeting: bytes, kind: Any
) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    error = await failure(f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1")
    listener.close()
    assert isinstance(error, kind)


async def test_an_unreadable_ca_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match="ca_file"):
        async with client("https://judge.invalid/v1", ca_file=str(tmp_path / "ca.pem")):
            pass
