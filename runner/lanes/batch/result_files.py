"""Bring the result files of a shard to this disk: look again for what is not there yet, and for what is missing in it.

A service can say that a batch has ended before its files can be read, and can hand out fewer lines than it counts.
Neither means that a request was not answered, so neither lets it be sent, and paid for, again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from runner.core import DrainSignal
from runner.errors import ServiceError
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.missing import MissingLines
from runner.lanes.batch.outcomes import Detached, Undecided
from runner.lanes.batch.policy import BatchPolicy
from runner.lanes.batch.poll_timer import PollTimer

log = logging.getLogger(__name__)

# Seconds for which something is looked for that a service does not show: a batch, the names of its files, or a file. In
# the report of anthropics/anthropic-sdk-python#1432, each 404 on a batch or its results was gone at the next look, 40 s
# later, and the trouble had passed within 16 minutes.
LOOK_AGAIN_SECONDS = 300.0

# Looks, at the least, before something counts as absent.
MIN_LOOKS = 3

# What services answer about a file that is not there (yet). Some call an id that they do not know a bad request.
NOT_THERE_STATUSES = frozenset({400, 404, 410})

# Downloads of files that are short, before they count as all that the service has.
MAX_DOWNLOADS = 3

# A result file of more bytes for each of its requests, on average, is no result file.
MAX_BYTES_PER_REQUEST = 1 << 20

_BUFFER_BYTES = 1 << 20


class Absence:
    """How long something is absent at a service, look after look."""

    def __init__(self) -> None:
        self._looks = 0
        self._since = 0.0

    def note(self, is_absent: bool) -> None:
        """Record a look."""
        if is_absent and not self._looks:
            self._since = asyncio.get_running_loop().time()
        self._looks = self._looks + 1 if is_absent else 0

    @property
    def is_repeated(self) -> bool:
        """True if it was absent at several looks in a row."""
        return self._looks >= MIN_LOOKS

    @property
    def is_lasting(self) -> bool:
        """True if it was absent at several looks in a row and for minutes: it does not only lag behind."""
        return self.is_repeated and asyncio.get_running_loop().time() - self._since >= LOOK_AGAIN_SECONDS


class ResultDownloads:
    """Downloads the output and error files of shards.

    Args:
        ledger: says where the files are put.
        api: returns the API of the service that has a shard.
        policy: the configuration and run options for batches.
        drain: ends the waits.
        is_overdue: returns True if a shard's batch has passed its window.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: Callable[[Shard], BatchApi],
        policy: BatchPolicy,
        drain: DrainSignal,
        is_overdue: Callable[[Shard], bool],
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._policy = policy
        self._drain = drain
        self._is_overdue = is_overdue
        self._downloads: Counter[int] = Counter()

    async def fetch(self, shard: Shard) -> None:
        """Download both files of a shard. The error file alone may be missing: its requests get no line then.

        Raises Undecided if the service does not hand them out, Detached, Drained, RunStopped and OSError.
        """
        number = shard.number
        self._downloads[number] += 1
        output, errors = self._ledger.output(number), self._ledger.errors(number)
        if shard.output_file_id is not None:
            await self._fetch(shard, shard.output_file_id, output, LOOK_AGAIN_SECONDS)
        if shard.error_file_id is not None:
            is_needed = self._downloads[number] == 1 and _lines(output) < shard.requests
            try:
                await self._fetch(shard, shard.error_file_id, errors, LOOK_AGAIN_SECONDS if is_needed else 0.0)
            except Undecided as why:
                if shard.output_file_id is None:
                    raise
                log.warning("shard %d: %s", number, why)

    def settles(self, shard: Shard, missing: MissingLines) -> bool:
        """Return True if requests without a line count as unanswered now, so that they may be sent again.

        They do if the service counts no more lines than it handed out. If it counts more, they do after several
        downloads, and only if all that is missing are failures: those cost nothing.
        """
        return not missing.lines or (self._is_last(shard) and not missing.answers)

    async def wait_to_fetch_again(self, shard: Shard, missing: MissingLines) -> None:
        """Wait before the files of a shard are downloaded again.

        Raises Undecided if that was done often enough, Detached and Drained.
        """
        if missing.lines == shard.requests:
            what = (
                f"its batch {shard.batch_id} has ended ({shard.word}), but its files have no readable line "
                "about any of its requests"
            )
        else:
            what = (
                f"the service counts {shard.finished:,} lines in the results of its batch {shard.batch_id}, but "
                f"{missing.lines:,} of them are not in its files"
            )
        if self._is_last(shard):
            raise Undecided(f"{what}, downloaded {MAX_DOWNLOADS} times; the answers that are there have their rows")
        log.warning("shard %d: %s; downloading them again", shard.number, what)
        await self._pause(shard, self._policy.batch.poll.ceiling)

    def _is_last(self, shard: Shard) -> bool:
        return self._downloads[shard.number] >= MAX_DOWNLOADS

    async def _fetch(self, shard: Shard, file_id: str, to: Path, seconds: float) -> None:
        """Download one file; look for it again for a number of seconds if it is not there."""
        loop, poll = asyncio.get_running_loop(), self._policy.batch.poll
        start, wait, is_first = loop.time(), poll.first, True
        while True:
            try:
                return await self._api(shard).download(file_id, to, shard.requests * MAX_BYTES_PER_REQUEST)
            except ServiceError as error:
                looked = loop.time() - start
                if error.status not in NOT_THERE_STATUSES or looked >= seconds:
                    how_long = "" if is_first else f", {looked:.0f} s after the first look"
                    raise Undecided(
                        f"results of its batch {shard.batch_id} cannot be downloaded: {error}{how_long}"
                    ) from error
                if is_first:
                    log.warning("batch %s: its file %s is not there yet: %s", shard.batch_id, file_id, error)
                is_first = False
            await self._pause(shard, wait)
            wait = min(poll.ceiling, wait * PollTimer.GROWTH)

    async def _pause(self, shard: Shard, seconds: float) -> None:
        """Wait. A run with `--detach` leaves the shard to a later run instead, until the batch's window ends."""
        if self._policy.detach and not self._is_overdue(shard):
            raise Detached
        await self._drain.sleep(seconds)


def _lines(path: Path) -> int:
    """Return the number of lines of a file; 0 if it does not exist."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_BUFFER_BYTES), b""))
