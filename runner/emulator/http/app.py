"""The routes, and OpenAI-shaped errors for everything outside them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from runner.emulator.api_errors import ApiError, nothing_at
from runner.emulator.http import batches, chat, files
from runner.emulator.http.helpers import EMULATOR, JOBS, authenticate, json_response, problem_response
from runner.emulator.jobs.jobs import Jobs
from runner.emulator.options import EmulatorOptions
from runner.emulator.state import Emulator

MODELS = ("pai-judge", "pai-judge-plus")
MAX_BODY = 32 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(options: EmulatorOptions, clock: Callable[[], float] = time.monotonic) -> web.Application:
    """Make the application; its state is at `EMULATOR` and `JOBS`, and batch jobs go by the clock."""
    app = web.Application(middlewares=[_shape_errors], client_max_size=MAX_BODY)
    app[EMULATOR] = Emulator(options)
    app[JOBS] = Jobs(app[EMULATOR], clock)
    app.cleanup_ctx.append(_end_jobs)
    app.add_routes(
        [
            web.post("/v1/chat/completions", chat.complete),
            web.get("/v1/models", _models),
            web.post("/v1/files", files.upload),
            web.get("/v1/files", files.list_all),
            web.get("/v1/files/{id}", files.retrieve),
            web.delete("/v1/files/{id}", files.delete),
            web.get("/v1/files/{id}/content", files.content),
            web.post("/v1/batches", batches.create),
            web.get("/v1/batches", batches.list_all),
            web.get("/v1/batches/{id}", batches.retrieve),
            web.post("/v1/batches/{id}/cancel", batches.cancel),
            web.get("/emulator/stats", _stats),
            web.post("/emulator/reset", _clear),
        ]
    )
    return app


async def _end_jobs(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[JOBS].aclose()


@web.middleware
async def _shape_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as problem:
        return problem_response(problem)
    except web.HTTPException as error:
        return problem_response(_translated(request, error))


def _translated(request: web.Request, error: web.HTTPException) -> ApiError:
    kind = "invalid_request_error"
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers = {"Allow": ",".join(sorted(error.allowed_methods))}
        message = f"{request.method} is not allowed on {request.path}."
        return ApiError(error.status, message, kind=kind, code="method_not_allowed", headers=headers)
    if error.status == 404:
        return nothing_at(request.path)
    return ApiError(error.status, f"{error.reason}.", kind=kind)


async def _models(request: web.Request) -> web.Response:
    """List the documented models; any other name is accepted too."""
    authenticate(request)
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "emulator"} for name in MODELS]
    return json_response({"object": "list", "data": models})


async def _stats(request: web.Request) -> web.Response:
    """Give all counters; needs no token, since it is not part of the service."""
    jobs = request.app[JOBS]
    await jobs.settle_all()
    return json_response({**request.app[EMULATOR].stats.snapshot(), **jobs.snapshot()})


async def _clear(request: web.Request) -> web.Response:
    """Forget all counters, and with them how often each body was seen; files and jobs stay."""
    request.app[EMULATOR].stats.clear()
    return json_response({"reset": True})
