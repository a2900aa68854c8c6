"""What all handlers share: the state's place in the application, its kinds of responses, and how lists are read."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from runner.emulator.api_errors import ApiError, bad_request, nothing_at
from runner.emulator.jobs.jobs import Jobs
from runner.emulator.state import Emulator

EMULATOR = web.AppKey("emulator", Emulator)
JOBS = web.AppKey("jobs", Jobs)
JSON = "application/json"
_digits = re.compile(r"\d{1,6}", re.ASCII)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Named(Protocol):
    """What stands in a list."""

    @property
    def id(self) -> str:
        """Its id."""


_N = TypeVar("_N", bound=Named)


def authenticate(request: web.Request) -> Emulator:
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


def reset(request: web.Request) -> web.Response:
    """Break the connection with a TCP reset, before any byte of an answer."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


def supported(request: web.Request, call: str) -> None:
    """Raise the 404 of an unknown path where the options say that this call is not served."""
    if call in request.app[EMULATOR].options.batch.unsupported:
        raise nothing_at(request.path)


def listing(
    request: web.Request, items: Sequence[_N], describe: Callable[[_N], dict[str, Any]], *, usual: int, most: int
) -> web.Response:
    """The page of a list that `after` and `limit` ask for.

    Args:
        usual, most: the page's length unless `limit` says otherwise, and the longest.
    """
    limit = request.query.get("limit", str(usual))
    if not _digits.fullmatch(limit) or not 1 <= int(limit) <= most:
        raise bad_request(f"limit is a whole number from 1 to {most}.", param="limit")
    start = 0
    if after := request.query.get("after"):
        start = 1 + next((place for place, item in enumerate(items) if item.id == after), -1)
        if not start:
            raise bad_request(f"There is nothing with the id {after!r} to list from.", param="after")
    page = [describe(item) for item in items[start : start + int(limit)]]
    # Model Studio's recorded empty list has no array, which breaks whoever iterates over it.
    empty = None if request.app[EMULATOR].options.dialect == "dashscope" else page
    return json_response(
        {
            "object": "list",
            "data": page or empty,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + len(page) < len(items),
        }
    )
