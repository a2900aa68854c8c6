"""The handlers of /v1/files: upload, list, describe, delete, download."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiohttp import BodyPartReader, web

from runner.emulator.api_errors import ApiError, bad_request
from runner.emulator.http.helpers import JOBS, authenticate, json_response, listing, supported
from runner.emulator.jobs.dialects import file_object, new_file_id, upload_limit
from runner.emulator.jobs.file_store import MB, Blob, StoredFile
from runner.emulator.jobs.input_lines import inspect
from runner.emulator.options import Dialect

_MOST_LISTED = 10_000
_CHUNK = 256 * 1024


class _Form(NamedTuple):
    name: str
    purpose: str | None
    blob: Blob


async def upload(request: web.Request) -> web.Response:
    """Store a file of requests; PAI-Judge's dialect also checks its lines, the others do so in the job."""
    emulator, jobs = authenticate(request), request.app[JOBS]
    supported(request, "files")
    dialect = emulator.options.dialect
    limit = upload_limit(dialect)
    form = await _read_form(request, limit)
    if form.purpose != "batch":
        raise bad_request("purpose must be batch.", param="purpose")
    if not form.name.endswith(".jsonl"):
        raise bad_request("The file's name must end in .jsonl.", code="invalid_file_format", param="file")
    if form.blob.size > limit:
        message = f"A file may have {limit // MB} MB ({limit} bytes)."
        raise bad_request(message, code="file_too_large", param="file")
    if dialect == "pai":
        await _check_lines(form.blob, dialect)
    jobs.files.make_room(form.blob.size)
    file = jobs.files.add(new_file_id(dialect), form.name, "batch", form.blob)
    emulator.stats.files += 1
    return json_response(file_object(file, dialect))


async def list_all(request: web.Request) -> web.Response:
    """List files, the newest first unless `order` is `asc`."""
    emulator, jobs = authenticate(request), request.app[JOBS]
    supported(request, "list")
    await jobs.settle_all()
    purpose, order = request.query.get("purpose"), request.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad_request("order is asc or desc.", param="order")
    found = [file for file in jobs.files if purpose in (None, file.purpose)]
    if order == "desc":
        found.reverse()
    dialect = emulator.options.dialect
    return listing(request, found, lambda file: file_object(file, dialect), usual=_MOST_LISTED, most=_MOST_LISTED)


async def retrieve(request: web.Request) -> web.Response:
    """Describe one file."""
    emulator = authenticate(request)
    return json_response(file_object(_named(request), emulator.options.dialect))


async def delete(request: web.Request) -> web.Response:
    """Delete a file; a job that reads it goes on."""
    authenticate(request)
    supported(request, "delete")
    file = _named(request)
    request.app[JOBS].files.remove(file.id)
    return json_response({"id": file.id, "object": "file", "deleted": True})


async def content(request: web.Request) -> web.StreamResponse:
    """Send a file's bytes from disk, a piece at a time."""
    authenticate(request)
    blob = _named(request).blob
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for offset in range(0, blob.size, _CHUNK):
        await response.write(blob.read(offset, _CHUNK))
    await response.write_eof()
    return response


def _named(request: web.Request) -> StoredFile:
    return request.app[JOBS].files.find(request.match_info["id"])


async def _read_form(request: web.Request, limit: int) -> _Form:
    """Read the fields of an upload in any order; of a file that is too large, no more than says so is kept."""
    name, purpose, blob = None, None, Blob()
    try:
        if not request.content_type.startswith("multipart/"):
            raise ValueError("it is not multipart")
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise ValueError("its fields are nested")
            if part.name == "file":
                name = part.filename or ""
                await _keep(part, blob, limit)
            elif part.name == "purpose":
                purpose = bytes(await part.read()).decode(errors="replace")
    except (ValueError, AssertionError) as error:
        raise bad_request(f"An upload is a multipart form with file and purpose; {error}.") from None
    if name is None:
        raise bad_request("The form has no file.", param="file")
    return _Form(name, purpose, blob)


async def _keep(part: BodyPartReader, blob: Blob, limit: int) -> None:
    while chunk := await part.read_chunk(_CHUNK):
        if blob.size <= limit:
            blob.append(chunk)


async def _check_lines(blob: Blob, dialect: Dialect) -> None:
    problems = (await asyncio.to_thread(inspect, blob, dialect)).problems
    if problems:
        first = problems[0]
        place = f"Line {first['line']}: " if first["line"] else ""
        kind = "invalid_request_error"
        raise ApiError(400, f"{place}{first['message']}", kind=kind, code=first["code"], param="file")
