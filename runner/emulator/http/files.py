"""The handlers of /v1/files: upload, list, retrieve, delete, download."""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

from aiohttp import BodyPartReader, web

from runner.emulator.api_errors import bad_request, not_found
from runner.emulator.http.helpers import JOBS, authenticate, json_response, list_response, require_supported
from runner.emulator.jobs.dialects import max_upload_bytes, new_file_id
from runner.emulator.jobs.file_store import MB, RESULT_PURPOSE, Blob, StoredFile, half_of_lines
from runner.emulator.jobs.input_lines import inspect
from runner.emulator.options import Dialect

_MAX_LIST_LIMIT = 10_000
_CHUNK_BYTES = 256 * 1024
_range = re.compile(r"bytes=(\d{1,15})-", re.ASCII)


class _Form(NamedTuple):
    """The fields of an upload."""

    name: str
    purpose: str | None
    blob: Blob


async def upload(request: web.Request) -> web.Response:
    """Store an input file. The pai dialect checks its lines at once, the other dialects check them in the job."""
    emulator, jobs = authenticate(request), request.app[JOBS]
    require_supported(request, "files")
    dialect = emulator.options.dialect
    limit = max_upload_bytes(dialect)
    form = await _read_form(request, limit)
    if form.purpose != "batch":
        raise bad_request("purpose must be batch.", param="purpose")
    if not form.name.endswith(".jsonl"):
        raise bad_request("The file's name must end in .jsonl.", code="invalid_file_format", param="file")
    if form.blob.size > limit:
        message = f"A file can have at most {limit // MB} MB ({limit} bytes)."
        raise bad_request(message, code="file_too_large", param="file")
    if dialect == "pai":
        await _check_lines(form.blob, dialect)
    jobs.files.check_capacity(form.blob.size)
    file = jobs.add_file(new_file_id(dialect), form.name, form.blob)
    emulator.stats.files += 1
    return json_response(jobs.describe_file(file))


async def list_all(request: web.Request) -> web.Response:
    """List files, the newest first unless `order` is `asc`."""
    authenticate(request)
    require_supported(request, "list")
    jobs = request.app[JOBS]
    await jobs.finish_all_due()
    purpose, order = request.query.get("purpose"), request.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad_request("order must be asc or desc.", param="order")
    selected = [file for file in jobs.files if purpose in (None, file.purpose)]
    if order == "desc":
        selected.reverse()
    return list_response(
        request,
        selected,
        jobs.describe_file,
        default_limit=_MAX_LIST_LIMIT,
        max_limit=_MAX_LIST_LIMIT,
    )


async def retrieve(request: web.Request) -> web.Response:
    """Describe one file."""
    authenticate(request)
    return json_response(request.app[JOBS].describe_file(_file_of(request)))


async def delete(request: web.Request) -> web.Response:
    """Delete a file; a job that reads it is not affected."""
    authenticate(request)
    require_supported(request, "delete")
    file = _file_of(request)
    request.app[JOBS].files.remove(file.id)
    return json_response({"id": file.id, "object": "file", "deleted": True})


async def content(request: web.Request) -> web.StreamResponse:
    """Send a file's bytes from disk, in chunks: all of them, or the rest of a range."""
    options, store = authenticate(request).options.batch, request.app[JOBS].files
    file = _file_of(request)
    size, limit = file.blob.size, None
    if file.purpose == RESULT_PURPOSE:
        number = store.count_download(file.id) - options.content_404
        if number <= 0:
            raise not_found("file", file.id)
        limit = options.break_after
        size = half_of_lines(file.blob) if number <= options.short_results else size
    return await _send(request, file.blob, size, limit)


async def _send(request: web.Request, blob: Blob, size: int, limit: int | None) -> web.StreamResponse:
    """Send the first `size` bytes of a blob, from where the request's range begins; break off after `limit` bytes."""
    asked = _range.fullmatch(request.headers.get("Range", ""))
    start = 0 if asked is None else int(asked[1])
    if asked is not None and start >= size:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - start)}
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    response = web.StreamResponse(status=200 if asked is None else 206, headers=headers)
    await response.prepare(request)
    end = size if limit is None else min(size, start + limit)
    for offset in range(start, end, _CHUNK_BYTES):
        await response.write(blob.read(offset, min(_CHUNK_BYTES, end - offset)))
    if end < size and request.transport is not None:
        request.transport.close()
        return response
    await response.write_eof()
    return response


def _file_of(request: web.Request) -> StoredFile:
    return request.app[JOBS].files.find(request.match_info["id"])


async def _read_form(request: web.Request, limit: int) -> _Form:
    """Read the fields of an upload, in any order.

    Of a file above `limit` bytes, only one chunk beyond the limit is kept, which is enough to detect it.
    """
    name, purpose, blob = None, None, Blob()
    try:
        if not request.content_type.startswith("multipart/"):
            raise ValueError("it is not multipart")
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise ValueError("its fields are nested")
            if part.name == "file":
                name = part.filename or ""
                await _store(part, blob, limit)
            elif part.name == "purpose":
                purpose = bytes(await part.read()).decode(errors="replace")
    except (ValueError, AssertionError) as error:
        raise bad_request(f"An upload must be a multipart form with file and purpose: {error}.") from None
    if name is None:
        raise bad_request("The form has no file.", param="file")
    return _Form(name, purpose, blob)


async def _store(part: BodyPartReader, blob: Blob, limit: int) -> None:
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        if blob.size <= limit:
            blob.append(chunk)


async def _check_lines(blob: Blob, dialect: Dialect) -> None:
    """Check the lines of an upload; raise a 400 that names the first invalid line."""
    problems = (await asyncio.to_thread(inspect, blob, dialect)).problems
    if problems:
        first = problems[0]
        prefix = f"Line {first['line']}: " if first["line"] else ""
        raise bad_request(f"{prefix}{first['message']}", code=first["code"], param="file")
