"""The handlers of /v1/batches: create, list, retrieve, cancel."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from runner.emulator.api_errors import bad_request, file_pending, invalid_body, invalid_json, not_found
from runner.emulator.http.helpers import (
    EMULATOR,
    JOBS,
    authenticate,
    json_response,
    list_response,
    require_supported,
    reset_connection,
)
from runner.emulator.jobs.input_lines import ENDPOINT
from runner.emulator.jobs.job import CreateBatch
from runner.emulator.options import Dialect

_DEFAULT_LIST_LIMIT, _MAX_LIST_LIMIT = 20, 100
_window = re.compile(r"([1-9]\d{0,3})([hd])", re.ASCII)


async def create(request: web.Request) -> web.Response:
    """Create a job from an uploaded file."""
    emulator, jobs = authenticate(request), request.app[JOBS]
    require_supported(request, "batches")
    params = _parse_params(await request.read(), emulator.options.dialect)
    source = jobs.files.get(params.input_file_id)
    if source is None:
        raise not_found("file", params.input_file_id, "input_file_id")
    if source.purpose != "batch":
        raise bad_request("The input file was not uploaded for a batch.", param="input_file_id")
    if jobs.is_pending(source):
        raise file_pending(source.id)
    description = await jobs.create(params, source)
    return reset_connection(request) if jobs.drops_response() else _job_response(request, description)


async def list_all(request: web.Request) -> web.Response:
    """List jobs, the newest first."""
    authenticate(request)
    require_supported(request, "list")
    jobs = request.app[JOBS]
    await jobs.finish_all_due()
    listed = jobs.listed()
    if request.app[EMULATOR].options.batch.wrap:
        return json_response(list(map(jobs.describe_listed, listed)))
    return list_response(
        request, listed, jobs.describe_listed, default_limit=_DEFAULT_LIST_LIMIT, max_limit=_MAX_LIST_LIMIT
    )


async def retrieve(request: web.Request) -> web.Response:
    """Describe one job; the results of a job that is due are written first."""
    authenticate(request).stats.polls += 1
    jobs = request.app[JOBS]
    job = jobs.find(request.match_info["id"])
    await jobs.finish_if_due(job)
    return _job_response(request, jobs.describe(job))


async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that has not ended."""
    authenticate(request)
    require_supported(request, "cancel")
    jobs = request.app[JOBS]
    job = jobs.find(request.match_info["id"])
    await jobs.finish_if_due(job)
    jobs.cancel(job)
    return _job_response(request, jobs.describe(job))


def _job_response(request: web.Request, job: dict[str, Any]) -> web.Response:
    """Return a job, as Together does (`{"job": ...}`) if the options say so."""
    return json_response({"job": job, "warning": ""} if request.app[EMULATOR].options.batch.wrap else job)


def _parse_params(raw: bytes, dialect: Dialect) -> CreateBatch:
    """Decode and check the body of a creation as JSON, regardless of its content type."""
    try:
        params = msgspec.json.decode(raw, type=CreateBatch)
    except msgspec.ValidationError as error:
        raise invalid_body(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json(error) from None
    if params.endpoint != ENDPOINT:
        raise bad_request(f"The endpoint of a batch must be {ENDPOINT}.", param="endpoint")
    if not _is_allowed_window(params.completion_window, dialect):
        allowed = "24h to 336h, or 1d to 14d" if dialect == "dashscope" else "24h"
        raise bad_request(f"The completion window must be {allowed}.", param="completion_window")
    return params


def _is_allowed_window(window: str, dialect: Dialect) -> bool:
    """Return True if the service accepts this completion window."""
    parts = _window.fullmatch(window)
    if parts is None or dialect != "dashscope":
        return window == "24h"
    return 24 <= int(parts[1]) * (24 if parts[2] == "d" else 1) <= 336
