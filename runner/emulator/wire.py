"""What all handlers share: the state's place in the application, and the two kinds of JSON responses."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from runner.emulator.problems import ApiError
from runner.emulator.state import Emulator

EMULATOR = web.AppKey("emulator", Emulator)
JSON = "application/json"


def admitted(request: web.Request) -> Emulator:
    """Return the state for a request that carries the right token, or raise a 401."""
    emulator = request.app[EMULATOR]
    emulator.authorize(request.headers.get("Authorization"))
    return emulator


def json_response(value: Any, status: int = 200) -> web.Response:
    """A JSON response."""
    return web.Response(body=msgspec.json.encode(value), status=status, headers={"Content-Type": JSON})


def problem_response(problem: ApiError) -> web.Response:
    """The response for something the service refuses."""
    headers = {"Content-Type": JSON, **problem.headers}
    return web.Response(body=problem.body, status=problem.status, headers=headers)
