"""The handlers of /v1/batches: create, list, describe, cancel."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from runner.emulator.api_errors import bad_request, not_found
from runner.emulator.chat_request import misfit
from runner.emulator.http.helpers import JOBS, authenticate, json_response, listing, reset, supported
from runner.emulator.jobs.input_lines import ENDPOINT
from runner.emulator.jobs.job import CreateBatch
from runner.emulator.options import Dialect

_USUALLY_LISTED, _MOST_LISTED = 20, 100
_window = re.compile(r"([1-9]\d{0,3})([hd])", re.ASCII)


async def create(request: web.Request) -> web.Response:
    """Make a job of an uploaded file."""
    emulator, jobs = authenticate(request), request.app[JOBS]
    supported(request, "batches")
    order = _read_order(await request.read(), emulator.options.dialect)
    source = next((file for file in jobs.files if file.id == order.input_file_id), None)
    if source is None:
        raise not_found("file", order.input_file_id, "input_file_id")
    if source.purpose != "batch":
        raise bad_request("The input file was not uploaded for a batch.", param="input_file_id")
    described = await jobs.create(order, source)
    return reset(request) if jobs.lose_answer() else json_response(described)


async def list_all(request: web.Request) -> web.Response:
    """List jobs, the newest first."""
    authenticate(request)
    supported(request, "list")
    jobs = request.app[JOBS]
    await jobs.settle_all()
    return listing(request, jobs.newest_first(), jobs.describe, usual=_USUALLY_LISTED, most=_MOST_LISTED)


async def retrieve(request: web.Request) -> web.Response:
    """Describe one job; where its time has come, its results are there."""
    authenticate(request).stats.polls += 1
    jobs = request.app[JOBS]
    job = jobs.find(request.match_info["id"])
    await jobs.settle(job)
    return json_response(jobs.describe(job))


async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that has not ended."""
    authenticate(request)
    supported(request, "cancel")
    jobs = request.app[JOBS]
    job = jobs.find(request.match_info["id"])
    await jobs.settle(job)
    jobs.cancel(job)
    return json_response(jobs.describe(job))


def _read_order(raw: bytes, dialect: Dialect) -> CreateBatch:
    """Read the body of a creation, whatever its content type says."""
    try:
        order = msgspec.json.decode(raw, type=CreateBatch)
    except msgspec.ValidationError as error:
        raise misfit(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from None
    if order.endpoint != ENDPOINT:
        raise bad_request(f"The endpoint of a batch is {ENDPOINT}.", param="endpoint")
    if not _fits(order.completion_window, dialect):
        allowed = "24h to 336h, or 1d to 14d" if dialect == "dashscope" else "24h"
        raise bad_request(f"The completion window is {allowed}.", param="completion_window")
    return order


def _fits(window: str, dialect: Dialect) -> bool:
    """Say whether a service takes this completion window."""
    parts = _window.fullmatch(window)
    if parts is None or dialect != "dashscope":
        return window == "24h"
    return 24 <= int(parts[1]) * (24 if parts[2] == "d" else 1) <= 336
