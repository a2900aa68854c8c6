"""An emulator on a real socket and a small client for it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import Running, start

COUPLET = '请给出"常德德山山有德"对应的下联'


class Reply(NamedTuple):
    """The response of one call."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def text(self) -> str:
        return self.json["choices"][0]["message"]["content"]

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


class Caller:
    """A client of one running emulator."""

    def __init__(self, running: Running, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.url = running.url
        self._session = session

    async def call(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Reply:
        data = body if isinstance(body, bytes | None) else json.dumps(body, ensure_ascii=False).encode()
        async with self._session.request(method, self.url + path, data=data, **kwargs) as response:
            return Reply(response.status, response.headers, await response.read())

    async def chat(self, body: Any, **kwargs: Any) -> Reply:
        return await self.call("POST", "/v1/chat/completions", body, **kwargs)

    async def upload(self, data: bytes, name: str = "in.jsonl", purpose: str = "batch", **kwargs: Any) -> Reply:
        form = aiohttp.FormData()
        form.add_field("purpose", purpose)
        form.add_field("file", data, filename=name)
        async with self._session.post(f"{self.url}/v1/files", data=form, **kwargs) as response:
            return Reply(response.status, response.headers, await response.read())

    async def create(self, file_id: str, **more: Any) -> Reply:
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
        return await self.call("POST", "/v1/batches", body)

    async def submit(self, lines: Iterable[Any]) -> dict[str, Any]:
        """Upload lines, create a job from them, and return its JSON object."""
        file = await self.upload(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        return (await self.create(file.json["id"])).json

    async def job(self, key: str) -> dict[str, Any]:
        return (await self.call("GET", f"/v1/batches/{key}")).json

    async def lines(self, file_id: str | None) -> list[Any]:
        """Return the decoded lines of a result file; an empty list if there is no file."""
        raw = (await self.call("GET", f"/v1/files/{file_id}/content")).raw if file_id else b""
        return [json.loads(line) for line in raw.splitlines()]

    async def results(self, key: str) -> tuple[list[Any], list[Any]]:
        """Return the lines of a job's output file and of its error file."""
        job = await self.job(key)
        return await self.lines(job["output_file_id"]), await self.lines(job["error_file_id"])

    async def stats(self) -> dict[str, Any]:
        return (await self.call("GET", "/emulator/stats")).json


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def _emulate(clock: Callable[[], float] = time.monotonic, **options: Any) -> AsyncIterator[Caller]:
    running = await start(EmulatorOptions.from_mapping(options), clock)
    async with running, aiohttp.ClientSession() as session:
        yield Caller(running, session)


def _body(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "pai-judge", "messages": [{"role": "user", "content": content}], **more}


class Bodies:
    """Chat bodies as the documentation shows them."""

    @staticmethod
    def single(question: str = COUPLET, answer: str = "长沙沙水水无沙", **fields: Any) -> dict[str, Any]:
        return _body([{"mode": "single", "type": "json", "json": {"question": question, "answer": answer, **fields}}])

    @staticmethod
    def pair(
        question: str = COUPLET, answer1: str = "长沙沙水水无沙", answer2: str = "常德人德德山山高", **fields: Any
    ) -> dict[str, Any]:
        texts = {"question": question, "answer1": answer1, "answer2": answer2, **fields}
        return _body([{"mode": "pairwise", "type": "json", "json": texts}])

    @staticmethod
    def custom(user: str, system: str | None = None, **more: Any) -> dict[str, Any]:
        body = _body(user, **more)
        if system is not None:
            body["messages"].insert(0, {"role": "system", "content": system})
        return body


def _lines(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [
        {"custom_id": f"request-{number}", "body": Bodies.single("Why?", f"because {number}"), **more}
        for number in range(start, start + count)
    ]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Callable[..., list[dict[str, Any]]]:
    """Make lines of a batch file: `lines(3)`, or `lines(3, method=..., url=...)` for the dialects that require both."""
    return _lines


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that the emulator uses as a process."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def emulate() -> Any:
    """Start an emulator with options: `async with emulate(seed=3) as caller`."""
    return _emulate


@pytest.fixture
def bodies() -> type[Bodies]:
    return Bodies
