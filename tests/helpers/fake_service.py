"""A judge service on a real socket that a test scripts, and runs against it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiohttp import web

from runner import RunOptions, RunSummary, arun, load_config

READABLE = "我认为该回复的综合评分为[[4]],理由如下。"
# (ordinal of the sample, number of the request for it, from 1) -> response
Handler = Callable[[int, int], Awaitable[web.Response] | web.Response]


def ok(text: str = READABLE) -> web.Response:
    """Return a chat completion with this text."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return web.json_response({"id": "c-1", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


def http_error(status: int, code: str = "Broken", **headers: str) -> web.Response:
    """Return an error response in the service's format."""
    body = {"code": code, "message": "requested by the test", "request_id": "r-1"}
    return web.json_response(body, status=status, headers=headers)


class Service:
    """A judge service that counts its requests. Leaving the context stops it; entering it again restarts it."""

    def __init__(self, handler: Handler) -> None:
        self.requests: Counter[int] = Counter()
        self.in_flight = self.max_in_flight = self.port = 0
        self._handler = handler
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Service:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1000, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        ordinal = int(body["messages"][0]["content"][0]["json"]["question"].removeprefix("question "))
        self.requests[ordinal] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            response = self._handler(ordinal, self.requests[ordinal])
            return response if isinstance(response, web.Response) else await response
        finally:
            self.in_flight -= 1


def configure(folder: Path, base_url: str, rows: int, **sections: Any) -> Path:
    """Write a dataset and a configuration, and return the path of the configuration.

    Args:
        folder: where the files are written.
        base_url: of the service.
        rows: number of samples.
        sections: sections of the YAML. `retry`, `judge` and `service` extend the defaults; `judges` and `services`
            replace them.
    """
    lines = [{"id": f"s{i}", "question": f"question {i}", "answer": f"answer {i}"} for i in range(rows)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    retry = {"attempts": 3, "base": 0.01, "ceiling": 0.02, "patience": 20, **sections.pop("retry", {})}
    service = {"base_url": base_url, "token_env": None, "limits": {"concurrency": 8}, "timeout": {"total": 10}}
    service |= sections.pop("service", {})
    config = {
        "dataset": {"path": "data.jsonl"},
        "judge": {"kind": "pai_single", **sections.pop("judge", {})},
        "service": service,
        "online": {"retry": retry},
        "output": {"directory": "run"},
        "monitor": {"progress": False},
        **sections,
    }
    for singular, plural in (("judge", "judges"), ("service", "services")):
        if plural in config:
            del config[singular]
    path = folder / "judge.yaml"
    path.write_text(json.dumps(config))
    return path


async def judge(folder: Path, handler: Handler, rows: int, **sections: Any) -> tuple[RunSummary, Service]:
    """Judge `rows` samples with a service that answers with `handler`."""
    async with Service(handler) as service:
        path = configure(folder, f"http://127.0.0.1:{service.port}/v1", rows, **sections)
        return await arun(load_config(path), RunOptions(quiet=True)), service


def rows_by_ordinal(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the rows by ordinal, and check that there is one for each."""
    rows = [
        row
        for part in sorted((folder / "run" / "results").glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    assert len({row["ordinal"] for row in rows}) == len(rows)
    return {row["ordinal"]: row for row in rows}


def statuses(folder: Path) -> dict[int, str]:
    """Return the status of each row by ordinal."""
    return {ordinal: row["status"] for ordinal, row in rows_by_ordinal(folder).items()}
