"""Requests that are ready to be asked, for those services that may ask them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from runner.core import Drained, cancel_waiters
from runner.types import JudgeRequest, RequestResult, Usage

MAX_QUEUED_PER_BACKEND = 1000
"""So many requests at most wait for one service while another has nothing to do."""


class QueuedRequest(msgspec.Struct):
    """One request on its way to its row: what it took so far, wherever it was asked.

    Attributes:
        request: what is asked.
        body: what is sent, which differs when it is asked again.
        reasks_left: how often it may still be asked again.
        last_result: the last answer, though without a readable verdict.
        attempts: calls made.
        counted_failures: failures that may count as attempts: the outage stamp of each, and whether the request may
            be its cause.
        failures: failures in a row.
        usage: tokens of all attempts.
        latency_s: of the last attempt.
    """

    request: JudgeRequest
    body: bytes
    reasks_left: int
    last_result: RequestResult | None = None
    attempts: int = 0
    counted_failures: list[tuple[int, bool]] = []
    failures: int = 0
    usage: Usage = Usage()
    latency_s: float | None = None

    def reset_failures(self) -> None:
        """Forget the failures: a new body, or another service."""
        self.counted_failures, self.failures = [], 0


class RequestQueue:
    """Errands by the services that may go on them; services are known by their number.

    Attributes:
        exhausted: whether the dataset has no more.

    Args:
        eligible: for each variant, who may ask it.
        services: how many there are.
    """

    def __init__(self, eligible: Sequence[tuple[int, ...]], services: int) -> None:
        self.exhausted = False
        self.eligible = tuple(eligible)
        queues: dict[frozenset[int], deque[QueuedRequest]] = {frozenset(way): deque() for way in eligible}
        self._queue_of = tuple(queues[frozenset(way)] for way in eligible)
        narrow_first = sorted(queues, key=len)
        self._queues = tuple(tuple(queues[way] for way in narrow_first if number in way) for number in range(services))
        self._all = tuple(queues.values())
        self._waiting: list[asyncio.Future[None]] = []
        self._drained = False

    @property
    def is_empty(self) -> bool:
        """Whether nobody has anything to take."""
        return not any(self._all)

    @property
    def is_full(self) -> bool:
        """Whether so much waits for some service that no more should be made."""
        return max(map(len, self._all)) >= MAX_QUEUED_PER_BACKEND

    def put(self, errand: QueuedRequest) -> None:
        """Add one."""
        self._queue_of[errand.request.variant].append(errand)

    def requeue(self, errand: QueuedRequest) -> None:
        """Add one that was taken before; it is the next."""
        self._queue_of[errand.request.variant].appendleft(errand)
        self._wake()

    def take(self, service: int) -> QueuedRequest | None:
        """The next one for a service; None where there is none just now."""
        for queue in self._queues[service]:
            if queue:
                errand = queue.popleft()
                if self._waiting:
                    self._wake()
                return errand
        return None

    async def wait_for_change(self) -> None:
        """Wait until somebody took one or put one back, or there is no more; raises Drained when the lane ends."""
        if self._drained:
            raise Drained
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def close(self) -> None:
        """The dataset has no more."""
        self.exhausted = True
        self._wake()

    def drain(self) -> None:
        """Send everybody who waits home."""
        self._drained = True
        cancel_waiters(self._waiting)
        self._waiting.clear()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


HasAlternative = Callable[[int], bool]
"""Whether another service is there for the requests of a variant."""
