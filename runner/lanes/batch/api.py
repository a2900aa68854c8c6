"""Files and Batch over HTTP: what is asked of the service, and what its replies mean."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from runner.config import RetryConfig
from runner.errors import BadReply, ConnectFailed, Fatal, NoBatchApi, RateLimited, RunStopped, ServiceError, Transient
from runner.lanes import Traffic, service_stop
from runner.lanes.batch.job_status import State, meaning
from runner.service import Client, backoff

ENDPOINT = "/v1/chat/completions"
MISSING = frozenset({404, 405, 501})
PAGE = 100
HOUR = 3600.0
TIDYING_S = 60.0
"""So long it is tried to delete a file; then it stays at the service."""

_STORAGE = re.compile(r"(storage|file).{0,60}(quota|limit|exceed|full)|(quota|limit|exceed).{0,60}(storage|files)")
_OTHER = re.compile(r"rate limit|per minute|per hour|enqueued|too.large|(?<!total )file size|per file")
_SHARED = frozenset({400, 403, 409, 413, 429, 507})

Came = TypeVar("Came")
Rest = Callable[[float], Awaitable[None]]
"""Sleeps so many seconds; raises Drained where the lane ends meanwhile."""
Unless = Callable[[ServiceError], bool]
"""Whether a call is not sent again after this error."""


class BatchJob(msgspec.Struct, frozen=True):
    """A batch as the service describes it.

    Attributes:
        state: what its status word means; `word` is the word itself, `known` whether the dialect has it.
        completed, failed: its lines, where the service counts them.
        errors: what it says went wrong with the batch as a whole, as it came.
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
        """Whether it has ended and counts answers, or may have some, but names no file they would stand in."""
        if self.output_file_id or self.error_file_id or self.state in ("running", "cancelling"):
            return False
        return bool(self.completed) or (self.state == "completed" and not self.failed)

    @property
    def finished(self) -> int:
        """Lines that are done, well or badly."""
        return (self.completed or 0) + (self.failed or 0)


class BatchApi:
    """The Files and Batch calls of one service.

    All but `create` are sent again while the service does not answer, for as long as the run's patience lasts; then
    RunStopped is raised, as it is where no call will be answered (authentication, an account without money).

    Args:
        client: the service.
        dialect: whose words it uses.
        window: seconds a batch may take; at least the 24 hours that every service offers are asked for.
        policy: the YAML's `online.retry`.
        rest: how to wait.
        traffic: what is counted.
    """

    def __init__(
        self, client: Client, dialect: str, window: float, policy: RetryConfig, rest: Rest, traffic: Traffic
    ) -> None:
        self.traffic = traffic
        self.trouble: str | None = None
        self._client = client
        self._dialect = dialect
        self._window = f"{max(24, math.ceil(window / HOUR))}h"
        self._policy = policy
        self._rest = rest
        self._rng = random.Random()

    async def upload(self, file: Path) -> str:
        """Upload a file of requests and return its id; raises NoBatchApi, Fatal, Refused and RateLimited (storage)."""

        async def send() -> str:
            try:
                reply = await self._client.upload("/files", file, purpose="batch")
            except ServiceError as error:
                if error.status in MISSING:
                    raise NoBatchApi(f"{error} on /files") from error
                raise
            return _text(_object(reply).get("id"), "a file's id")

        return await self._patiently(send, unless=storage_full)

    async def create(self, file_id: str) -> BatchJob:
        """Create a batch; raises NoBatchApi, Refused and Fatal where there is none for sure.

        Sent again only while nobody was reached or the service was too busy; any other Transient leaves open whether
        there is a batch now, and is raised.
        """
        body = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": self._window}

        async def send() -> BatchJob:
            try:
                return self._job(_object(await self._client.call("POST", "/batches", msgspec.json.encode(body))))
            except ServiceError as error:
                if error.status in MISSING and "file" not in str(error).lower():
                    raise NoBatchApi(f"{error} on /batches") from error
                raise

        return await self._patiently(send, unless=in_doubt)

    async def job(self, batch_id: str) -> BatchJob | None:
        """Look at a batch; None where the service does not know it. Raises Refused and Fatal."""
        try:
            return self._job(await self._get(f"/batches/{quote(batch_id, safe='')}"))
        except ServiceError as error:
            if error.status in (400, 404, 410):  # some services call an id they do not know a bad request
                return None
            raise

    async def jobs_of(self, file_id: str) -> list[BatchJob]:
        """The batches that were made of an uploaded file, by going through the whole list.

        Raises ServiceError where the service has no such list.
        """
        found: list[BatchJob] = []
        seen: set[str] = set()
        query, blind = {"limit": str(PAGE)}, False
        while True:
            page = await self._get("/batches", query, unless=not_allowed)
            jobs = _listed(page)
            fresh = {str(job["id"]) for job in jobs} - seen
            ours = [job for job in jobs if str(job["id"]) in fresh and str(job.get("input_file_id")) == file_id]
            found += map(self._job, ours)
            seen |= fresh
            blind = blind or any("input_file_id" not in job for job in jobs)
            if fresh and page.get("has_more") is not False:
                query["after"] = str(page.get("last_id") or jobs[-1]["id"])
                continue
            if not found and (blind or (jobs and not fresh and page.get("has_more"))):
                raise BadReply("its list of batches is not whole, or names no input files", status=200)
            return found

    async def cancel(self, batch_id: str) -> None:
        """Ask for a batch's cancellation; raises ServiceError where the service refuses."""
        path = f"/batches/{quote(batch_id, safe='')}/cancel"
        await self._patiently(lambda: self._client.call("POST", path), unless=not_allowed)

    async def delete(self, file_id: str) -> None:
        """Delete a file at the service; one that is gone already is fine. Raises ServiceError."""
        try:
            path = f"/files/{quote(file_id, safe='')}"
            await self._patiently(lambda: self._client.call("DELETE", path), unless=not_allowed, most=TIDYING_S)
        except ServiceError as error:
            if error.status != 404:
                raise

    async def download(self, file_id: str, to: Path) -> None:
        """Get a file's content onto the disk; raises ServiceError and OSError."""
        await self._patiently(lambda: self._client.download(f"/files/{quote(file_id, safe='')}/content", to))

    async def _get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        unless: Callable[[ServiceError], bool] = lambda _: False,
    ) -> Mapping[str, Any]:
        async def send() -> Mapping[str, Any]:
            return _object(await self._client.call("GET", path, None, query))

        return await self._patiently(send, unless)

    async def _patiently(
        self, send: Callable[[], Awaitable[Came]], unless: Unless = lambda _: False, most: float = math.inf
    ) -> Came:
        """Send until there is a reply, a refusal, or an error after which it must not be sent again (`unless`).

        For `most` seconds: what is not worth a longer wait raises its last error then.
        """
        began, failures = asyncio.get_running_loop().time(), 0
        while True:
            try:
                came = await send()
            except ServiceError as error:
                self._count(error)
                if unless(error):
                    raise
                if isinstance(error, Fatal) and error.reason != "address":
                    raise service_stop(error) from error
                if not isinstance(error, Transient) or error.status == 501:
                    raise
                failures += 1
                self.trouble = str(error)
                waited = asyncio.get_running_loop().time() - began
                if waited > most:
                    raise
                if waited > self._policy.patience:
                    raise self._outage(error) from error
                wait = backoff(error, failures, 0, self._policy, self._rng)
            else:
                self.trouble = None
                return came
            self.traffic.retries += 1
            await self._rest(wait or 0.0)

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
        state, known = meaning(word, self._dialect)
        given = data.get("request_counts")
        counts: Mapping[str, Any] = given if isinstance(given, dict) else {}
        return BatchJob(
            id=_text(data.get("id"), "a batch's id"),
            state=state,
            word=str(word),
            known=known,
            output_file_id=_optional(data.get("output_file_id")),
            error_file_id=_optional(data.get("error_file_id")),
            completed=_count(counts.get("completed")),
            failed=_count(counts.get("failed")),
            errors=data.get("errors"),
        )


def in_doubt(error: ServiceError) -> bool:
    """Whether what was sent may have taken effect although there was no proper answer."""
    return isinstance(error, Transient) and not isinstance(error, ConnectFailed | RateLimited)


def not_allowed(error: ServiceError) -> bool:
    """Whether only this call is refused, to this token or by the state of things: others may still be answered."""
    return error.status in (403, 409)


def storage_full(error: ServiceError) -> bool:
    """Whether an upload was refused because the account holds too many bytes or files (PAI: 100 GB in all)."""
    said = str(error).lower()
    return error.status in _SHARED and not _OTHER.search(said) and _STORAGE.search(said) is not None


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadReply("a 200 that is not JSON", status=200) from error
    if not isinstance(data, dict):
        raise BadReply("a 200 that is not a JSON object", status=200)
    return data


def _listed(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The batches on a page of the list; a page of another shape does not say that there are none."""
    jobs = page.get("data")
    if not (isinstance(jobs, list) or (jobs is None and ("data" in page or page.get("object") == "list"))):
        raise BadReply("a 200 that is no list of batches", status=200)
    return [job for job in jobs or () if isinstance(job, dict) and job.get("id") is not None]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise BadReply(f"a 200 without {what}", status=200)
    return str(value)


def _optional(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12 else None
