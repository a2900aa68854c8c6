"""Prepared requests, queued by the set of backends that may serve them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from runner.core import WaitQueue
from runner.types import JudgeRequest, RequestResult, Usage

# No more requests are prepared while this many wait for one backend, although another backend has nothing to do.
MAX_QUEUED_PER_BACKEND = 1000

HasAlternative = Callable[[int], bool]
"""Returns True if another available backend may serve a variant."""


class QueuedRequest(msgspec.Struct):
    """One request on its way to its row, with what all attempts on all backends have used so far.

    Attributes:
        request: the request.
        body: what is sent; it differs from the request's own body when it is sent again after an unreadable verdict.
        reasks_left: how often it may still be sent again after an unreadable verdict.
        last_result: the last answer, whose verdict could not be read, or None.
        attempts: calls made.
        counted_failures: failures that may count as attempts: the number of the last request that had been sent when
            the failure came, and whether the request itself may be its cause.
        failures: consecutive failures, which decide the backoff.
        throttles: consecutive 429s, at all services.
        throttled_at: when the first of these came, by `time.perf_counter`.
        is_last: True if it is sent only because nothing else is left.
        refusals: how often it was refused for a reason that no text can cause.
        usage: tokens of all attempts.
        latency_s: seconds of the last attempt.
    """

    request: JudgeRequest
    body: bytes
    reasks_left: int
    last_result: RequestResult | None = None
    attempts: int = 0
    counted_failures: list[tuple[int, bool]] = []
    failures: int = 0
    throttles: int = 0
    throttled_at: float = 0.0
    is_last: bool = False
    refusals: int = 0
    usage: Usage = Usage()
    latency_s: float | None = None

    def reset_failures(self) -> None:
        """Forget the failures: the body is new, or another backend takes over."""
        self.counted_failures, self.failures = [], 0


class RequestQueue:
    """Prepared requests by the backends that may serve them. Backends are known by their numbers.

    Attributes:
        exhausted: True once the dataset has no more requests.
        eligible: for each variant, the backends that may serve it.

    Args:
        eligible: for each variant, the backends that may serve it.
        backends: how many backends there are.
    """

    def __init__(self, eligible: Sequence[tuple[int, ...]], backends: int) -> None:
        self.exhausted = False
        self.eligible = tuple(eligible)
        queues: dict[frozenset[int], deque[QueuedRequest]] = {frozenset(numbers): deque() for numbers in eligible}
        self._queue_of = tuple(queues[frozenset(numbers)] for numbers in eligible)
        narrow_first = sorted(queues, key=len)
        self._queues = tuple(
            tuple(queues[numbers] for numbers in narrow_first if b in numbers) for b in range(backends)
        )
        self._all = tuple(queues.values())
        self._changes: WaitQueue[None, None] = WaitQueue()

    @property
    def is_empty(self) -> bool:
        """True if no backend has anything to take."""
        return not any(self._all)

    @property
    def is_full(self) -> bool:
        """True if so many requests wait for some backend that no more should be prepared."""
        return max(map(len, self._all)) >= MAX_QUEUED_PER_BACKEND

    def put(self, queued: QueuedRequest) -> None:
        """Add a request at the end."""
        self._queue_of[queued.request.variant].append(queued)

    def requeue(self, queued: QueuedRequest) -> None:
        """Add a request that was taken before; it is the next one."""
        self._queue_of[queued.request.variant].appendleft(queued)
        self._changes.wake_all(None)

    def take(self, backend: int) -> QueuedRequest | None:
        """Remove and return the next request for a backend, or None if there is none now."""
        for queue in self._queues[backend]:
            if queue:
                queued = queue.popleft()
                if self._changes:
                    self._changes.wake_all(None)
                return queued
        return None

    async def wait_for_change(self) -> None:
        """Wait until a request is taken or requeued, or the dataset ends; raises Drained when the lane is drained."""
        await self._changes.wait(None)

    def close(self) -> None:
        """Note that the dataset has no more requests."""
        self.exhausted = True
        self._changes.wake_all(None)

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._changes.close()
