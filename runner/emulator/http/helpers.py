"""Shared by all handlers: the application's state, authentication, responses and lists."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from runner.emulator.api_errors import ApiError, bad_request, unknown_url
from runner.emulator.jobs.jobs import Jobs
from runner.emulator.state import Emulator

EMULATOR = web.AppKey("emulator", Emulator)
JOBS = web.AppKey("jobs", Jobs)
JSON_TYPE = "application/json"
_digits = re.compile(r"\d{1,6}", re.ASCII)

# SO_LINGER on, with 0 seconds: closing the socket sends a TCP reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HasId(Protocol):
    """An item that can be listed."""

    @property
    def id(self) -> str:
        """The item's id."""


_Item = TypeVar("_Item", bound=HasId)


def authenticate(request: web.Request) -> Emulator:
    """Check the request's token, and return the emulator.

    Raises:
        ApiError: a 401, if the token is missing or wrong.
    """
    emulator = request.app[EMULATOR]
    emulator.authorize(request.headers.get("Authorization"))
    return emulator


def require_supported(request: web.Request, call: str) -> None:
    """Check that a call is not among the options' `batch.unsupported`.

    Raises:
        ApiError: the 404 of an unknown path, if it is.
    """
    if call in request.app[EMULATOR].options.batch.unsupported:
        raise unknown_url(request.path)


def json_response(value: Any) -> web.Response:
    """Return a 200 with a JSON body."""
    return web.Response(body=msgspec.json.encode(value), headers={"Content-Type": JSON_TYPE})


def error_response(error: ApiError) -> web.Response:
    """Return the response of an error."""
    headers = {"Content-Type": JSON_TYPE, **error.headers}
    return web.Response(body=error.body, status=error.status, headers=headers)


def reset_connection(request: web.Request) -> web.Response:
    """Break the connection with a TCP reset before any byte of a response is sent."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


def list_response(
    request: web.Request,
    items: Sequence[_Item],
    describe: Callable[[_Item], dict[str, Any]],
    *,
    default_limit: int,
    max_limit: int,
) -> web.Response:
    """Return the page of a list that the query's `after` and `limit` select.

    Args:
        items: the whole list.
        describe: returns the JSON object of an item.
        default_limit: the page's length if the query has no `limit`.
        max_limit: the largest `limit` that is allowed.

    Raises:
        ApiError: a 400, if `limit` is out of range or `after` is not an id of the list.
    """
    limit = request.query.get("limit", str(default_limit))
    if not _digits.fullmatch(limit) or not 1 <= int(limit) <= max_limit:
        raise bad_request(f"limit is a whole number from 1 to {max_limit}.", param="limit")
    start = 0
    if after := request.query.get("after"):
        start = 1 + next((index for index, item in enumerate(items) if item.id == after), -1)
        if not start:
            raise bad_request(f"after: there is nothing with the id {after!r} in this list.", param="after")
    page = [describe(item) for item in items[start : start + int(limit)]]
    # Model Studio's recorded empty list has null instead of an array, which breaks clients that iterate over it.
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
