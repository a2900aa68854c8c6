"""Whether a service answers at all: while nothing succeeds all workers pause, and one at a time goes out to look.

An outage must cost no sample its attempts. Failures are stamped with the number of successes before them; when a
streak of failures turns out to be an outage, every failure with its stamp is excused, those before it was noticed
included.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from runner.core import Drained, cancel_waiters
from runner.errors import ConnectFailed, RateLimited, Transient

OUTAGE_FAILURES = 5
"""So many failures in a row, none succeeding between them, are an outage."""

PROBE_DELAY_MIN_SECONDS = 1.0
"""Seconds. Before so many have passed without a success, 429s are no outage: a quota overdrawn sends them in a row."""

PROBE_DELAY_MAX_SECONDS = 30.0


class OutageDetector:
    """One service's health, shared by all that ask it.

    Args:
        patience: seconds without any success after which `on_lost` is called, and again after as many more.
        on_lost: told the last failure seen.
        on_resumed: told when an outage has ended.
    """

    def __init__(
        self,
        patience: float,
        on_lost: Callable[[Transient], None],
        on_resumed: Callable[[], None] = lambda: None,
    ) -> None:
        self.successes = 0
        self.outages: set[int] = set()
        self.paused = False
        self.last_error: Transient | None = None
        self._patience = patience
        self._on_lost = on_lost
        self._on_resumed = on_resumed
        self._failures_in_row = 0
        self._first_failure_at = 0.0
        self._probe_delay = PROBE_DELAY_MIN_SECONDS
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._lost_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._probe_due = False
        self._drained = False

    def on_success(self) -> None:
        """The service gave an answer (a refusal of one request is one): it is there."""
        self.successes += 1
        self._failures_in_row = 0
        if self.paused:
            self._resume()

    def on_failure(self, error: Transient) -> None:
        """A call failed for a cause of the service; pauses everybody when nothing succeeds any more."""
        self.last_error = error
        now = asyncio.get_running_loop().time()
        if self._failures_in_row == 0:
            self._first_failure_at = now
        self._failures_in_row += 1
        if self.paused:
            self._schedule_probe(error.retry_after or 0.0)
        elif self._failures_in_row >= OUTAGE_FAILURES and not (
            isinstance(error, RateLimited) and now - self._first_failure_at < PROBE_DELAY_MIN_SECONDS
        ):
            self._pause(error, now)

    def is_excused(self, stamp: int) -> bool:
        """Whether a failure that came after `stamp` successes was part of an outage."""
        return stamp in self.outages

    async def wait_until_up(self) -> bool:
        """Wait for the end of an outage, or to be the one who looks; whether it is that. In good weather pass at once.

        Who was roused is told False in the midst of an outage. Raises Drained when the lane ends meanwhile.
        """
        if self._drained:
            raise Drained
        if not self.paused or self._probe_due:
            looks, self._probe_due = self._probe_due, False
            return looks
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def wake_waiters(self) -> None:
        """Have everybody who waits see whether there is something else to do."""
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(False)

    def drain(self) -> None:
        """Send everybody who waits home and let nobody pass any more."""
        self._drained = True
        self._cancel_timers()
        cancel_waiters(self._waiting)
        self._waiting.clear()

    def _pause(self, error: Transient, now: float) -> None:
        self.paused = True
        self.outages.add(self.successes)
        self._probe_delay = PROBE_DELAY_MIN_SECONDS
        left = max(0.0, self._patience - (now - self._first_failure_at))
        self._lost_timer = asyncio.get_running_loop().call_later(left, self._report_lost)
        self._schedule_probe(error.retry_after or 0.0)

    def _resume(self) -> None:
        self.paused = False
        self._on_resumed()
        self._probe_due = False
        self._cancel_timers()
        self.wake_waiters()

    def _report_lost(self) -> None:
        if self.paused and self.last_error is not None:
            self._lost_timer = asyncio.get_running_loop().call_later(self._patience, self._report_lost)
            self._on_lost(self.last_error)

    def _schedule_probe(self, asked: float) -> None:
        """Plan the next probe, unless one is planned; not before the service asked for, and rarer each time."""
        if self._probe_timer is None and not self._drained:
            wait = max(self._probe_delay, min(asked, self._patience))
            self._probe_timer = asyncio.get_running_loop().call_later(wait, self._send_probe)
            self._probe_delay = min(PROBE_DELAY_MAX_SECONDS, self._probe_delay * 2)

    def _send_probe(self) -> None:
        self._probe_timer = None
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._probe_due = True

    def _cancel_timers(self) -> None:
        for timer in (self._lost_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._lost_timer = self._probe_timer = None


def may_be_caused_by_request(error: Transient) -> bool:
    """Whether this failure can come from the request itself, as a crash of the server on one text does."""
    return not (isinstance(error, ConnectFailed | RateLimited) or error.status == 503)
