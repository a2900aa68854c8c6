"""What a service asks for with `Retry-After`, in words: an hour without a call must not look like a run that hangs."""

from __future__ import annotations

import logging
import time

from runner.errors import Transient
from runner.service import clock_text

log = logging.getLogger(__name__)

MIN_SHOWN_SECONDS = 5.0  # shorter waits are part of every run that meets a quota
LOG_STEP_SECONDS = 60.0  # `run.log` gets a line for a wait that ends at least this much later than the one before


class RequestedWait:
    """The wait that ends last among those that a service has asked for.

    Args:
        who: who asks, for the message.
        longest: seconds of a wait that count at most.
    """

    def __init__(self, who: str, longest: float) -> None:
        self._who = who
        self._longest = longest
        self._until = self._logged_until = 0.0
        self._words = ""

    def note(self, error: Transient) -> None:
        """Note a failure, and how long the service asks to wait after it."""
        asked, now = error.retry_after or 0.0, time.time()
        until = now + min(asked, self._longest)
        if asked < MIN_SHOWN_SECONDS or until <= self._until:
            return
        self._until = until
        self._words = f"{self._who} asked to wait until {clock_text(now + asked)} ({error})"
        if asked > self._longest:
            self._words += f"; the next attempt is at {clock_text(until)} (online.retry.max_retry_after)"
        if until >= self._logged_until + LOG_STEP_SECONDS:
            self._logged_until = until
            log.warning("%s", self._words)

    @property
    def text(self) -> str | None:
        """Until when and why the service asked to wait, in words; None if that is over."""
        return self._words if time.time() < self._until else None
