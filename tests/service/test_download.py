"""Downloads in pieces and behind redirects, against servers that send raw bytes."""

from __future__ import annotations

import asyncio
import gzip
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_server import TOKEN, Call, Server, client, free_port, response, serving, visible_text

from runner.errors import BadReply, ConnectFailed, ConnectionLost, Fatal, ServerFault, ServiceError
from runner.service import PartialFile

pytestmark = pytest.mark.anyio

FILE = b"".join(b'{"custom_id": "%d", "text": "%s"}\n' % (n, b"x" * n) for n in range(40))
SIGNED = "/blob?Signature=very-secret-1234"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Storage:
    """Serves a file as a storage does, each response breaking off after some bytes.

    Args:
        content: returns the file at each request, counted from 0.
        breaks: the bytes that each response sends at most; the last is for all further ones.
        ranges: True if it knows `Range`.
        etag: returns the ETag of a content, or None for none.
    """

    def __init__(
        self,
        content: Callable[[int], bytes],
        breaks: list[int],
        ranges: bool = True,
        etag: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        self.content, self.breaks, self.ranges, self.etag = content, breaks, ranges, etag
        self.ranges_asked: list[str | None] = []

    async def __call__(self, call: Call, writer: asyncio.StreamWriter) -> None:
        count = len(self.ranges_asked)
        asked = call.headers.get("range")
        self.ranges_asked.append(asked)
        whole, limit = self.content(count), self.breaks[min(count, len(self.breaks) - 1)]
        etag = self.etag(whole)
        headers = [] if etag is None else [f"ETag: {etag}"]
        if asked is None or not self.ranges or call.headers.get("if-range", etag) != etag:
            sent = response(200, whole, *headers)
            writer.write(sent[: len(sent) - len(whole) + limit])
        elif (start := int(asked[6:-1])) >= len(whole):
            writer.write(response(416, b"", f"Content-Range: bytes */{len(whole)}"))
        else:
            sent = response(206, whole[start:], *headers, f"Content-Range: bytes {start}-{len(whole) - 1}/{len(whole)}")
            writer.write(sent[: len(sent) - len(whole[start:]) + limit])
        await writer.drain()
        writer.close()


async def fetch(server: Server, to: Path, attempts: int = 60, **section: Any) -> tuple[bytes | None, PartialFile]:
    """Download a file with that many attempts; returns its bytes, or None if it did not get whole."""
    file = PartialFile(to, 16_000_000)
    async with client(server.url, **section) as judge:
        for _ in range(attempts):
            try:
                await judge.download("/files/f/content", file)
            except (ConnectionLost, BadReply):
                assert not to.exists()  # noqa: ASYNC240
            else:
                return to.read_bytes(), file  # noqa: ASYNC240
    return None, file


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, len(FILE)), max_size=5),
    st.integers(200, 900),
    st.booleans(),
    st.integers(0, 8),
    st.booleans(),
)
def test_pieces_make_one_whole_version_of_the_file(
    breaks: list[int], least: int, has_etag: bool, changes_at: int, keeps_size: bool
) -> None:
    """Whatever breaks where, and if the file changes meanwhile: no line is a mix, and a whole file arrives."""
    second = FILE.replace(b"x", b"y") if keeps_size else FILE + b'{"custom_id": "more"}\n'
    storage = Storage(
        lambda count: FILE if count < changes_at else second,
        [*breaks, least],
        etag=(lambda content: f'"{hash(content)}"') if has_etag else (lambda _: None),
    )

    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with serving(storage) as server:
                content, _ = await fetch(server, Path(folder) / "out")
        assert content is not None
        if has_etag or not keeps_size:
            assert content in (FILE, second)
        assert set(content.splitlines()) <= {*FILE.splitlines(), *second.splitlines()}
        assert len(content) in (len(FILE), len(second))

    asyncio.run(scenario())


async def test_the_rest_of_a_file_is_asked_for_at_the_end_of_a_line_or_with_its_etag(tmp_path: Path) -> None:
    at = 1000
    line_end = FILE[:at].rindex(b"\n") + 1
    async with serving(storage := Storage(lambda _: FILE, [at, 10**6])) as server:
        assert (await fetch(server, tmp_path / "a"))[0] == FILE
    assert storage.ranges_asked == [None, f"bytes={line_end}-"]
    async with serving(storage := Storage(lambda _: FILE, [at, 10**6], etag=lambda _: '"v1"')) as server:
        assert (await fetch(server, tmp_path / "b"))[0] == FILE
    assert storage.ranges_asked == [None, f"bytes={at}-"]
    assert server.calls[1].headers["if-range"] == '"v1"'


async def test_a_service_without_ranges_starts_over_and_says_where_it_breaks(tmp_path: Path) -> None:
    async with serving(Storage(lambda _: FILE, [1000, 1500, 1000], ranges=False)) as server:
        content, file = await fetch(server, tmp_path / "out", attempts=3)
    assert (content, file.size, file.reached, file.is_breaking) == (None, 1000, 1500, True)
    assert file.progress == f"1,000 of {len(FILE):,} bytes"
    file.keep_whole_lines()
    assert (tmp_path / "out").read_bytes() == FILE[: FILE[:1000].rindex(b"\n") + 1]


async def test_a_file_of_unknown_length_is_whole_if_the_service_has_no_more(tmp_path: Path) -> None:
    """All bytes came, but not the end of the chunked body: the range begins at the end of the file."""

    async def handler(call: Call, writer: asyncio.StreamWriter) -> None:
        if "range" in call.headers:
            writer.write(response(416, b"", f"Content-Range: bytes */{len(FILE)}"))
            return
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%s\r\n" % (len(FILE), FILE))
        await writer.drain()
        writer.close()

    async with serving(handler) as server:
        assert (await fetch(server, tmp_path / "out"))[0] == FILE


async def test_a_compressed_download_goes_on_uncompressed(tmp_path: Path) -> None:
    packed = gzip.compress(FILE * 50)

    async def handler(call: Call, writer: asyncio.StreamWriter) -> None:
        if "range" in call.headers:
            assert call.headers["accept-encoding"] == "identity"
            start, whole = int(call.headers["range"][6:-1]), FILE * 50
            writer.write(response(206, whole[start:], f"Content-Range: bytes {start}-{len(whole) - 1}/{len(whole)}"))
            return
        sent = response(200, packed, "Content-Encoding: gzip", 'ETag: "packed"')
        writer.write(sent[: len(sent) - 300])
        await writer.drain()
        writer.close()

    async with serving(handler) as server:
        content, file = await fetch(server, tmp_path / "out")
    assert content == FILE * 50
    assert file.reached == len(content)


@pytest.mark.parametrize(
    "reply",
    [
        response(206, b"rest"),
        response(206, b"rest", "Content-Range: bytes 3-6/7"),
        response(206, b"rest", "Content-Range: pages 1-2/3"),
        response(416, b"", "Content-Range: bytes */7"),
        response(416),
        response(200, b"<html>sign in</html>", "Content-Type: text/html; charset=utf-8"),
    ],
)
async def test_a_piece_that_does_not_continue_the_file_is_not_used(tmp_path: Path, reply: bytes) -> None:
    replies = [response(200, FILE)[:-100], reply, response(200, FILE)]

    async def handler(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(replies.pop(0))
        await writer.drain()
        writer.close()

    async with serving(handler) as server:
        assert (await fetch(server, tmp_path / "out"))[0] == FILE
    assert replies == []


# Redirects


def found(location: str, status: int = 302) -> Callable[[Call, asyncio.StreamWriter], Any]:
    async def handler(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, b"", f"Location: {location}"))

    return handler


async def failing(server: Server, to: Path, **section: Any) -> ServiceError:
    async with client(server.url, **section) as judge:
        with pytest.raises(ServiceError) as caught:
            await judge.download("/files/f/content", PartialFile(to, 16_000_000))
    assert "very-secret" not in visible_text(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_storage_gets_neither_the_token_nor_the_headers_of_the_service(tmp_path: Path, status: int) -> None:
    async with serving(storage := Storage(lambda _: FILE, [700, 10**6])) as other:
        location = f"http://127.0.0.1:{other.port}{SIGNED}%2Fz%3D"
        async with serving(found(location, status)) as server:
            assert (await fetch(server, tmp_path / "out", headers={"X-Team": "hush"}))[0] == FILE
    assert storage.ranges_asked[0] is None and re.fullmatch(r"bytes=\d+-", storage.ranges_asked[1] or "")
    for call in other.calls:
        assert call.line == f"GET {SIGNED}%2Fz%3D HTTP/1.1"
        assert not {"authorization", "x-team"} & set(call.names)
        assert TOKEN not in str(call.headers)
    assert all("authorization" in call.names for call in server.calls)


async def test_a_redirect_within_the_service_gets_the_token_only_if_it_asks_for_it(tmp_path: Path) -> None:
    async def handler(call: Call, writer: asyncio.StreamWriter) -> None:
        if call.line.startswith("GET /v1/files/f/content "):
            writer.write(response(307, b"", "Location: /v1/files/f/content/"))
        else:
            writer.write(response(200, FILE) if "authorization" in call.names else response(401))

    async with serving(handler) as server:
        assert (await fetch(server, tmp_path / "out"))[0] == FILE
    assert ["authorization" in call.names for call in server.calls] == [True, False, True]


@pytest.mark.parametrize(
    ("status", "kind"), [(403, ServerFault), (401, ServerFault), (404, Fatal), (503, ServerFault), (400, ServerFault)]
)
async def test_a_refusal_of_a_storage_is_none_of_the_service(
    tmp_path: Path, status: int, kind: type[ServiceError]
) -> None:
    body = b"<Error><Code>AccessDenied</Code><StringToSign>very-secret</StringToSign></Error>"

    async def handler(_: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, body))

    async with serving(handler) as other:
        location = f"http://127.0.0.1:{other.port}{SIGNED}"
        async with serving(found(location)) as server:
            error = await failing(server, tmp_path / "out")
    assert (type(error), error.status) == (kind, status)
    assert str(error) == (
        f"HTTP {status} (AccessDenied) from http://127.0.0.1:{other.port}, to which the service redirects its files"
    )


@pytest.mark.parametrize(
    ("location", "kind", "words"),
    [
        ("http://storage.invalid/very-secret", Fatal, "allow_http"),
        ("ftp://storage.invalid/very-secret", Fatal, "names no address"),
        ("http://[very-secret", Fatal, "names no address"),
        ("", Fatal, "names no address"),
        ("/again?very-secret", Fatal, "more than 5 redirects"),
        ("https://127.0.0.1:PORT/?very-secret", ConnectFailed, "no connection to https://127.0.0.1:"),
    ],
)
async def test_a_redirect_that_cannot_be_followed(
    tmp_path: Path, location: str, kind: type[ServiceError], words: str
) -> None:
    async with serving(found(location.replace("PORT", str(free_port())))) as server:
        error = await failing(server, tmp_path / "out")
    assert isinstance(error, kind)
    assert words in str(error)
