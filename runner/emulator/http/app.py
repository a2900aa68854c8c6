"""The routes, and OpenAI-shaped errors for all other requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from runner.emulator.api_errors import ApiError, unknown_url
from runner.emulator.http import batches, chat, files
from runner.emulator.http.helpers import EMULATOR, JOBS, authenticate, error_response, json_response
from runner.emulator.jobs.jobs import Jobs
from runner.emulator.marker import EMULATED_BY, EMULATED_HEADER
from runner.emulator.options import EmulatorOptions
from runner.emulator.state import Emulator

MODELS = ("pai-judge", "pai-judge-plus")
MAX_BODY_BYTES = 32 * 1024 * 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(options: EmulatorOptions, clock: Callable[[], float] = time.monotonic) -> web.Application:
    """Build the application. Its state is stored under the keys `EMULATOR` and `JOBS`.

    Args:
        clock: returns seconds, monotonic; the ages of batch jobs are measured on it.
    """
    app = web.Application(middlewares=[_format_errors], client_max_size=MAX_BODY_BYTES)
    app[EMULATOR] = Emulator(options)
    app[JOBS] = Jobs(app[EMULATOR], clock)
    app.cleanup_ctx.append(_close_jobs)
    app.on_response_prepare.append(_mark)
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
            web.post("/emulator/reset", _reset),
        ]
    )
    return app


async def _close_jobs(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[JOBS].aclose()


async def _mark(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[EMULATED_HEADER] = EMULATED_BY


@web.middleware
async def _format_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return error_response(error)
    except web.HTTPException as error:
        return error_response(_api_error(request, error))


def _api_error(request: web.Request, error: web.HTTPException) -> ApiError:
    """Convert an error of the web server to the shape of the service's errors."""
    kind = "invalid_request_error"
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers = {"Allow": ",".join(sorted(error.allowed_methods))}
        message = f"{request.method} is not allowed on {request.path}."
        return ApiError(error.status, message, kind=kind, code="method_not_allowed", headers=headers)
    if error.status == 404:
        return unknown_url(request.path)
    return ApiError(error.status, f"{error.reason}.", kind=kind)


async def _models(request: web.Request) -> web.Response:
    """List the documented models. Chat requests can name any other model too."""
    authenticate(request)
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "emulator"} for name in MODELS]
    return json_response({"object": "list", "data": models})


async def _stats(request: web.Request) -> web.Response:
    """Return all counters. No token is needed, because this call is not part of the service."""
    jobs = request.app[JOBS]
    await jobs.finish_all_due()
    return json_response({**request.app[EMULATOR].stats.snapshot(), **jobs.snapshot()})


async def _reset(request: web.Request) -> web.Response:
    """Reset all counters, including how often each body was seen. Files and jobs are kept."""
    request.app[EMULATOR].stats.clear()
    return json_response({"reset": True})
