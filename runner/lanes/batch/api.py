"""The Batch API of one service: calls to files and jobs, and what the replies mean."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from runner.config import RetryConfig
from runner.errors import (
    BadReply,
    ConnectFailed,
    ConnectionLost,
    Fatal,
    NoBatchApi,
    RateLimited,
    RunStopped,
    ServiceError,
    Transient,
)
from runner.lanes import Traffic, service_stop
from runner.lanes.batch.job_status import State, job_state
from runner.service import Client, PartialFile, backoff

log = logging.getLogger(__name__)

ENDPOINT = "/v1/chat/completions"
NO_SUCH_ROUTE_STATUSES = frozenset({404, 405, 501})
LIST_PAGE_SIZE = 100
SECONDS_PER_HOUR = 3600.0
DELETE_TIMEOUT_SECONDS = 60.0  # then the file stays at the service
MAX_LINE_COUNT = 1e12  # a larger count of lines is not believed

# A full account and a rate or file-size limit are refused with the same statuses; only the message tells them apart.
_STORAGE = re.compile(r"(storage|file).{0,60}(quota|limit|exceed|full)|(quota|limit|exceed).{0,60}(storage|files)")
_RATE_OR_SIZE = re.compile(r"rate limit|per minute|per hour|enqueued|too.large|(?<!total )file size|per file")
_FULL_STATUSES = frozenset({400, 403, 409, 413, 429, 507})

Reply = TypeVar("Reply")
# Sleeps for a number of seconds; raises Drained if the lane is drained meanwhile.
Sleep = Callable[[float], Awaitable[None]]
# Returns True if a call must not be sent again after this error.
IsFinal = Callable[[ServiceError], bool]


class BatchJob(msgspec.Struct, frozen=True):
    """A batch as the service describes it.

    Attributes:
        state: what its status means.
        word: the status as the service names it.
        known: True if the dialect has this status.
        completed, failed: numbers of lines, if the service counts them.
        errors: the service's errors about the batch as a whole, unchanged.
    """

    id: str
    state: State
    word: str
    known: bool
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int | None = None
    failed: int | None = None
    errors: Any = None

    @property
    def hides_answers(self) -> bool:
        """True if it has ended and has or may have answers, but names no result file."""
        if self.output_file_id or self.error_file_id or self.state in ("running", "cancelling"):
            return False
        return bool(self.completed) or (self.state == "completed" and not self.failed)

    @property
    def finished(self) -> int:
        """Number of lines that are done, with an answer or a failure."""
        return (self.completed or 0) + (self.failed or 0)


class BatchApi:
    """The Files and Batch calls of one service.

    All calls but `create` are retried while the service does not answer, until `online.retry.patience` has passed; then
    they raise RunStopped. They also raise it if no call will be answered (authentication, no credit).

    Args:
        client: the service.
        dialect: the service's dialect.
        window: seconds a batch may take. The service is given at least the 24 hours that every service offers.
        policy: the YAML's `online.retry`.
        sleep: waits between attempts.
        traffic: counts retries and 429s.

    Attributes:
        last_failure: the last failure while a call is being retried, else None.
    """

    def __init__(
        self, client: Client, dialect: str, window: float, policy: RetryConfig, sleep: Sleep, traffic: Traffic
    ) -> None:
        self.traffic = traffic
        self.last_failure: str | None = None
        self._client = client
        self._dialect = dialect
        self._window = f"{max(24, math.ceil(window / SECONDS_PER_HOUR))}h"
        self._policy = policy
        self._sleep = sleep
        self._rng = random.Random()

    @property
    def is_emulated(self) -> bool:
        """True once a reply named an emulator as its sender."""
        return self._client.is_emulated

    async def upload(self, file: Path) -> str:
        """Upload a file of requests and return its id.

        Raises NoBatchApi, Fatal, Refused, RunStopped, and RateLimited if the account's storage is full.
        """

        async def send() -> str:
            try:
                reply = await self._client.upload("/files", file, purpose="batch")
            except ServiceError as error:
                if error.status in NO_SUCH_ROUTE_STATUSES:
                    raise NoBatchApi(f"{error} on /files") from error
                raise
            return _text(_object(reply).get("id"), "a file's id")

        return await self._with_retries(send, is_final=storage_full)

    async def create(self, file_id: str) -> BatchJob:
        """Create a batch; raises NoBatchApi, Refused and Fatal if it certainly was not created.

        The call is sent again only if the service was not reached or was too busy. Any other Transient is raised: the
        batch may or may not exist.
        """
        body = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": self._window}

        async def send() -> BatchJob:
            try:
                return self._job(_object(await self._client.call("POST", "/batches", msgspec.json.encode(body))))
            except ServiceError as error:
                if error.status in NO_SUCH_ROUTE_STATUSES and "file" not in str(error).lower():
                    raise NoBatchApi(f"{error} on /batches") from error
                raise

        return await self._with_retries(send, is_final=may_have_taken_effect)

    async def job(self, batch_id: str) -> BatchJob | None:
        """Return a batch, or None if the service does not know it. Raises Refused, Fatal and RunStopped."""
        try:
            return self._job(await self._get(f"/batches/{quote(batch_id, safe='')}"))
        except ServiceError as error:
            if error.status in (400, 404, 410):  # some services call an id they do not know a bad request
                return None
            raise

    async def jobs_of(self, file_id: str) -> list[BatchJob]:
        """Return the batches that were created from an uploaded file, from all pages of the list.

        Raises ServiceError if the service has no such list, and BadReply if its list proves nothing.
        """
        found: list[BatchJob] = []
        seen: set[str] = set()
        query, lacks_inputs = {"limit": str(LIST_PAGE_SIZE)}, False
        while True:
            page = await self._get("/batches", query, is_final=not_allowed)
            jobs = _listed(page)
            fresh = {str(job["id"]) for job in jobs} - seen
            ours = [job for job in jobs if str(job["id"]) in fresh and str(job.get("input_file_id")) == file_id]
            found += map(self._job, ours)
            seen |= fresh
            lacks_inputs = lacks_inputs or any("input_file_id" not in job for job in jobs)
            if fresh and page.get("has_more") is not False:
                query["after"] = str(page.get("last_id") or jobs[-1]["id"])
                continue
            if not found and (lacks_inputs or (jobs and not fresh and page.get("has_more"))):
                raise BadReply("its list of batches is incomplete, or names no input files", status=200)
            return found

    async def cancel(self, batch_id: str) -> None:
        """Request the cancellation of a batch; raises ServiceError if the service refuses, and RunStopped."""
        path = f"/batches/{quote(batch_id, safe='')}/cancel"
        await self._with_retries(lambda: self._client.call("POST", path), is_final=not_allowed)

    async def delete(self, file_id: str) -> None:
        """Delete a file at the service, if it is still there. Raises ServiceError and RunStopped."""
        try:
            path = f"/files/{quote(file_id, safe='')}"
            await self._with_retries(lambda: self._client.call("DELETE", path), not_allowed, DELETE_TIMEOUT_SECONDS)
        except ServiceError as error:
            if error.status != 404:
                raise

    async def download(self, file_id: str, to: Path) -> None:
        """Download a file's content to a path. A download that breaks is continued as long as it gets further.

        Raises RunStopped, OSError and ServiceError. It is a ConnectionLost if the download broke off at one place until
        the patience had passed; then the lines that arrived whole are at the path.
        """
        path, file = f"/files/{quote(file_id, safe='')}/content", PartialFile(to)
        while True:
            reached = file.reached
            try:
                return await self._with_retries(
                    lambda: self._client.download(path, file),
                    is_final=partial(_is_further, file, reached),
                )
            except Transient as error:
                if file.reached <= reached:
                    raise
                log.info("file %s: %s; it goes on", file_id, error)
                self.traffic.retries += 1
            except RunStopped:
                if not file.is_breaking:
                    raise
                file.keep_whole_lines()
                raise ConnectionLost(f"it breaks off after {file.progress} each time") from None

    async def _get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        is_final: IsFinal = lambda _: False,
    ) -> Mapping[str, Any]:
        async def send() -> Mapping[str, Any]:
            return _object(await self._client.call("GET", path, None, query))

        return await self._with_retries(send, is_final)

    async def _with_retries(
        self, send: Callable[[], Awaitable[Reply]], is_final: IsFinal = lambda _: False, max_seconds: float = math.inf
    ) -> Reply:
        """Send until there is a reply, a refusal, or an error after which it must not be sent again (`is_final`).

        After `max_seconds` the last error is raised instead of waiting longer.
        """
        start, failures = asyncio.get_running_loop().time(), 0
        while True:
            try:
                reply = await send()
            except ServiceError as error:
                self._count(error)
                if is_final(error):
                    raise
                if isinstance(error, Fatal) and error.reason != "address":
                    raise service_stop(error) from error
                if not isinstance(error, Transient) or error.status == 501:
                    raise
                failures += 1
                self.last_failure = str(error)
                elapsed = asyncio.get_running_loop().time() - start
                if elapsed > max_seconds:
                    raise
                if elapsed > self._policy.patience:
                    raise self._outage(error) from error
                wait = backoff(error, failures, 0, self._policy, self._rng)
            else:
                self.last_failure = None
                return reply
            self.traffic.retries += 1
            await self._sleep(wait or 0.0)

    def _count(self, error: ServiceError) -> None:
        if isinstance(error, RateLimited):
            self.traffic.throttled += 1

    def _outage(self, error: Transient) -> RunStopped:
        message = (
            f"no answer to batch calls for {self._policy.patience:g} s (online.retry.patience); the last failure was: "
            f"{error}. Run the same command again when the service is back"
        )
        return RunStopped("outage", message, exit_code=4)

    def _job(self, data: Mapping[str, Any]) -> BatchJob:
        word = data.get("status")
        state, known = job_state(word, self._dialect)
        raw_counts = data.get("request_counts")
        counts: Mapping[str, Any] = raw_counts if isinstance(raw_counts, dict) else {}
        return BatchJob(
            id=_text(data.get("id"), "a batch's id"),
            state=state,
            word=str(word),
            known=known,
            output_file_id=_optional(data.get("output_file_id")),
            error_file_id=_optional(data.get("error_file_id")),
            completed=_line_count(counts.get("completed")),
            failed=_line_count(counts.get("failed")),
            errors=data.get("errors"),
        )


def _is_further(file: PartialFile, than: int, error: ServiceError) -> bool:
    """Return True if a download broke off further on than before: then it need not wait."""
    return isinstance(error, Transient) and file.reached > than


def may_have_taken_effect(error: ServiceError) -> bool:
    """Return True if a call may have taken effect although there was no usable reply."""
    return isinstance(error, Transient) and not isinstance(error, ConnectFailed | RateLimited)


def not_allowed(error: ServiceError) -> bool:
    """Return True if only this call is refused, for this token or in this state: other calls may still be answered."""
    return error.status in (403, 409)


def storage_full(error: ServiceError) -> bool:
    """Return True if an upload was refused because the account holds too many bytes or files (PAI: 100 GB in all)."""
    message = str(error).lower()
    return error.status in _FULL_STATUSES and not _RATE_OR_SIZE.search(message) and _STORAGE.search(message) is not None


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadReply("a 200 that is not JSON", status=200) from error
    if not isinstance(data, dict):
        raise BadReply("a 200 that is not a JSON object", status=200)
    return data


def _listed(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the batches on a page of the list; raises BadReply for another shape, which does not prove absence."""
    jobs = page.get("data")
    if not (isinstance(jobs, list) or (jobs is None and ("data" in page or page.get("object") == "list"))):
        raise BadReply("a 200 that is not a list of batches", status=200)
    return [job for job in jobs or () if isinstance(job, dict) and job.get("id") is not None]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise BadReply(f"a 200 without {what}", status=200)
    return str(value)


def _optional(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _line_count(value: object) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value < MAX_LINE_COUNT else None
