"""The Batch API of one service: calls to files and jobs, and what the replies mean."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from runner.config import RetryConfig
from runner.errors import (
    ConnectFailed,
    ConnectionLost,
    Fatal,
    NoBatchApi,
    RateLimited,
    Refused,
    ReplyTooLarge,
    RunStopped,
    ServiceError,
    Transient,
)
from runner.lanes import RequestedWait, Traffic, service_stop
from runner.lanes.batch.job_status import BatchJob
from runner.lanes.batch.listing import ListedBatch, Listing
from runner.lanes.batch.refusals import file_not_ready, queue_full, storage_full
from runner.lanes.batch.replies import (
    FILE_KEYS,
    JOB_KEYS,
    Unreadable,
    UploadedFile,
    described,
    read_file,
    read_job,
    read_listed,
    read_page,
)
from runner.service import Client, PartialFile, backoff, too_long_a_wait

log = logging.getLogger(__name__)

ENDPOINT = "/v1/chat/completions"
NO_SUCH_ROUTE_STATUSES = frozenset({404, 405, 501})
LIST_PAGE_SIZE = 100
# A list that goes on may never end.
MAX_LIST_PAGES = 500
MAX_LISTED_BATCHES = 50_000
SECONDS_PER_HOUR = 3600.0
DELETE_TIMEOUT_SECONDS = 60.0  # then the file stays at the service

MAX_UNREADABLE_REPLIES = 3  # replies in a row of a shape that cannot be read; then the call is given up

# The key of a batch's metadata that takes our mark: OpenAI documents any key, Model Studio this one (up to 100
# characters). PAI documents none.
METADATA_KEYS = {"openai": "judge_runner", "dashscope": "ds_name"}

Reply = TypeVar("Reply")
# Sleeps for a number of seconds; raises Drained if the lane is drained meanwhile.
Sleep = Callable[[float], Awaitable[None]]
# Returns True if a call must not be sent again after this error.
IsFinal = Callable[[ServiceError], bool]


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
        last_failure: why a call is being retried, and until when if the service asked to wait; else None.
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
        self._requested_wait = RequestedWait("the batch API", policy.longest_wait)
        self._takes_metadata = True

    @property
    def is_emulated(self) -> bool:
        """True once a reply named an emulator as its sender."""
        return self._client.is_emulated

    @property
    def service_time(self) -> float | None:
        """The service's clock at the last reply (Unix time in seconds); None if it does not show it."""
        return self._client.service_time

    async def upload(self, file: Path, name: str | None = None) -> UploadedFile:
        """Upload a file of requests, under another name if one is given.

        Raises NoBatchApi, Fatal, Refused, Unreadable, RunStopped, and RateLimited if the account's storage is full.
        """

        async def send() -> UploadedFile:
            try:
                reply = await self._client.upload("/files", file, name, purpose="batch")
            except ServiceError as error:
                if error.status in NO_SUCH_ROUTE_STATUSES:
                    raise NoBatchApi(f"{error} on /files") from error
                raise
            return read_file(described(reply, FILE_KEYS, "a file"))

        return await self._with_retries(send, is_final=storage_full)

    async def file(self, file_id: str) -> UploadedFile | None:
        """Return what the service says about a file; None if it says nothing. Raises RunStopped."""
        try:
            path = f"/files/{quote(file_id, safe='')}"
            return await self._get(
                path, lambda raw: read_file(described(raw, FILE_KEYS, "a file")), is_final=not_allowed
            )
        except ServiceError:
            return None

    async def create(self, file_id: str, mark: str | None = None) -> BatchJob:
        """Create a batch; raises NoBatchApi, Refused and Fatal if it certainly was not created.

        The call is sent again only if the service was not reached or was too busy. Any other Transient is raised: the
        batch may or may not exist. A refusal that time can change (`queue_full`, `file_not_ready`) is raised at once.

        Args:
            mark: put into the batch's metadata where the dialect documents metadata.
        """
        body: dict[str, Any] = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": self._window}
        key = METADATA_KEYS.get(self._dialect)
        if mark and key and self._takes_metadata:
            body["metadata"] = {key: mark}

        async def send() -> BatchJob:
            try:
                reply = await self._client.call("POST", "/batches", msgspec.json.encode(body))
                return read_job(described(reply, JOB_KEYS, "a batch"), self._dialect)
            except ServiceError as error:
                if error.status in NO_SUCH_ROUTE_STATUSES and "file" not in str(error).lower():
                    raise NoBatchApi(f"{error} on /batches") from error
                raise

        try:
            return await self._with_retries(send, is_final=_ends_creation)
        except Refused as error:
            if body.pop("metadata", None) is None or "metadata" not in str(error).lower():
                raise
            log.info("the service takes no metadata: %s", error)
            self._takes_metadata = False
        return await self._with_retries(send, is_final=_ends_creation)

    async def job(self, batch_id: str) -> BatchJob | None:
        """Return a batch, or None if the service does not know it. Raises Refused, Fatal and RunStopped."""
        try:
            path = f"/batches/{quote(batch_id, safe='')}"
            return await self._get(path, lambda raw: read_job(described(raw, JOB_KEYS, "a batch"), self._dialect))
        except ServiceError as error:
            if error.status in (400, 404, 410):  # some services call an id they do not know a bad request
                return None
            raise

    async def listing(self) -> Listing:
        """Return all pages of the list of batches. It is not whole if its pages do not come to an end.

        Raises ServiceError if the service has no list, Drained and RunStopped.
        """
        batches: dict[str, ListedBatch] = {}
        query = {"limit": str(LIST_PAGE_SIZE)}
        for _ in range(MAX_LIST_PAGES):
            page = await self._get("/batches", read_page, query, is_final=not_allowed)
            jobs = [job for job in page.data if str(job["id"]) not in batches]
            batches |= {str(job["id"]): read_listed(job, self._dialect) for job in jobs}
            if not jobs or page.has_more is False:
                return Listing(tuple(batches.values()), not (page.data and not jobs and page.has_more))
            last = page.last_id or str(jobs[-1]["id"])
            if last == query.get("after") or len(batches) >= MAX_LISTED_BATCHES:
                break
            query["after"] = last
            await self._sleep(0)
        return Listing(tuple(batches.values()), is_whole=False)

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

    async def download(self, file_id: str, to: Path, max_bytes: int) -> None:
        """Download a file's content to a path. A download that breaks is continued as long as it gets further.

        Raises RunStopped, OSError and ServiceError. It is a ConnectionLost if the download broke off at one place until
        the patience had passed; then the lines that arrived whole are at the path. It is a ReplyTooLarge if the file
        has more than `max_bytes`, decompressed.
        """
        path, file = f"/files/{quote(file_id, safe='')}/content", PartialFile(to, max_bytes)
        while True:
            reached = file.reached
            try:
                return await self._with_retries(
                    lambda: self._client.download(path, file),
                    is_final=partial(_is_further, file, reached),
                )
            except ReplyTooLarge:
                file.discard()
                raise
            except Transient as error:
                if file.reached <= reached:
                    raise
                log.info("file %s: %s; it goes on", file_id, error)
                self.traffic.retries += 1
            except RunStopped:
                if not file.is_breaking:
                    raise
                if file.keep_whole_lines():
                    self._client.scrub_file(to)
                raise ConnectionLost(f"it breaks off after {file.progress} each time") from None

    async def _get(
        self,
        path: str,
        read: Callable[[bytes], Reply],
        query: Mapping[str, str] | None = None,
        is_final: IsFinal = lambda _: False,
    ) -> Reply:
        async def send() -> Reply:
            return read(await self._client.call("GET", path, None, query))

        return await self._with_retries(send, is_final)

    async def _with_retries(
        self, send: Callable[[], Awaitable[Reply]], is_final: IsFinal = lambda _: False, max_seconds: float = math.inf
    ) -> Reply:
        """Send until there is a reply, a refusal, or an error after which it must not be sent again (`is_final`).

        After `max_seconds` the last error is raised instead of waiting longer.
        """
        start, failures, unreadable, asked = asyncio.get_running_loop().time(), 0, 0, 0.0
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
                unreadable = unreadable + 1 if isinstance(error, Unreadable | ReplyTooLarge) else 0
                if unreadable >= MAX_UNREADABLE_REPLIES:
                    raise
                self._requested_wait.note(error)
                self.last_failure = self._requested_wait.text or str(error)
                elapsed = asyncio.get_running_loop().time() - start
                if elapsed > max_seconds:
                    raise
                asked += error.retry_after or 0.0
                too_long = too_long_a_wait(error, self._policy, time.time())
                if too_long or elapsed > self._policy.patience + min(asked, self._policy.longest_wait):
                    raise self._outage(error, too_long) from error
                wait = backoff(error, failures, 0, self._policy, self._rng)
            else:
                self.last_failure = None
                return reply
            self.traffic.retries += 1
            await self._sleep(wait or 0.0)

    def _count(self, error: ServiceError) -> None:
        if isinstance(error, RateLimited):
            self.traffic.throttled += 1

    def _outage(self, error: Transient, too_long: str | None) -> RunStopped:
        message = too_long or (
            f"no answer to batch calls for {self._policy.patience:g} s (online.retry.patience); the last failure was: "
            f"{error}. Run the same command again when the service is back"
        )
        return RunStopped("outage", message, exit_code=4)


def _is_further(file: PartialFile, than: int, error: ServiceError) -> bool:
    """Return True if a download broke off further on than before: then it need not wait. So does one without an end."""
    is_advanced = file.reached > than and not file.is_slow
    return isinstance(error, ReplyTooLarge) or (isinstance(error, Transient) and is_advanced)


def may_have_taken_effect(error: ServiceError) -> bool:
    """Return True if a call may have taken effect although there was no usable reply."""
    return isinstance(error, Transient) and not isinstance(error, ConnectFailed | RateLimited)


def not_allowed(error: ServiceError) -> bool:
    """Return True if only this call is refused, for this token or in this state: other calls may still be answered."""
    return error.status in (403, 409)


def _ends_creation(error: ServiceError) -> bool:
    return may_have_taken_effect(error) or queue_full(error) or file_not_ready(error)
