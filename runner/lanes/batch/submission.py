"""The steps of a shard until its batch is known to exist: upload, create, confirm."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from runner.core import Drained, DrainSignal
from runner.errors import BadReply, Fatal, NoBatchApi, Refused, RunStopped, ServiceError
from runner.lanes.batch import listing
from runner.lanes.batch.api import NO_SUCH_ROUTE_STATUSES, BatchApi
from runner.lanes.batch.job_status import BatchJob
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.listing import Finding, find, witnesses
from runner.lanes.batch.outcomes import Detached, Undecided
from runner.lanes.batch.policy import BatchPolicy
from runner.lanes.batch.poll_timer import PollTimer
from runner.lanes.batch.refusals import file_not_ready, queue_full, storage_full
from runner.lanes.batch.remote_files import RemoteFiles
from runner.lanes.batch.replies import Unreadable, UploadedFile

log = logging.getLogger(__name__)

# The first and the longest pause between two lists in which a batch is searched, in seconds, and the growth.
LOOK_FIRST_SECONDS, LOOK_CEILING_SECONDS, PAUSE_GROWTH = 5.0, 60.0, 1.5

# Lists without a batch before its absence counts, however long ago it was created.
MIN_LOOKS = 2

# How long an uploaded file may take until it can be used. Microsoft's example for Azure looks every 15 s and says that
# it takes longer the larger the file is; ours have 10 MB.
FILE_PATIENCE_SECONDS = 1800.0

# The longest pause after a refusal because too much is enqueued, in polls at the longest interval.
MAX_QUEUE_PAUSE_POLLS = 15

# Batches whose creation was answered by something that cannot be read, before no more are created.
MAX_UNREADABLE_CREATIONS = 2

# Listed batches whose files are looked at, to find out if they are ours.
MAX_SUSPECTS = 5


class Submission:
    """Uploads shards and creates their batches.

    Args:
        ledger: records each step.
        api: returns the API of the service that has a shard.
        remote_files: frees storage if an account is full.
        poll_timer: is reset when a batch is created.
        policy: the configuration and run options for batches.
        drain: set when the lane is drained.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: Callable[[Shard], BatchApi],
        remote_files: RemoteFiles,
        poll_timer: PollTimer,
        policy: BatchPolicy,
        drain: DrainSignal,
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._remote_files = remote_files
        self._poll_timer = poll_timer
        self._policy = policy
        self._drain = drain
        self._since: dict[tuple[str, int], float] = {}
        self._waits: Counter[tuple[str, int]] = Counter()

    async def upload(self, shard: Shard) -> Shard:
        """Upload the file, and wait until the service has processed it."""
        try:
            file = await self._upload_file(shard)
        except Unreadable as error:
            raise Undecided(f"POST {shard.base_url}/files: {error}. Nothing was paid for it") from error
        except ServiceError as error:
            return self._fail(shard, f"the upload was refused: {error}")
        return await self._processed(self._ledger.advance(shard, step="create", input_file_id=file.id), file)

    async def _upload_file(self, shard: Shard) -> UploadedFile:
        try:
            return await self._api(shard).upload(self._ledger.requests(shard.number), shard.upload_name)
        except ServiceError as error:
            if not storage_full(error):
                raise
            return await self._remote_files.free_and_upload(shard, error)

    async def create(self, shard: Shard) -> Shard:
        """Create the batch. The step `confirm` is on the disk before the call can have an effect."""
        await self._await_readable_replies(shard)
        shard = self._ledger.advance(shard, step="confirm", sent_at=time.time(), unreadable=None)
        try:
            job = await self._api(shard).create(shard.input_file_id or "", shard.mark)
        except (NoBatchApi, RunStopped, Drained):
            self._ledger.advance(shard, step="create")  # certainly nothing was created
            raise
        except ServiceError as error:
            return await self._not_created(shard, error)
        return self._created(shard, job)

    async def _not_created(self, shard: Shard, error: ServiceError) -> Shard:
        """Continue after a creation without a usable reply."""
        if queue_full(error):
            return await self.wait_for_queue(self._ledger.advance(shard, step="create"), str(error))
        if file_not_ready(error):
            shard = self._ledger.advance(shard, step="create")
            await self._wait_for_file(shard, str(error))
            return await self._processed(shard, await self._api(shard).file(shard.input_file_id or ""))
        if isinstance(error, Fatal | Refused):
            return self._fail(shard, f"the batch was refused: {error}")
        log.warning(
            "shard %d: no usable answer to the creation of its batch (%s); searching the service's list",
            shard.number,
            error,
        )
        return self._ledger.advance(shard, unreadable=str(error)) if isinstance(error, BadReply) else shard

    def _created(self, shard: Shard, job: BatchJob) -> Shard:
        self._poll_timer.reset()
        now = time.time()
        created_at = min(shard.sent_at or now, now)
        return self._ledger.advance(
            shard,
            step="poll",
            batch_id=job.id,
            created_at=created_at,
            service_time=job.created_at or self._api(shard).service_time,
            word=job.word,
            finished=0,
            unreadable=None,
        )

    async def wait_for_queue(self, shard: Shard, reason: str) -> Shard:
        """Wait before a batch is created again that was refused, or that failed, because too much is enqueued.

        Raises Undecided if that was so for a whole window: then waiting does not help.
        """
        elapsed, count = self._waiting("queue", shard)
        if elapsed > self._policy.batch.window:
            raise Undecided(
                f"for {elapsed / 3600:.0f} h the service has refused its batch because too much is enqueued: {reason}. "
                "Nothing was paid for it; smaller shards (batch.shard_lines, batch.shard_mb) may fit"
            )
        pause = self._policy.batch.poll.ceiling * min(2**count, MAX_QUEUE_PAUSE_POLLS)
        log.warning("shard %d: %s; its batch is created again, in %.0f s", shard.number, reason, pause)
        if self._policy.detach:
            raise Detached
        if not self._policy.cancel:
            await self._drain.sleep(pause)
        return shard

    async def _processed(self, shard: Shard, file: UploadedFile | None) -> Shard:
        """Wait while the service says that it is processing a file."""
        while file is not None and file.state == "waiting":
            await self._wait_for_file(shard, f"its status is {file.word}")
            file = await self._api(shard).file(shard.input_file_id or "")
        if file is not None and file.state == "failed":
            return self._fail(shard, f"the service could not use its file: {file.word} {file.reason}".rstrip())
        return shard

    async def _wait_for_file(self, shard: Shard, reason: str) -> None:
        elapsed, count = self._waiting("file", shard)
        if elapsed > FILE_PATIENCE_SECONDS:
            raise Undecided(
                f"its file {shard.input_file_id} could not be used for {elapsed / 60:.0f} min: {reason}. "
                "Nothing was paid for it"
            )
        if not count:
            log.info("shard %d: waiting for its file %s: %s", shard.number, shard.input_file_id, reason)
        poll = self._policy.batch.poll
        await self._drain.sleep(min(poll.ceiling, poll.first * PAUSE_GROWTH**count))

    def _waiting(self, what: str, shard: Shard) -> tuple[float, int]:
        """Return the seconds since a shard first waited for something, and how often it has waited before."""
        key, now = (what, shard.number), asyncio.get_running_loop().time()
        self._waits[key] += 1
        return now - self._since.setdefault(key, now), self._waits[key] - 1

    async def _await_readable_replies(self, shard: Shard) -> None:
        """Wait while it is open what became of batches whose creation was answered by something unreadable.

        Raises RunStopped if that cannot be found out: more batches would be paid for, and not be found either.
        """
        while True:
            unclear = [
                other
                for other in self._ledger.open_shards
                if other.unreadable and other.step == "confirm" and other.endpoint_key == shard.endpoint_key
            ]
            if len(unclear) < MAX_UNREADABLE_CREATIONS:
                return
            if all(other.stuck for other in unclear):
                raise _stopped(unclear)
            await self._drain.sleep(LOOK_FIRST_SECONDS)

    async def confirm(self, shard: Shard) -> Shard:
        """Find out if the last create took effect: search the list until the batch is in it, or cannot be any more.

        Raises Undecided if the list proves nothing.
        """
        clock, looks, pause = asyncio.get_running_loop().time, 0, LOOK_FIRST_SECONDS
        start = clock()
        while True:
            finding = await self._look(shard)
            if finding.batch is not None:
                log.info("shard %d: its batch is %s", shard.number, finding.batch.job.id)
                return self._created(shard, finding.batch.job)
            looks += 1
            waited = clock() - start
            age = time.time() - shard.sent_at if shard.sent_at else waited
            if looks >= MIN_LOOKS:
                if age >= finding.proven_after:
                    log.info("shard %d: no batch was created %.0f s ago; it is created now", shard.number, age)
                    return self._ledger.advance(shard, step="create", unreadable=None)
                self._give_up(shard, finding, age, waited)
            pause = min(pause, max(self._policy.retry.patience - waited, 0.0))
            await self._drain.sleep(pause)
            pause = min(max(pause, LOOK_FIRST_SECONDS) * PAUSE_GROWTH, LOOK_CEILING_SECONDS)

    def _give_up(self, shard: Shard, finding: Finding, age: float, waited: float) -> None:
        """Raise Undecided, or Detached, if there is no use in searching any longer."""
        if self._policy.detach and age < listing.ABSENT_ALONE_SECONDS:
            raise Detached
        impatient = self._policy.resubmit_unknown or self._policy.cancel
        is_old = age >= listing.ABSENT_ALONE_SECONDS and waited >= listing.ABSENT_SECONDS
        if not (impatient or is_old or waited >= self._policy.retry.patience):
            return
        doubt = finding.doubt or (
            f"its list lacks it after {age:.0f} s, but a batch may be absent for longer; run the same command again "
            f"{finding.proven_after:.0f} s after the creation"
        )
        raise Undecided(f"{_unknown(shard)}: {doubt}{_seen(shard)}")

    async def _look(self, shard: Shard) -> Finding:
        try:
            found = await self._api(shard).listing()
        except ServiceError as error:
            cause = "the service lists no batches" if error.status in NO_SUCH_ROUTE_STATUSES else str(error)
            raise Undecided(f"{_unknown(shard)}: GET {shard.base_url}/batches: {cause}{_seen(shard)}") from error
        shards = [one for one in self._ledger.shards.values() if one.endpoint_key == shard.endpoint_key]
        recorded = {batch_id for one in shards for batch_id in (one.batch_id, *one.former) if batch_id}
        finding = find(shard, found, witnesses(self._ledger, shard), recorded)
        return await self._look_at_files(shard, finding) if finding.suspects and shard.mark else finding

    async def _look_at_files(self, shard: Shard, finding: Finding) -> Finding:
        """Find out by the names of their files if one of these batches is the shard's."""
        api = self._api(shard)
        suspects = finding.suspects[:MAX_SUSPECTS]
        names = [file and file.name for file in [await api.file(one.input_file_id or "") for one in suspects]]
        if shard.upload_name in names:
            return Finding(suspects[names.index(shard.upload_name)])
        own = await api.file(shard.input_file_id or "")
        if len(suspects) < len(finding.suspects) or own is None or own.name != shard.upload_name:
            return finding  # another name says nothing if the service does not keep them
        return finding._replace(suspects=tuple(one for one, name in zip(suspects, names, strict=True) if not name))

    def _fail(self, shard: Shard, reason: str) -> Shard:
        """Continue as after a failed batch: no request of the shard was answered."""
        log.warning("shard %d: %s", shard.number, reason)
        return self._ledger.advance(shard, step="reconcile", ended="failed", reason=reason)


def _unknown(shard: Shard) -> str:
    sent = datetime.fromtimestamp(shard.sent_at or 0, UTC).isoformat(timespec="seconds")
    return f"it cannot be known if a batch was created from file {shard.input_file_id} at {sent}"


def _seen(shard: Shard) -> str:
    return f". The reply to its creation was {shard.unreadable}" if shard.unreadable else ""


def _stopped(unclear: Sequence[Shard]) -> RunStopped:
    last = unclear[-1]
    return RunStopped(
        "undecided",
        f"the replies of POST {last.base_url}/batches to {len(unclear)} creations cannot be read, and neither can what "
        f"became of them; the last one: {last.unreadable}. No more batches are created, because they may be paid for. "
        "Check base_url and dialect of the service, and its console; --resubmit-unknown sends their requests again, "
        "and they may be paid for twice; router.mode: online needs no batches",
        exit_code=3,
    )
