"""Read the replies of the Files and Batch calls. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.errors import BadReply
from runner.lanes.batch.job_status import BatchJob, job_state, one_line, text_of
from runner.lanes.batch.listing import ListedBatch
from runner.lanes.batch.refusals import FileState, file_state
from runner.service import body_excerpt

MAX_ID_CHARS = 2000  # a longer text is no id
MAX_LINE_COUNT = 1e12  # a larger count of lines is not believed

# Keys under which some services wrap what they describe (`job`: Together, togethercomputer/openapi#100).
JOB_KEYS = ("job", "batch", "data", "result")
FILE_KEYS = ("file", "data", "result")


class Unreadable(BadReply):
    """A 200 whose JSON is not what the call returns: asking again would not change that."""


class UploadedFile(msgspec.Struct, frozen=True):
    """An uploaded file as the service describes it.

    Attributes:
        state: if it can be used for a batch.
        word: its status as the service names it.
        name: its name, if the service keeps it.
        reason: what the service says about the status.
    """

    id: str
    state: FileState = "ready"
    word: str = ""
    name: str | None = None
    reason: str = ""


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"a 200 that is not JSON: {body_excerpt(raw)}", status=200) from error


def described(raw: bytes, keys: tuple[str, ...], what: str) -> Mapping[str, Any]:
    """Return the object that a reply describes: the reply itself, or what stands under one of these keys in it."""
    data = _json(raw)
    if isinstance(data, dict) and not _optional(data.get("id")):
        data = next((data[key] for key in keys if isinstance(data.get(key), dict)), data)
    if not isinstance(data, dict) or not _optional(data.get("id")):
        raise Unreadable(f"a 200 without {what}'s id: {body_excerpt(raw)}", status=200)
    return data


class Page(msgspec.Struct, frozen=True):
    """One page of the list of batches."""

    data: list[dict[str, Any]]
    has_more: Any = None
    last_id: str | None = None


def read_page(raw: bytes) -> Page:
    """Read a page of the list: an object with `data`, or a bare array, which is the whole list."""
    page = _json(raw)
    if isinstance(page, list):
        page = {"data": page, "has_more": False}
    jobs = page.get("data") if isinstance(page, dict) else ...
    if not (isinstance(jobs, list) or (jobs is None and ("data" in page or page.get("object") == "list"))):
        raise Unreadable(f"a 200 that is not a list of batches: {body_excerpt(raw)}", status=200)
    found = [job for job in jobs or () if isinstance(job, dict) and _optional(job.get("id"))]
    return Page(found, page.get("has_more"), _optional(page.get("last_id")))


def read_file(data: Mapping[str, Any]) -> UploadedFile:
    """Return an uploaded file as the service describes it."""
    word = data.get("status")
    return UploadedFile(
        id=str(data["id"]),
        state=file_state(word),
        word=str(word),
        name=_optional(data.get("filename")),
        reason=one_line(text_of(data.get("status_details") or data.get("error"))),
    )


def read_job(data: Mapping[str, Any], dialect: str) -> BatchJob:
    """Return a batch as the service describes it; fields that are not as expected are ignored."""
    state, known = job_state(data.get("status"), dialect)
    raw_counts = data.get("request_counts")
    counts: Mapping[str, Any] = raw_counts if isinstance(raw_counts, dict) else {}
    return BatchJob(
        id=str(data["id"]),
        state=state,
        word=str(data.get("status")),
        known=known,
        output_file_id=_optional(data.get("output_file_id")),
        error_file_id=_optional(data.get("error_file_id")),
        completed=_line_count(counts.get("completed")),
        failed=_line_count(counts.get("failed")),
        errors=data.get("errors"),
        created_at=_unix_time(data.get("created_at")),
    )


def read_listed(data: Mapping[str, Any], dialect: str) -> ListedBatch:
    """Return an entry of the list of batches."""
    counts, metadata = data.get("request_counts"), data.get("metadata")
    return ListedBatch(
        job=read_job(data, dialect),
        input_file_id=_optional(data.get("input_file_id")),
        created_at=_unix_time(data.get("created_at")),
        total=_line_count(counts.get("total")) if isinstance(counts, dict) else None,
        labels=frozenset(map(str, metadata.values())) if isinstance(metadata, dict) else frozenset(),
    )


def _optional(value: object) -> str | None:
    """Return an id as text; None for what is no id."""
    is_id = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return str(value) if is_id and len(str(value)) <= MAX_ID_CHARS else None


def _line_count(value: object) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value < MAX_LINE_COUNT else None


def _unix_time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
