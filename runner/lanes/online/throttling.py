"""What a 429 or a 503 is about: a moment with too many requests, or one request.

A request that is larger than the whole quota gets nothing but 429s while others are answered, and not every 429 says
so. It is put off until nothing else is left. If it still gets 429s after the service has had nothing else to do for
minutes, it is given up.

A service with a small queue answers 503 or 529 at once to what has no room in it. That is throttling, too. But a 503
may also be the fault of one request, or of a service that is down.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque

from runner.errors import Busy, Transient
from runner.lanes.online.request_queue import QueuedRequest

log = logging.getLogger(__name__)

# 429s with answers between after which a request is put off to the end, so that a few such requests do not occupy all
# workers. A busy quota rarely refuses one request this often, and a request loses nothing by being sent last.
TRIES_BEFORE_LAST = 8
MAX_PUT_OFF = 1000

# Quotas are per minute. After five minutes in which nothing else was sent, a quota that others use too has had room.
QUIET_SECONDS = 300.0
MIN_TRIES = 3

BUSY_STATUS = frozenset({503, 529})
# A queue that is full refuses several requests within this many; the fault of one request does not.
FULL_WITHIN_REQUESTS = 100


class FullnessWatch:
    """Tells whether a 503 or 529 means that the service has no room for as many requests at once.

    Args:
        service: the service's name.
        fixed_concurrency: how many requests it gets at once if that is not learned, else None.
        throttling: counts the answers.
    """

    def __init__(self, service: str, fixed_concurrency: int | None, throttling: ThrottleWatch) -> None:
        self._service = service
        self._throttling = throttling
        self._fixed_concurrency = fixed_concurrency
        self._refused: deque[tuple[QueuedRequest, int]] = deque(maxlen=2)  # the last two, of different requests

    def as_busy(self, error: Transient, queued: QueuedRequest, number: int, in_flight: int) -> Busy | None:
        """Return a failure as the throttling that it is, or None; the arguments are those of `is_full`.

        The first time, `run.log` says what helps if the concurrency is fixed.
        """
        if error.status not in BUSY_STATUS or not self.is_full(queued, number, in_flight):
            return None
        if self._fixed_concurrency is not None:
            log.warning(
                "the service '%s' refuses requests while it has others: %s. Fewer at once may help: service.limits."
                "concurrency is %d; without a number, it is learned",
                self._service,
                error,
                self._fixed_concurrency,
            )
            self._fixed_concurrency = None
        busy = Busy(str(error), status=error.status, retry_after=error.retry_after)
        busy.usage = error.usage
        return busy

    def is_full(self, queued: QueuedRequest, number: int, in_flight: int) -> bool:
        """Note a 503 or 529; returns True if it may be for want of room.

        It is if the service has other requests, and another one got the same a short while ago; or if this one was
        refused so before, and others have been answered since.

        Args:
            queued: the request.
            number: its number in the order of sending.
            in_flight: how many requests the service had, this one included.
        """
        others = [(other, sent) for other, sent in self._refused if other is not queued]
        self._refused.clear()
        self._refused.extend([*others[-1:], (queued, number)])
        is_one_of_several = any(number - sent <= FULL_WITHIN_REQUESTS for _, sent in others)
        return (in_flight > 1 and is_one_of_several) or self._throttling.is_passed_over(queued)


class ThrottleWatch:
    """Notes answers and 429s of all services.

    Args:
        patience: the YAML's `online.retry.patience`: half of it is enough quiet.
    """

    def __init__(self, patience: float) -> None:
        self._quiet_needed = min(QUIET_SECONDS, patience / 2)
        self._answered = 0
        self._newest_answered_at = -math.inf  # when the newest of the answered requests was sent
        self._answered_then = -1
        self._quiet_since = 0.0
        self._throttled_in_quiet: list[QueuedRequest] = []  # different ones; two are enough to know
        self._put_off: list[QueuedRequest] = []

    def on_answer(self, sent_at: float) -> None:
        """Note an answer to a request that was sent at this time of `time.perf_counter`."""
        self._answered += 1
        self._newest_answered_at = max(self._newest_answered_at, sent_at)

    def on_throttle(self, queued: QueuedRequest, now: float) -> None:
        """Note a 429 that came now, by `time.perf_counter`."""
        if queued.throttles == 0:
            queued.throttled_at = now
        queued.throttles += 1
        if self._answered != self._answered_then:
            self._answered_then = self._answered
            self._quiet_since = asyncio.get_running_loop().time()
            self._throttled_in_quiet.clear()
        if len(self._throttled_in_quiet) < 2 and all(other is not queued for other in self._throttled_in_quiet):
            self._throttled_in_quiet.append(queued)

    def put_off(self, queued: QueuedRequest) -> bool:
        """Keep a request until nothing else is left, if others are answered and it is not; returns True if it is."""
        if queued.is_last or queued.throttles < TRIES_BEFORE_LAST or not self.is_passed_over(queued):
            return False
        if len(self._put_off) >= MAX_PUT_OFF:
            return False
        queued.is_last = True
        self._put_off.append(queued)
        return True

    def take_put_off(self) -> list[QueuedRequest]:
        """Remove and return the requests that were put off."""
        put_off, self._put_off = self._put_off, []
        return put_off

    def is_hopeless(self, queued: QueuedRequest) -> bool:
        """Return True if a request will never be admitted, given that nothing else is left to send.

        If it was never passed over, the quota may have ended with the last answer. It did if several requests get
        nothing but 429s since then; a single one is more likely too large.
        """
        quiet = asyncio.get_running_loop().time() - self._quiet_since
        if queued.throttles < MIN_TRIES or quiet < self._quiet_needed:
            return False
        return self.is_passed_over(queued) or (self._answered > 0 and len(self._throttled_in_quiet) == 1)

    def is_passed_over(self, queued: QueuedRequest) -> bool:
        """Return True if a request was answered that was sent after the first of this one's throttles in a row."""
        return queued.throttles > 0 and self._newest_answered_at > queued.throttled_at
