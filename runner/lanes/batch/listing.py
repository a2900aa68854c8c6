"""What a service's list of batches shows, and what it proves about a creation whose reply was lost. Pure functions.

A batch that is not in the list may exist all the same: lists lag behind (anthropics/anthropic-sdk-python#1432: 40 s and
more after the creation), leave batches out (BerriAI/litellm#39810), or name other files than the caller gave
(BerriAI/litellm#36048, #36049, #23194). So absence counts only if the list shows, with their own files, the batches
that are known to exist, and only after a time.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from runner.lanes.batch.job_status import BatchJob
from runner.lanes.batch.ledger import Ledger, Shard

# The longest gaps of anthropic-sdk-python#1432 are 40 s and 2 min after the creation: more than twice the longer one.
ABSENT_SECONDS = 300.0

# If no other batch shows how the list behaves. All gaps of that report are within 15 minutes.
ABSENT_ALONE_SECONDS = 1200.0

# How much earlier than our clock's the service's clock may say that it created a batch.
CLOCK_SKEW_SECONDS = 600.0

# Other batches of the run that are looked for in the list.
MAX_WITNESSES = 3

# What begins the mark of each shard of each run (`Shard.mark`).
MARK_PREFIX = "judge-runner-"


class ListedBatch(msgspec.Struct, frozen=True):
    """A batch as the list shows it.

    Attributes:
        input_file_id: None if the list does not name it.
        created_at: by the service's clock, in seconds since 1970, if the list says so.
        total: its number of lines, if the service has counted them.
        labels: the values of its metadata.
    """

    job: BatchJob
    input_file_id: str | None = None
    created_at: float | None = None
    total: int | None = None
    labels: frozenset[str] = frozenset()


class Listing(msgspec.Struct, frozen=True):
    """The list of a service's batches, newest first; `is_whole` is False if it ends before its last page."""

    batches: tuple[ListedBatch, ...]
    is_whole: bool = True


class Witness(NamedTuple):
    """A batch of this run that is known to exist, and the file that it was created from."""

    batch_id: str
    input_file_id: str


class Finding(NamedTuple):
    """What a list says about a creation.

    Attributes:
        batch: the batch that was created, if it is in the list.
        suspects: batches that may be the one, though the list does not say so.
        flaw: why the list proves nothing, whatever is in it; empty if it has no flaw.
        is_witnessed: True if the list shows other batches that are known to exist.
    """

    batch: ListedBatch | None = None
    suspects: tuple[ListedBatch, ...] = ()
    flaw: str = ""
    is_witnessed: bool = False

    @property
    def doubt(self) -> str:
        """Why absence from this list does not prove that nothing was created; empty if it does, after a time."""
        if self.flaw or not self.suspects:
            return self.flaw
        ids = ", ".join(one.job.id for one in self.suspects[:MAX_WITNESSES])
        return f"its list has batches of about that time from files that this run did not upload ({ids})"

    @property
    def proven_after(self) -> float:
        """Seconds after the creation at which absence from this list counts."""
        if self.doubt:
            return math.inf
        return ABSENT_SECONDS if self.is_witnessed else ABSENT_ALONE_SECONDS


def new_mark() -> str:
    """Return a new mark for a shard: it names the shard's file and its batches at the service."""
    return MARK_PREFIX + secrets.token_hex(8)


def witnesses(ledger: Ledger, shard: Shard) -> list[Witness]:
    """Return the newest batches that this run knows at the shard's service: open ones if there are any."""
    others = [
        other
        for other in ledger.shards.values()
        if other.endpoint_key == shard.endpoint_key and other.number != shard.number and other.input_file_id
    ]
    running = [other for other in others if other.batch_id and not other.is_collected]
    known = sorted(running or (other for other in others if other.batch_id), key=lambda one: -(one.created_at or 0.0))
    earlier = [Witness(batch_id, shard.input_file_id or "") for batch_id in shard.former[-1:]]
    return earlier + [Witness(one.batch_id or "", one.input_file_id or "") for one in known[:MAX_WITNESSES]]


def find(shard: Shard, listing: Listing, known: Sequence[Witness], of_this_run: Collection[str]) -> Finding:
    """Return what a list says about the last creation of a shard's batch.

    Args:
        known: batches that a list must show, or it proves nothing.
        of_this_run: ids of all batches that the run has recorded at this service.
    """
    strangers = [one for one in listing.batches if one.job.id not in of_this_run]
    ours = [one for one in strangers if one.input_file_id == shard.input_file_id or shard.mark in one.labels]
    if ours:
        return Finding(ours[-1])
    flaw = _flaw(listing, known)
    trusts_files = bool(known) and not flaw
    suspects = tuple(one for one in strangers if _may_be(one, shard) and not (trusts_files and one.input_file_id))
    return Finding(None, suspects, flaw, bool(known))


def _flaw(listing: Listing, known: Iterable[Witness]) -> str:
    if not listing.is_whole:
        return "its list ends before its last page"
    if not listing.batches:
        return "its list is empty, so it has not shown that it shows batches at all"
    shown = {one.job.id: one.input_file_id for one in listing.batches}
    for batch_id, file_id in known:
        if batch_id not in shown:
            return f"its list lacks the batch {batch_id} of this run, which exists"
        if shown[batch_id] != file_id:
            return f"its list says that batch {batch_id} has the input file {shown[batch_id]}, but it has {file_id}"
    return ""


def _may_be(one: ListedBatch, shard: Shard) -> bool:
    """Return True unless its time, its number of lines or the mark of another shard says that it is another batch."""
    if one.created_at is not None and shard.sent_at and one.created_at < shard.sent_at - CLOCK_SKEW_SECONDS:
        return False
    if one.total and one.total != shard.requests:
        return False
    return not any(label.startswith(MARK_PREFIX) for label in one.labels)
