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

import pytest
from raw_server import ANSWER, BODY, answering, client, failure, free_port, response, serving, visible_text

from runner.config import ServiceConfig
from runner.errors import ConfigError, ConnectFailed, ConnectionLost, Fatal, ServiceError
from runner.service import Client
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


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "127.0.0.1:{port}", "example.org,127.0.0.1"])
async def test_the_client_honours_no_proxy(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    async with serving(answering(response(200, ANSWER))) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("no_proxy", exempt.format(port=server.port))
        async with client(server.url, None) as judge:
            assert (await judge.chat(BODY)).text == "[[4]]"
        monkeypatch.setenv("no_proxy", "example.org")
        assert isinstance(await failure(server.url, None), ConnectFailed)


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
    assert "hush" not in visible_text(error)


@pytest.mark.parametrize(("status", "kind"), [(407, Fatal), (403, Fatal), (502, ConnectFailed), (504, ConnectFailed)])
async def test_a_proxy_that_refuses_the_tunnel(status: int, kind: type[ServiceError]) -> None:
    async with serving(answering(response(status))) as proxy:
        error = await failure("https://judge.invalid/v1", proxy=Secret(f"http://127.0.0.1:{proxy.port}"))
    assert type(error) is kind
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
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
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
    assert len(server.calls) == 1


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
