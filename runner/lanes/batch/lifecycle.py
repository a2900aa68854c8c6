"""The life of one shard, from its upload to its rows; each step writes down the next one before it is taken."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from runner.core import Drained, DrainSignal
from runner.errors import Fatal, NoBatchApi, Refused, RunStopped, ServiceError, Transient
from runner.lanes.batch.api import MISSING, BatchApi, BatchJob, storage_full
from runner.lanes.batch.job_status import enqueued_limit, reasons
from runner.lanes.batch.ledger import Ledger, Shard, Step
from runner.lanes.batch.poll_timer import PollTimer
from runner.lanes.batch.reconcile import Reconciler
from runner.lanes.batch.remote_files import RemoteFiles
from runner.lanes.batch.result_lines import ends_whole

log = logging.getLogger(__name__)

OVERDUE_SHARE = 1 / 24
"""A batch gets its window and this share of it more before we cancel it ourselves."""

LIST_INTERVAL_SECONDS = 10.0
"""A batch that is absent from two lists so far apart was never created."""

CANCEL_POLLS = 15
"""So many looks at their longest distance a cancelled batch gets to end; OpenAI speaks of ten minutes."""

MISSING_POLLS = 3
"""A batch is unknown to the service when so many looks in a row say so."""

UNSENT_STEPS: tuple[Step, ...] = ("upload", "create")
"""The steps before anything can have been paid for."""

MAX_DOWNLOADS = 3
"""A result file that ends in the middle of a line is fetched so often before it is taken as it is."""


class Undecided(Exception):
    """Whether a shard's requests were paid for cannot be known: a person must decide."""


class Detached(Exception):
    """A batch goes on at the service, and we leave it there (`--detach`)."""


class BatchPolicy(msgspec.Struct, frozen=True):
    """How shards are treated in this run.

    Attributes:
        window: seconds a batch may take.
        poll_ceiling: the longest distance between two looks, in seconds.
        delete_files: delete this run's files at the service when all is collected.
        detach: look once at a batch and leave it running.
        cancel: cancel every batch and begin none.
        resubmit_unknown: give up what waits for a decision, so that it is asked anew.
    """

    window: float
    poll_ceiling: float
    delete_files: bool
    detach: bool = False
    cancel: bool = False
    resubmit_unknown: bool = False


class ShardLifecycle:
    """Takes shards through their steps.

    Args:
        ledger: where each step is written down.
        api: of the service at an address; raises where it has none.
        reconciler: makes rows of results.
        poll_timer: when batches are looked at.
        policy: how.
        drain: says when the lane ends.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: Callable[[Shard], BatchApi],
        reconciler: Reconciler,
        poll_timer: PollTimer,
        policy: BatchPolicy,
        drain: DrainSignal,
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._reconciler = reconciler
        self._poll_timer = poll_timer
        self._policy = policy
        self._drain = drain
        self._remote_files = RemoteFiles(ledger, api)
        self._unknown_statuses: set[str] = set()
        self._cancelling: dict[int, float] = {}
        self._steps: dict[Step, Callable[[Shard], Awaitable[Shard]]] = {
            "upload": self._upload,
            "create": self._create,
            "confirm": self._confirm,
            "poll": self._poll,
            "download": self._download,
            "reconcile": self._reconcile,
            "delete": self._delete,
        }

    async def run(self, shard: Shard) -> Shard:
        """Take a shard through all its steps until it is closed, or a person must decide about it.

        Raises Drained and Parting where it is left in the middle, NoBatchApi, RunStopped and OSError.
        """
        if shard.stuck is not None:
            shard = self._advance(shard, stuck=None)
        try:
            while shard.is_open:
                if self._policy.cancel and shard.step in UNSENT_STEPS:
                    return await self.drop(shard, "cancelled before it was submitted")
                shard = await self._steps[shard.step](shard)
        except Undecided as why:
            shard = self._ledger.shards[shard.number]
            if self._policy.resubmit_unknown:
                return await self.drop(shard, f"{why}; its requests are asked anew, as told")
            log.error("shard %d waits for a decision: %s", shard.number, why)
            shard = self._advance(shard, stuck=str(why))
        return shard

    async def _upload(self, shard: Shard) -> Shard:
        try:
            try:
                file_id = await self._api(shard).upload(self._ledger.requests(shard.number))
            except ServiceError as error:
                if not storage_full(error):
                    raise
                file_id = await self._remote_files.upload_into_room(shard, error)
        except ServiceError as error:
            return self._give_back(shard, f"the upload was refused: {error}")
        return self._advance(shard, step="create", input_file_id=file_id)

    async def _create(self, shard: Shard) -> Shard:
        """Create the batch: what may happen is on the disk before it can happen."""
        shard = self._advance(shard, step="confirm", sent_at=time.time())
        try:
            job = await self._api(shard).create(shard.input_file_id or "")
        except (NoBatchApi, RunStopped, Drained):
            self._advance(shard, step="create")  # for sure nothing was created
            raise
        except (Fatal, Refused) as error:
            return self._give_back(shard, f"the batch was refused: {error}")
        except Transient as error:
            log.warning(
                "shard %d: no answer to the creation of its batch (%s); asking the service", shard.number, error
            )
            return shard
        return self._created(shard, job)

    def _created(self, shard: Shard, job: BatchJob) -> Shard:
        self._poll_timer.reset()
        now = time.time()
        return self._advance(
            shard, step="poll", batch_id=job.id, created_at=min(shard.sent_at or now, now), word=job.word, finished=0
        )

    async def _confirm(self, shard: Shard) -> Shard:
        """Find out whether the last create took effect: the list is asked, twice where the batch is not in it."""
        for look in range(2):
            if look:
                await self._drain.sleep(LIST_INTERVAL_SECONDS)
            try:
                listed = await self._api(shard).jobs_of(shard.input_file_id or "")
            except ServiceError as error:
                sent = datetime.fromtimestamp(shard.sent_at or 0, UTC).isoformat(timespec="seconds")
                said = "the service lists no batches" if error.status in MISSING else str(error)
                raise Undecided(
                    f"whether a batch was created of the file {shard.input_file_id} at {sent} cannot be known: {said}"
                ) from error
            jobs = [job for job in listed if job.id not in shard.former]
            if jobs:
                if len(jobs) > 1:
                    log.warning("shard %d: the service made %d batches of it", shard.number, len(jobs))
                log.info("shard %d: its batch is %s", shard.number, jobs[-1].id)
                return self._created(shard, jobs[-1])
        return self._advance(shard, step="create")

    async def _poll(self, shard: Shard) -> Shard:
        """Look until the batch has ended, by the service's word alone."""
        unknown = nameless = late = 0
        while True:
            job = await self._look(shard)
            unknown = 0 if job else unknown + 1
            if unknown >= MISSING_POLLS:
                raise Undecided(f"the service no longer knows its batch {shard.batch_id}")
            if job is not None:
                shard = self._record_job(shard, job)
                nameless += 1 if job.hides_answers else 0
                if job.state not in ("running", "cancelling"):
                    if not job.hides_answers:
                        return await self._ended(shard, job)
                    if nameless >= MISSING_POLLS:
                        raise Undecided(f"its batch {job.id} is {job.word}, but names no file with results")
                else:
                    late = late + 1 if self._is_late(shard) else 0
                    shard = await self._cancel_if_overdue(shard, late)
                    if self._policy.detach:
                        raise Detached
            await self._drain.wait_for(self._poll_timer.wait())

    async def _look(self, shard: Shard) -> BatchJob | None:
        try:
            return await self._api(shard).job(shard.batch_id or "")
        except ServiceError as error:
            raise Undecided(f"its batch {shard.batch_id} cannot be looked at: {error}") from error

    def _record_job(self, shard: Shard, job: BatchJob) -> Shard:
        if not job.known and job.word not in self._unknown_statuses:
            self._unknown_statuses.add(job.word)
            log.warning("batch %s: unknown status %r, taken for running", job.id, job.word)
        return self._ledger.record_job(msgspec.structs.replace(shard, word=job.word, finished=job.finished))

    def _is_late(self, shard: Shard) -> bool:
        """Whether our own clock says that the batch had its time."""
        return time.time() - (shard.created_at or 0.0) > self._policy.window * (1 + OVERDUE_SHARE)

    async def _cancel_if_overdue(self, shard: Shard, late: int) -> Shard:
        """Cancel a batch that had its time, or that the user wants cancelled.

        A clock that jumped is no reason: the service was asked first, and is asked once more a while later.
        """
        now = asyncio.get_running_loop().time()
        if shard.cancelled_at is None:
            return await self._cancel(shard) if self._policy.cancel or late >= 2 else shard
        since = self._cancelling.setdefault(shard.number, now)
        if now - since > CANCEL_POLLS * self._policy.poll_ceiling:
            raise Undecided(f"its batch {shard.batch_id} was cancelled, but goes on ({shard.word})")
        return shard

    async def _cancel(self, shard: Shard) -> Shard:
        why = "as told" if self._policy.cancel else "it had its time"
        log.warning("batch %s is being cancelled: %s", shard.batch_id, why)
        try:
            await self._api(shard).cancel(shard.batch_id or "")
        except ServiceError as error:
            job = await self._look(shard)
            if job is None or job.state in ("running", "cancelling"):
                raise Undecided(f"its batch {shard.batch_id} cannot be cancelled: {error}") from error
        self._poll_timer.reset()
        return self._advance(shard, cancelled_at=time.time())

    async def _ended(self, shard: Shard, job: BatchJob) -> Shard:
        """Note how a batch ended; one for which there was no room among the enqueued tokens goes again."""
        self._poll_timer.reset()
        if job.state == "failed" and enqueued_limit(job.errors):
            log.warning("batch %s: %s; it is created again later", job.id, reasons(job.errors))
            shard = self._advance(shard, step="create", batch_id=None, former=(*shard.former, job.id))
            if self._policy.detach:
                raise Detached
            await self._drain.sleep(self._policy.poll_ceiling * min(2 ** (len(shard.former) - 1), CANCEL_POLLS))
            return shard
        log.info(
            "batch %s ended: %s, %s answered and %s failed of %d lines",
            *(job.id, job.word, *("?" if n is None else n for n in (job.completed, job.failed)), shard.requests),
        )
        return self._advance(
            shard,
            step="download",
            ended=job.state,
            reason=reasons(job.errors),
            output_file_id=job.output_file_id,
            error_file_id=job.error_file_id,
        )

    async def _download(self, shard: Shard) -> Shard:
        """Fetch both files; without the errors alone one can do: what they name is asked again."""
        number = shard.number
        if shard.output_file_id is not None:
            await self._fetch(shard, shard.output_file_id, self._ledger.output(number))
        if shard.error_file_id is not None:
            try:
                await self._fetch(shard, shard.error_file_id, self._ledger.errors(number))
            except Undecided as why:
                if shard.output_file_id is None:
                    raise
                log.warning("shard %d: %s", number, why)
        return self._advance(shard, step="reconcile")

    async def _fetch(self, shard: Shard, file_id: str, to: Path) -> None:
        """Fetch one file; once more where it seems to be cut off."""
        for _ in range(MAX_DOWNLOADS):
            try:
                await self._api(shard).download(file_id, to)
            except ServiceError as error:
                raise Undecided(f"results of its batch {shard.batch_id} cannot be fetched: {error}") from error
            if ends_whole(to):
                return
            log.warning("batch %s: %s ends in the middle of a line", shard.batch_id, file_id)

    async def _reconcile(self, shard: Shard) -> Shard:
        tally = await self._reconciler.write_rows(shard)
        self._ledger.write_leftovers(shard.number, tally.left)
        if tally.left:
            log.info("batch %s: %d of %d requests got no answer", shard.batch_id, len(tally.left), shard.requests)
        self._reconciler.mark_leftovers(tally.left)
        ids = (shard.input_file_id, shard.output_file_id, shard.error_file_id)
        kept = tuple(filter(None, dict.fromkeys(ids)))
        collected = self._advance(shard, step="delete", answered=tally.answered, kept_files=kept, reserved=None)
        self._reconciler.release_budget(shard)
        return collected

    async def _delete(self, shard: Shard) -> Shard:
        if not self._policy.delete_files:
            return self._advance(shard, step="closed")
        deleted = await self._remote_files.delete(shard, shard.kept_files)
        return self._advance(
            shard, step="closed", kept_files=() if deleted == len(shard.kept_files) else shard.kept_files
        )

    async def drop(self, shard: Shard, reason: str) -> Shard:
        """Close a shard of which nothing was or will be collected; its requests are as if never submitted."""
        await self._reconciler.withdraw(shard, was_sent=shard.step not in UNSENT_STEPS)
        if shard.input_file_id is not None and self._policy.delete_files:
            await self._remote_files.delete(shard, (shard.input_file_id,))
        closed = self._ledger.drop(shard, reason)
        self._reconciler.release_budget(shard)
        return closed

    def _give_back(self, shard: Shard, reason: str) -> Shard:
        """Nothing of a shard was answered: go on as with a batch that failed."""
        log.warning("shard %d: %s", shard.number, reason)
        return self._advance(shard, step="reconcile", ended="failed", reason=reason)

    def _advance(self, shard: Shard, **changes: Any) -> Shard:
        return self._ledger.save(msgspec.structs.replace(shard, **changes))
