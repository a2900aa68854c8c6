"""Finds requests that a service will never admit: each is larger than the whole quota, but its 429 does not say so.

Such a request gets nothing but 429s while others are answered. It is put off until nothing else is left. If it still
gets 429s after the service has had nothing else to do for minutes, it is given up.
"""

from __future__ import annotations

import asyncio

from runner.lanes.online.request_queue import QueuedRequest

# 429s with answers between after which a request is put off to the end, so that a few such requests do not occupy all
# workers. A busy quota rarely refuses one request this often, and a request loses nothing by being sent last.
TRIES_BEFORE_LAST = 8
MAX_PUT_OFF = 1000

# Quotas are per minute. After five minutes in which nothing else was sent, a quota that others use too has had room.
QUIET_SECONDS = 300.0
MIN_TRIES = 3


class ThrottleWatch:
    """Counts answers and 429s of all services.

    Attributes:
        answered: how many requests were answered.

    Args:
        patience: the YAML's `online.retry.patience`: half of it is enough quiet.
    """

    def __init__(self, patience: float) -> None:
        self.answered = 0
        self._quiet_needed = min(QUIET_SECONDS, patience / 2)
        self._quiet_since = 0.0
        self._answered_then = -1
        self._put_off: list[QueuedRequest] = []

    def on_throttle(self, queued: QueuedRequest, answered_before: int) -> None:
        """Note a 429.

        Args:
            queued: the request.
            answered_before: the value of `answered` when it was sent.
        """
        if queued.throttles == 0:
            queued.answered_before = answered_before
        queued.throttles += 1
        if self.answered != self._answered_then:
            self._answered_then = self.answered
            self._quiet_since = asyncio.get_running_loop().time()

    def put_off(self, queued: QueuedRequest) -> bool:
        """Keep a request until nothing else is left, if others are answered and it is not; returns True if it is."""
        if queued.is_last or queued.throttles < TRIES_BEFORE_LAST or not self._is_passed_over(queued):
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
        """Return True if a request will never be admitted, given that nothing else is left to send."""
        quiet = asyncio.get_running_loop().time() - self._quiet_since
        return queued.throttles >= MIN_TRIES and self._is_passed_over(queued) and quiet >= self._quiet_needed

    def _is_passed_over(self, queued: QueuedRequest) -> bool:
        return self.answered > queued.answered_before
