"""A judge service with Files and Batch that works correctly, except where a test's script says otherwise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Any, NamedTuple

from aiohttp import web

READABLE = "我认为该回复的综合评分为[[4]],理由如下。"


class BrokenReply(Enum):
    """Broken connections instead of replies."""

    RESET = "the connection is reset"
    CUT = "a 200 that ends before its promised length"


class CutReply(NamedTuple):
    """A 200 of `size` bytes that breaks off after `sent`."""

    sent: bytes
    size: int


Do = Callable[[], web.Response]
# Returns the reply to a call, given how often the route was called and a function that does the route's normal work.
Hook = Callable[[int, Do], "web.Response | BrokenReply | CutReply"]
# Returns how a job ends, given its number and its custom_ids; see `ending`.
End = Callable[[int, list[str]], dict[str, Any]]


def completion(text: str = READABLE) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return {"id": "c-1", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def error_reply(status: int, message: str = "as the test requires", code: str = "Odd", **headers: str) -> web.Response:
    """An error reply."""
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


def answered_line(custom_id: str) -> dict[str, Any]:
    """A result line with an answer."""
    response = {"status_code": 200, "request_id": "r", "body": completion()}
    return {"id": "l", "custom_id": custom_id, "response": response, "error": None}


def failed_line(custom_id: str, status: int = 500, message: str = "broken") -> dict[str, Any]:
    """A result line with an error."""
    response = {"status_code": status, "request_id": "r", "body": {"error": {"message": message}}}
    return {"id": "l", "custom_id": custom_id, "response": response, "error": None}


def lines(*found: dict[str, Any]) -> bytes:
    """Result lines as a file."""
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in found)


def ending(
    status: object = "Succeeded",
    answered: Iterable[str] = (),
    failed: Iterable[str] = (),
    **fields: Any,
) -> dict[str, Any]:
    """Return how a job ends: its status, the requests answered in its output file and those failed in its error file.

    `output` and `error` give the files' bytes directly; anything else is a field of the job.
    """
    done, lost = list(answered), list(failed)
    counts = {"total": len(done) + len(lost), "completed": len(done), "failed": len(lost)}
    output = lines(*map(answered_line, done)) if done else None
    error = lines(*map(failed_line, lost)) if lost else None
    return {"status": status, "request_counts": counts, "output": output, "error": error, **fields}


def all_answered(_: int, ids: list[str]) -> dict[str, Any]:
    """Every line is answered."""
    return ending(answered=ids)


def first(times: int, reply: web.Response | BrokenReply | Callable[[], web.Response], then: Hook | None = None) -> Hook:
    """Answer the first calls with this reply, and later ones normally or as `then` says."""

    def hook(count: int, do: Do) -> web.Response | BrokenReply:
        if count > times:
            return do() if then is None else then(count, do)
        return reply() if callable(reply) else reply

    return hook


class FakeBatchService:
    """The service; every hook is named like its route: upload, file, create, list, job, cancel, content, delete, chat.

    Attributes:
        calls: how often each route was called.
        queries: the queries of the list calls.
        files: by id, what is stored.
        names: by id, the name under which a file was uploaded.
        jobs: by id, in order of creation.
        submitted: how many jobs each custom_id was in.
        online_calls: how often each sample was sent online.
        deleted: files that were deleted, in order.
    """

    def __init__(self, end: End = all_answered, **hooks: Hook) -> None:
        self.end = end
        self.hooks = hooks
        self.calls: Counter[str] = Counter()
        self.queries: list[dict[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.submitted: Counter[str] = Counter()
        self.online_calls: Counter[int] = Counter()
        self.deleted: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> FakeBatchService:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}", self._file)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_delete("/v1/files/{id}", self._delete)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._job)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        content = form["file"].file.read()  # type: ignore[union-attr]
        name = form["file"].filename  # type: ignore[union-attr]

        def do() -> web.Response:
            file_id = f"file-{len(self.files) + len(self.deleted)}"
            self.files[file_id] = content
            self.names[file_id] = name
            return web.json_response({"id": file_id, "object": "file", "bytes": len(content)})

        return await self._reply("upload", request, do)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        file_id = request.match_info["id"]

        def do() -> web.Response:
            if file_id not in self.files:
                return error_reply(404, "no such file")
            return web.json_response({"id": file_id, "object": "file", "filename": self.names.get(file_id)})

        return await self._reply("file", request, do)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)

        def do() -> web.Response:
            ids = [json.loads(line)["custom_id"] for line in self.files[body["input_file_id"]].splitlines()]
            self.submitted.update(ids)
            job = {"id": f"batch-{len(self.jobs)}", "status": "Creating", **body, "number": len(self.jobs), "ids": ids}
            self.jobs[job["id"]] = job
            return self._described(job)

        return await self._reply("create", request, do)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))

        def do() -> web.Response:
            return page([self.public(job) for job in reversed(self.jobs.values())], has_more=False)

        return await self._reply("list", request, do)

    async def _job(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        job = self.jobs.get(request.match_info["id"])

        def do() -> web.Response:
            if job is None:
                return error_reply(404, "no such batch")
            self.settle(job)
            return self._described(job)

        return await self._reply("job", request, do)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs[request.match_info["id"]]

        def do() -> web.Response:
            self._end(job, ending("Cancelled", job["ids"][: len(job["ids"]) // 2]))
            return self._described(job)

        return await self._reply("cancel", request, do)

    async def _content(self, request: web.Request) -> web.StreamResponse:
        def do() -> web.Response:
            content = self.files.get(request.match_info["id"])
            return error_reply(404, "no such file") if content is None else web.Response(body=content)

        return await self._reply("content", request, do)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        file_id = request.match_info["id"]

        def do() -> web.Response:
            if self.files.pop(file_id, None) is None:
                return error_reply(404, "no such file")
            self.deleted.append(file_id)
            return web.json_response({"id": file_id, "deleted": True})

        return await self._reply("delete", request, do)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.online_calls[int(body["messages"][0]["content"][0]["json"]["question"].removeprefix("question "))] += 1
        return await self._reply("chat", request, lambda: web.json_response(completion()))

    async def _reply(self, route: str, request: web.Request, do: Do) -> web.StreamResponse:
        self.calls[route] += 1
        hook = self.hooks.get(route)
        reply = do() if hook is None else hook(self.calls[route], do)
        if isinstance(reply, web.Response):
            return reply
        cut = CutReply(b'{"id": "batch-', 1000) if reply is BrokenReply.CUT else reply
        half = web.StreamResponse(headers={"Content-Type": "application/json"})
        if isinstance(cut, CutReply):
            half.content_length = cut.size
            await half.prepare(request)
            await half.write(cut.sent)
            if reply is cut and request.transport is not None:
                request.transport.close()  # what was written arrives
                return half
        if request.transport is not None:
            request.transport.abort()
        return half

    def settle(self, job: dict[str, Any]) -> None:
        """End a job as the script says, if it has not ended."""
        if job["status"] == "Creating":
            self._end(job, self.end(job["number"], job["ids"]))

    def _end(self, job: dict[str, Any], end: dict[str, Any]) -> None:
        for name in ("output", "error"):
            content = end.pop(name, None)
            if content is not None:
                self.files[f"{job['id']}-{name}"] = content
                job[f"{name}_file_id"] = f"{job['id']}-{name}"
        job.update(end)

    def public(self, job: dict[str, Any]) -> dict[str, Any]:
        """A job as the service describes it."""
        return {key: value for key, value in job.items() if key not in ("ids", "number")}

    def _described(self, job: dict[str, Any]) -> web.Response:
        return web.json_response(self.public(job))

    @property
    def newest(self) -> dict[str, Any]:
        """The job that was created last."""
        return next(reversed(self.jobs.values()))

    @property
    def submitted_twice(self) -> dict[str, int]:
        """The requests that were in more than one job, with their number of jobs."""
        return {name: count for name, count in self.submitted.items() if count > 1}


def page(jobs: Collection[dict[str, Any]], **more: Any) -> web.Response:
    """One page of a list."""
    return web.json_response({"object": "list", "data": list(jobs), **more})
