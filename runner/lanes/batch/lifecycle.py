"""The state machine of a shard: upload, create, confirm, poll, download, reconcile, delete.

Each step is in the state file before it is taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from runner.core import DrainSignal
from runner.errors import ServiceError
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.job_status import BatchJob, may_be_created_later, reasons
from runner.lanes.batch.ledger import Ledger, Shard, Step
from runner.lanes.batch.outcomes import Detached, Undecided
from runner.lanes.batch.policy import BatchPolicy
from runner.lanes.batch.poll_timer import PollTimer
from runner.lanes.batch.reconcile import Reconciler
from runner.lanes.batch.remote_files import RemoteFiles
from runner.lanes.batch.result_files import Absence, ResultDownloads
from runner.lanes.batch.submission import Submission

log = logging.getLogger(__name__)

# Grace after the window, as a share of the window, before we cancel a batch ourselves.
OVERDUE_SHARE = 1 / 24

# Polls (at the longest interval) to wait until a cancelled batch ends; OpenAI names ten minutes.
CANCEL_POLLS = 15

# The steps before anything can have been paid for.
UNSENT_STEPS: tuple[Step, ...] = ("upload", "create")


class ShardLifecycle:
    """Takes shards through their steps.

    Args:
        ledger: records each step.
        api: returns the API of the service that has a shard.
        reconciler: makes rows of results.
        poll_timer: says when batches are polled.
        policy: the configuration and run options for batches.
        drain: set when the lane is drained.
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
        self._downloads = ResultDownloads(ledger, api, policy, drain, self._is_overdue)
        self._submission = Submission(ledger, api, self._remote_files, poll_timer, policy, drain)
        self._unknown_statuses: set[str] = set()
        self._cancelling: dict[int, float] = {}
        self._steps: dict[Step, Callable[[Shard], Awaitable[Shard]]] = {
            "upload": self._submission.upload,
            "create": self._submission.create,
            "confirm": self._submission.confirm,
            "poll": self._poll,
            "download": self._download,
            "reconcile": self._reconcile,
            "delete": self._delete,
        }

    async def run(self, shard: Shard) -> Shard:
        """Take a shard through all its steps until it is closed, or a person must decide about it.

        Raises Drained or Detached if it stops in between, NoBatchApi, RunDirectoryError, RunStopped and OSError.
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
                return await self.drop(shard, f"{why}; its requests are sent again (--resubmit-unknown)")
            log.error("shard %d waits for a decision: %s", shard.number, why)
            shard = self._advance(shard, stuck=str(why))
        return shard

    async def _poll(self, shard: Shard) -> Shard:
        """Poll until the service says that the batch has ended."""
        unknown, without_files, overdue = Absence(), Absence(), 0
        while True:
            job = await self._job(shard)
            unknown.note(job is None)
            self._check(shard, unknown, f"the service no longer knows its batch {shard.batch_id}")
            if job is not None:
                shard = self._record_job(shard, job)
                without_files.note(job.hides_answers)
                self._check(shard, without_files, f"its batch {job.id} is {job.word}, but names no file with results")
                if job.state not in ("running", "cancelling"):
                    if not job.hides_answers:
                        return await self._ended(shard, job)
                else:
                    overdue = overdue + 1 if self._is_overdue(shard) else 0
                    shard = await self._cancel_if_overdue(shard, overdue)
                    if self._policy.detach:
                        raise Detached
            await self._drain.wait_for(self._poll_timer.wait())

    def _check(self, shard: Shard, absence: Absence, what: str) -> None:
        """Raise Undecided if something is absent for minutes, and Detached in a run that does not wait for minutes."""
        if absence.is_lasting or (self._policy.detach and absence.is_repeated and self._is_overdue(shard)):
            raise Undecided(what)
        if self._policy.detach and absence.is_repeated:
            log.warning("shard %d: %s; a later run looks again", shard.number, what)
            raise Detached

    async def _job(self, shard: Shard) -> BatchJob | None:
        try:
            return await self._api(shard).job(shard.batch_id or "")
        except ServiceError as error:
            raise Undecided(f"its batch {shard.batch_id} cannot be polled: {error}") from error

    def _record_job(self, shard: Shard, job: BatchJob) -> Shard:
        if not job.known and job.word not in self._unknown_statuses:
            self._unknown_statuses.add(job.word)
            log.warning("batch %s: unknown status %r, treated as running", job.id, job.word)
        counts = {"finished": job.finished, "failed": job.failed or 0}
        return self._ledger.record_job(msgspec.structs.replace(shard, word=job.word, **counts))

    def _is_overdue(self, shard: Shard) -> bool:
        """Return True if the batch has passed its window and the grace, by this machine's clock and the service's.

        Either may be wrong, or jump.
        """
        longest = self._policy.batch.window * (1 + OVERDUE_SHARE)
        now = self._api(shard).service_time
        if now is not None and shard.service_time is not None and now - shard.service_time <= longest:
            return False
        return time.time() - (shard.created_at or 0.0) > longest

    async def _cancel_if_overdue(self, shard: Shard, overdue: int) -> Shard:
        """Cancel a batch that is overdue, or that the user wants cancelled.

        `overdue` counts consecutive polls at which it was overdue. Two are required, so that a clock that jumped for
        one poll cancels nothing.
        """
        now = asyncio.get_running_loop().time()
        if shard.cancelled_at is None:
            return await self._cancel(shard) if self._policy.cancel or overdue >= 2 else shard
        since = self._cancelling.setdefault(shard.number, now)
        if now - since > CANCEL_POLLS * self._policy.batch.poll.ceiling:
            raise Undecided(f"its batch {shard.batch_id} was cancelled, but keeps running ({shard.word})")
        return shard

    async def _cancel(self, shard: Shard) -> Shard:
        why = "as requested" if self._policy.cancel else "it exceeded its window"
        log.warning("batch %s is being cancelled: %s", shard.batch_id, why)
        try:
            await self._api(shard).cancel(shard.batch_id or "")
        except ServiceError as error:
            job = await self._job(shard)
            if job is None or job.state in ("running", "cancelling"):
                raise Undecided(f"its batch {shard.batch_id} cannot be cancelled: {error}") from error
        self._poll_timer.reset()
        return self._advance(shard, cancelled_at=time.time())

    async def _ended(self, shard: Shard, job: BatchJob) -> Shard:
        """Record how a batch ended. One that failed because too much was enqueued is created again later."""
        self._poll_timer.reset()
        why = reasons(job.errors)
        if job.state == "failed" and not job.has_answers and may_be_created_later(job.errors):
            shard = self._advance(shard, step="create", batch_id=None, former=(*shard.former, job.id))
            return await self._submission.wait_for_queue(shard, f"batch {job.id} failed: {why}")
        if why:
            log.warning("batch %s: the service says: %s", job.id, why)
        log.info(
            "batch %s ended: %s, %s answered and %s failed of %d lines",
            *(job.id, job.word, *("?" if n is None else n for n in (job.completed, job.failed)), shard.requests),
        )
        return self._advance(
            shard,
            step="download",
            ended=job.state,
            reason=why,
            output_file_id=job.output_file_id,
            error_file_id=job.error_file_id,
            emulated=self._api(shard).is_emulated,
        )

    async def _download(self, shard: Shard) -> Shard:
        try:
            await self._downloads.fetch(shard)
        except Undecided:
            await self._reconciler.write_rows(shard, lambda _: False)  # of what is here already
            self._advance(shard, step="poll")
            raise
        return self._advance(shard, step="reconcile")

    async def _reconcile(self, shard: Shard) -> Shard:
        """Write the rows. While lines are missing that the service counts, look at the batch and its files again."""
        result = await self._reconciler.write_rows(shard, partial(self._downloads.settles, shard))
        if not result.is_settled:
            shard = self._advance(shard, step="poll", answered=result.answered)
            await self._downloads.wait_to_fetch_again(shard, result.missing)
            return shard
        await self._reconciler.charge(result)
        self._ledger.write_leftovers(shard.number, result.leftovers)
        if result.leftovers:
            log.info("batch %s: %d of %d requests got no answer", shard.batch_id, len(result.leftovers), shard.requests)
        self._reconciler.mark_leftovers(result.leftovers)
        ids = (shard.input_file_id, shard.output_file_id, shard.error_file_id)
        kept, missing = tuple(filter(None, dict.fromkeys(ids))), result.missing.lines
        collected = self._advance(
            shard, step="delete", answered=result.answered, kept_files=kept, missing=missing, reserved=None
        )
        self._reconciler.release_budget(shard)
        return collected

    async def _delete(self, shard: Shard) -> Shard:
        if shard.missing:
            log.warning("shard %d: %d lines are missing; its files stay at the service", shard.number, shard.missing)
        if shard.missing or not self._policy.batch.delete_files:
            return self._advance(shard, step="closed")
        deleted = await self._remote_files.delete(shard, shard.kept_files)
        return self._advance(
            shard, step="closed", kept_files=() if deleted == len(shard.kept_files) else shard.kept_files
        )

    async def drop(self, shard: Shard, reason: str) -> Shard:
        """Close a shard without collecting it; its requests count as never submitted. Raises RunStopped and OSError."""
        await self._reconciler.withdraw(shard, was_sent=shard.step not in UNSENT_STEPS)
        if shard.input_file_id is not None and self._policy.batch.delete_files:
            await self._remote_files.delete(shard, (shard.input_file_id,))
        closed = self._ledger.drop(shard, reason)
        self._reconciler.release_budget(shard)
        return closed

    def _advance(self, shard: Shard, **changes: Any) -> Shard:
        return self._ledger.advance(shard, **changes)
