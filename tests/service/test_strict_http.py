"""Replies of odd but real services: what is read, and what a person is told about the rest; with both transports."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterator

import pytest
import raw_server
from raw_server import ANSWER, BODY, TOKEN, answering, breaking, client, failure, response, serving, visible_text

from runner.errors import BadReply, ConnectionLost, Fatal, ServerFault, ServiceError
from runner.lanes import service_stop
from runner.service import Client
from runner.service.reply_body import in_utf8, read_reply
from runner.service.transport import SessionTransport, TransportFactory
from runner.service.transport_direct import DirectTransport
from runner.types import Secret

pytestmark = pytest.mark.anyio

TEXT = "评分:好 [[4]]"
SPOKEN = f'{{"choices": [{{"message": {{"content": "{TEXT}"}}, "finish_reason": "stop"}}]}}'
LATIN = '{"choices": [{"message": {"content": "très bien [[4]]"}}]}'


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True, params=[DirectTransport, SessionTransport], ids=["direct", "session"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TransportFactory:
    factory: TransportFactory = request.param
    monkeypatch.setattr(raw_server, "transport_factory", factory)
    return factory


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield


def both_lengths(first: bytes, second: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b\r\n%b\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (first, second, len(ANSWER), ANSWER)


LENGTH, CHUNKED = b"Content-Length: %d" % len(ANSWER), b"Transfer-Encoding: chunked"

READ = {
    "a header of 9,000 bytes": response(200, ANSWER, f"Content-Security-Policy: {'x' * 9_000}"),
    "a header of 200,000 bytes": response(200, ANSWER, f"X-Long: {'x' * 200_000}"),
    "a long status line": response(200, ANSWER).replace(b"Whatever", b"w" * 9_000),
    "120 headers": response(200, ANSWER, *(f"X-{n}: {'v' * 200}" for n in range(120))),
    "line feeds only": response(200, ANSWER).replace(b"\r\n", b"\n"),
    "replies before the reply": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    + response(200, ANSWER),
    "HTTP/1.0": response(200, ANSWER).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no reason": response(200, ANSWER).replace(b" Whatever", b""),
    "bytes in a header": response(200, ANSWER).replace(b"Whatever", b"OK\r\nX-Name: \xe9\xff"),
    "gzip": response(200, gzip.compress(ANSWER), "Content-Encoding: gzip"),
    "deflate": response(200, zlib.compress(ANSWER), "Content-Encoding: deflate"),
    "deflate without its head": response(200, zlib.compress(ANSWER)[2:-4], "Content-Encoding: deflate"),
    "blank lines": response(200, b"\n" * 40 + ANSWER),
    "a byte order mark": response(200, b"\xef\xbb\xbf" + ANSWER),
    "a wrong charset": response(200, ANSWER, "Content-Type: text/plain; charset=iso-8859-1"),
    "utf-16": response(200, ANSWER.decode().encode("utf-16"), "Content-Type: application/json; charset=utf-16"),
    "an event stream": response(200, b"data: %b\n\ndata: [DONE]\n\n" % ANSWER.replace(b"message", b"delta")),
}


async def test_odd_replies_that_are_read() -> None:
    async with serving(answering(*READ.values())) as server, client(server.url) as judge:
        for name in READ:
            assert (await judge.chat(BODY)).text == "[[4]]", name


UNREADABLE = [
    ("both lengths", both_lengths(LENGTH, CHUNKED), "both a Content-Length and a Transfer-Encoding"),
    ("both lengths, turned", both_lengths(CHUNKED, LENGTH), "both a Content-Length and a Transfer-Encoding"),
    ("two lengths", response(200, ANSWER, LENGTH.decode()), "it has two lengths"),
    ("a header of 300,000 bytes", response(200, ANSWER, f"X-Long: {'x' * 300_000}"), "headers is too long"),
    ("a header without a colon", response(200, ANSWER, "No colon"), "an invalid header"),
    ("brotli", response(200, ANSWER, "Content-Encoding: br"), "compressed in a way that was not asked for"),
    ("zstd", response(200, ANSWER, "Content-Encoding: zstd"), "compressed in a way that was not asked for"),
    ("another protocol", b"SSH-2.0-OpenSSH\r\n\r\n", "does not begin with an HTTP status"),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n", "must begin with https://"),
]


@pytest.mark.parametrize(("raw", "cause"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE])
async def test_replies_that_are_refused_name_the_cause_and_the_url(raw: bytes, cause: str) -> None:
    """Once an answer came, one such reply is a fault like others; if none ever came, the service is wrongly set up."""
    async with serving(breaking(raw)) as server, client(server.url) as judge:
        errors = [await _failure(judge) for _ in range(5)]
    assert [type(error) for error in errors] == [BadReply] * 4 + [Fatal]
    stop = service_stop(errors[4])
    assert (stop.reason, stop.exit_code) == ("address", 3)
    for text in (str(errors[0]), str(stop)):
        assert cause in text
        assert f"POST {server.url}/chat/completions" in text
        assert "400" not in text.replace(str(server.port), "")
        assert "xxxxx" * 50 not in text
    async with serving(answering(response(200, ANSWER), raw)) as server, client(server.url) as judge:
        await judge.chat(BODY)
        assert {type(await _failure(judge)) for _ in range(6)} <= {BadReply, ConnectionLost}


async def _failure(judge: Client) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await judge.chat(BODY)
    return caught.value


@pytest.mark.parametrize(
    ("status", "location", "words"),
    [
        (
            308,
            "https://new.example/v2/chat/completions?sig=hush-hush#x",
            "set service.base_url to https://new.example/v2",
        ),
        (301, "/v3/chat/completions", "set service.base_url to http://127.0.0.1:{port}/v3"),
        (302, "https://me:hush-hush@login.example/start?next=hush-hush", "leads elsewhere (a login page?)"),
        (307, "https://login.example/", "a redirect to https://login.example/ (POST http"),
        (308, "{url}/chat/completions", "leads elsewhere"),
        (303, None, "HTTP 303: an empty body (POST http://127.0.0.1:{port}/v1/chat/completions)"),
    ],
)
async def test_a_redirect_says_where_it_leads(status: int, location: str | None, words: str) -> None:
    async def redirect(_: object, writer: asyncio.StreamWriter) -> None:
        headers = [] if location is None else [f"Location: {location.format(url=server.url)}"]
        writer.write(response(status, b"", *headers))

    async with serving(redirect) as server:  # type: ignore[arg-type]
        error = await failure(server.url)
    assert isinstance(error, Fatal) and error.reason == "address"
    text = str(service_stop(error))
    assert words.format(port=server.port) in text
    assert "hush" not in text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "/v1 is missing? Try service.base_url: http://127.0.0.1:{port}/v1"),
        ("/v1", "check service.base_url and judge.model"),
        ("/openai/deployments/gpt", "query: {{api-version: ...}}"),
    ],
)
async def test_an_unknown_address_names_the_whole_url(path: str, words: str) -> None:
    async with serving(answering(response(404, b'{"detail": "Not Found"}'))) as server:
        error = await failure(server.url.removesuffix("/v1") + path)
    assert isinstance(error, Fatal)
    text = str(service_stop(error))
    assert f"HTTP 404: Not Found (POST http://127.0.0.1:{server.port}{path}/chat/completions)" in text
    assert words.format(port=server.port) in text


async def test_the_query_is_sent_with_every_call_and_hidden_in_messages() -> None:
    query = {"api-version": Secret("2024-10-21"), "key": Secret("hush-hush-hush"), "x": Secret("a b&c")}
    replies = (response(200, ANSWER), response(200, b"{}"), response(404, b"no hush-hush-hush here"), response(503))
    async with serving(answering(*replies)) as server, client(server.url, None, query=query) as judge:
        await judge.chat(BODY)
        await judge.call("GET", "/batches", query={"after": "b-1"})
        error = await _failure(judge)
        assert isinstance(await _failure(judge), ServerFault)
    sent = [call.line.split()[1] for call in server.calls]
    assert sent[0] == "/v1/chat/completions?api-version=2024-10-21&key=hush-hush-hush&x=a+b%26c"
    assert sent[1] == "/v1/batches?api-version=2024-10-21&key=hush-hush-hush&x=a+b%26c&after=b-1"
    assert "completions?api-version=2024-10-21&key=***&x=***" in str(error)
    assert "hush" not in visible_text(error)


async def test_a_client_whose_transport_cannot_be_made_leaves_no_session_open() -> None:
    def broken(*_: object) -> DirectTransport:
        raise RuntimeError("a defect")

    judge = client("http://127.0.0.1:9/v1")
    judge._make_transport = broken
    with pytest.raises(RuntimeError, match="a defect"):
        await judge.__aenter__()
    assert judge._session is not None and judge._session.closed


@pytest.mark.parametrize(
    ("encoding", "header", "text"),
    [
        ("gbk", "application/json; charset=GBK", SPOKEN),
        ("gb18030", "application/json;charset=gb18030", SPOKEN),
        ("big5", "text/plain; charset=big5", SPOKEN.replace("评", "評")),
        ("latin-1", "application/json; charset=ISO-8859-1", LATIN),
        ("cp1252", "application/json; charset=windows-1252", LATIN),
        ("utf-16-le", "", SPOKEN),
        ("utf-16-be", "application/json; charset=utf-16", SPOKEN),
        ("utf-16", "application/json", SPOKEN),
        ("utf-32", "", SPOKEN),
        ("utf-8", "application/json; charset=gbk", SPOKEN),  # it says so, but is UTF-8
        ("utf-8-sig", "application/json; charset=no-such", SPOKEN),
    ],
)
def test_bodies_in_other_charsets(encoding: str, header: str, text: str) -> None:
    answer = read_reply(text.encode(encoding), {"Content-Type": header})
    assert answer.text in (TEXT, TEXT.replace("评", "評"), "très bien [[4]]")


@pytest.mark.parametrize(
    "header", ["", "application/json; charset=iso-8859-1", "text/plain; charset=utf-7", "x; charset=hex"]
)
def test_broken_utf_8_is_not_read_as_another_charset(header: str) -> None:
    raw = SPOKEN.encode().replace("分".encode(), "分".encode()[:2])
    assert in_utf8(raw, {"Content-Type": header}) is raw
    with pytest.raises(BadReply):
        read_reply(raw, {"Content-Type": header})


async def test_an_error_in_another_charset_is_readable() -> None:
    body = '{"error": {"message": "余额不足"}}'.encode("gbk")
    async with serving(answering(response(402, body, "Content-Type: application/json; charset=gbk"))) as server:
        assert "余额不足" in str(await failure(server.url))


async def test_a_token_in_a_reply_that_is_not_http_is_hidden() -> None:
    raw = b"HTTP/1.1 200 OK\r\nBad Header " + TOKEN.encode() + b"\r\n\r\n"
    async with serving(breaking(raw)) as server, client(server.url) as judge:
        for _ in range(3):
            assert TOKEN not in visible_text(await _failure(judge))
