"""Detects that a service is down, pauses its workers, and sends one probe at a time until it answers again.

An outage must not use up the attempts of any sample. Requests are numbered as they are sent. A failure is undecided
until a request that was sent after it is answered: that proves that the service was up. Answers to requests that were
sent before it prove nothing, because a service that shuts down still answers those. Failures that are undecided when an
outage is detected, and all failures until its end, do not count.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress

from runner.core import WaitQueue
from runner.errors import ConnectFailed, RateLimited, Transient

# Consecutive failures that count as an outage: as many as errors that are independent of each other hardly ever make in
# a row, by the share of errors among the last calls. With few errors that is the smallest number.
OUTAGE_FAILURES = 5
MAX_OUTAGE_FAILURES = 60
CHANCE = 1e-6
RECENT_CALLS = 200
USUAL_ERRORS, USUAL_CALLS = 1.0, 20.0  # what is assumed of a service before its first calls

# The smallest number is also enough if nothing has succeeded for this time.
QUIET_SECONDS = 5.0

# The first probe is sent after this time. 429s count as an outage only if nothing has succeeded for this time: an
# exceeded quota also causes consecutive 429s, which ask for shorter waits than the longest delay between probes.
PROBE_DELAY_MIN_SECONDS = 1.0
PROBE_DELAY_MAX_SECONDS = 30.0


class OutageDetector:
    """The health of one service, shared by all its workers.

    Attributes:
        paused: True during an outage.
        last_error: the last failure seen.
        last_sent: the number of the last request that was sent.

    Args:
        patience: seconds without any success after which `on_lost` is called, and again after each further such time.
        on_lost: called with the last failure seen; at once if every failure asks for a wait that is too long.
        on_resumed: called when an outage has ended.
        longest_wait: seconds that the service may ask to wait in all; the patience begins after that. None: `patience`.
    """

    def __init__(
        self,
        patience: float,
        on_lost: Callable[[Transient], None],
        on_resumed: Callable[[], None] = lambda: None,
        longest_wait: float | None = None,
    ) -> None:
        self.paused = False
        self.last_error: Transient | None = None
        self.last_sent = 0
        self._patience = patience
        self._on_lost = on_lost
        self._on_resumed = on_resumed
        self._longest_wait = patience if longest_wait is None else longest_wait
        self._newest_answered = 0
        # Of each outage: the newest answered request at its start, and the last sent one at its end. Both only grow.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._failures_in_row = 0
        self._recent_calls, self._recent_errors = USUAL_CALLS, USUAL_ERRORS
        self._first_failure_at = self._shortest_wait = self._lost_at = 0.0
        self._probe_delay = PROBE_DELAY_MIN_SECONDS
        self._queue: WaitQueue[None, bool] = WaitQueue()
        self._undecided: WaitQueue[None, None] = WaitQueue()
        self._lost_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._probe_due = False
        self._drained = False

    def on_send(self) -> int:
        """Number a request that is sent now."""
        self.last_sent += 1
        return self.last_sent

    def on_success(self, number: int) -> None:
        """Note that the service answered the request with this number; the refusal of one request is an answer, too."""
        self._note_recent(0 if self.paused else self._failures_in_row)
        if self.paused:
            self._resume()
        self._failures_in_row = 0
        if number > self._newest_answered:
            self._newest_answered = number
            if self._undecided:
                self.recheck_undecided()

    def on_failure(self, error: Transient) -> None:
        """Note a failure that the service is to blame for; pauses all workers when it completes an outage."""
        self.last_error = error
        now, wait = asyncio.get_running_loop().time(), error.retry_after or 0.0
        if self._failures_in_row == 0:
            self._first_failure_at, self._shortest_wait = now, wait
        self._failures_in_row += 1
        self._shortest_wait = min(self._shortest_wait, wait)
        if self.paused:
            self._wait_for_service(wait, now)
        elif self._is_outage(error, now):
            self._pause(now)

    def _is_outage(self, error: Transient, now: float) -> bool:
        """Return True if the failures in a row are no coincidence."""
        seconds = now - self._first_failure_at
        if self._failures_in_row < OUTAGE_FAILURES:
            return False
        if isinstance(error, RateLimited):
            return seconds >= PROBE_DELAY_MIN_SECONDS or self._shortest_wait > PROBE_DELAY_MAX_SECONDS
        return self._failures_in_row >= self._improbable_failures() or seconds >= QUIET_SECONDS

    def _improbable_failures(self) -> int:
        """Return how many failures in a row independent errors do not make, at the share of errors so far."""
        share = self._recent_errors / self._recent_calls
        return min(MAX_OUTAGE_FAILURES, max(OUTAGE_FAILURES, math.ceil(math.log(CHANCE) / math.log(share))))

    def _note_recent(self, failures: int) -> None:
        """Note a success, and the failures in a row before it."""
        self._recent_calls += 1 + failures
        self._recent_errors += failures
        if self._recent_calls > RECENT_CALLS:
            self._recent_calls /= 2
            self._recent_errors = max(self._recent_errors / 2, self._recent_calls * USUAL_ERRORS / USUAL_CALLS)

    def is_undecided(self, last_sent: int) -> bool:
        """Return True if a failure may turn out to be the beginning of an outage.

        Args:
            last_sent: the value of `last_sent` when the failure came.
        """
        return last_sent >= self._newest_answered and not self.paused

    async def wait_for_decision(self) -> None:
        """Wait until it may be known whether an undecided failure counts; raises Drained when the lane is drained."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await self._undecided.wait(None)
                return
        # Perhaps all requests wait for the decision, and no further failure can bring it.
        error, now = self.last_error, asyncio.get_running_loop().time()
        if error is not None and not self.paused and self._is_outage(error, now):
            self._pause(now)

    def recheck_undecided(self) -> None:
        """Wake the callers of `wait_for_decision`."""
        self._undecided.wake_all(None)

    def counts(self, last_sent: int) -> bool:
        """Return True if a failure counts against its sample: the service was up after it, and it was in no outage.

        Args:
            last_sent: the value of `last_sent` when the failure came.
        """
        if last_sent >= self._newest_answered:
            return False
        outage = bisect_right(self._starts, last_sent) - 1
        return outage < 0 or last_sent > self._ends[outage]

    async def wait_until_up(self) -> bool:
        """Return at once if the service is up; else wait. Returns True if this caller must send the probe.

        Returns False during an outage if `wake_waiters` woke the caller. Raises Drained when the lane is drained.
        """
        self._queue.check_open()
        if not self.paused or self._probe_due:
            is_probe, self._probe_due = self._probe_due, False
            return is_probe
        return await self._queue.wait(None)

    def wake_waiters(self) -> None:
        """Have all waiters check whether there is something else to do."""
        self._queue.wake_all(False)

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._drained = True
        self._cancel_timers()
        self._queue.close()
        self._undecided.close()

    def _pause(self, now: float) -> None:
        self.paused = True
        self._probe_delay = PROBE_DELAY_MIN_SECONDS
        self._start_lost_timer(self._first_failure_at + self._patience)
        self._wait_for_service(self._shortest_wait, now)
        self.recheck_undecided()

    def _wait_for_service(self, wait: float, now: float) -> None:
        """Schedule the next probe, and the end of the patience: it begins when the wait that is asked for is over."""
        end_of_wait = min(now + wait, self._first_failure_at + self._longest_wait)
        if wait > self._longest_wait:
            self._start_lost_timer(now)
        elif wait and end_of_wait + self._patience > self._lost_at:
            self._start_lost_timer(end_of_wait + self._patience)
        self._schedule_probe(wait)

    def _start_lost_timer(self, at: float) -> None:
        if self._lost_timer is not None:
            self._lost_timer.cancel()
        self._lost_at = at
        self._lost_timer = asyncio.get_running_loop().call_at(at, self._report_lost)

    def _resume(self) -> None:
        self.paused = False
        self._starts.append(self._newest_answered)
        self._ends.append(self.last_sent)
        self._on_resumed()
        self._probe_due = False
        self._cancel_timers()
        self.wake_waiters()

    def _report_lost(self) -> None:
        if self.paused and self.last_error is not None:
            self._start_lost_timer(asyncio.get_running_loop().time() + self._patience)
            self._on_lost(self.last_error)

    def _schedule_probe(self, retry_after: float) -> None:
        """Schedule the next probe unless one is: not before the service asked for it, and less often each time."""
        if self._probe_timer is None and not self._drained:
            delay = max(self._probe_delay, min(retry_after, self._longest_wait))
            self._probe_timer = asyncio.get_running_loop().call_later(delay, self._send_probe)
            self._probe_delay = min(PROBE_DELAY_MAX_SECONDS, self._probe_delay * 2)

    def _send_probe(self) -> None:
        self._probe_timer = None
        if self._queue:
            self._queue.wake(True)
        else:
            self._probe_due = True

    def _cancel_timers(self) -> None:
        for timer in (self._lost_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._lost_timer = self._probe_timer = None


def may_be_caused_by_request(error: Transient) -> bool:
    """Return True if the request itself can have caused this failure, as when one text crashes the server."""
    return not (isinstance(error, ConnectFailed | RateLimited) or error.status == 503)
