"""Stops the run when too large a share of the last calls failed. It does not close again by itself."""

from __future__ import annotations

import math
from collections import Counter, deque

from runner.config import BreakerConfig
from runner.errors import RunStopped, Transient


class Breaker:
    """A failure threshold over the last calls to one service.

    A share that is a little above the limit may be chance, and errors at random below the limit are no reason to stop:
    it stops the run if it stays above for another window. A share that is clearly above stops it at once.

    An answer is a success, and so is the refusal of one request. A failure is what the service, or the network on the
    way to it, is to blame for. 429s and failures during an outage are not counted: the run waits for those to end.

    Args:
        config: the YAML's `breaker`.
        service: the service's name, for the message.
    """

    def __init__(self, config: BreakerConfig, service: str) -> None:
        self._window = config.window
        self._max_failures = config.share * config.window
        self._clear_failures = self._max_failures + 3 * math.sqrt(self._max_failures * (1 - config.share))
        self._service = service
        self._outcomes: deque[str | None] = deque()
        self._failures = 0
        self._calls_above = 0  # calls in a row at which the share was above the limit

    def on_success(self) -> None:
        """Count an answered call."""
        if self._failures or len(self._outcomes) < self._window:
            self._add(None)

    def on_failure(self, error: Transient) -> RunStopped | None:
        """Count a failed call; returns why the run stops if this failure was one too many."""
        self._add(error.error_type)
        is_clear = self._failures > self._clear_failures
        if not self._calls_above or not (is_clear or self._calls_above >= self._window):
            return None
        kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(filter(None, self._outcomes)).most_common())
        others = (
            ""
            if self._failures == self._window
            else ("The others were answered, so fewer at once may help: set service.limits.concurrency. ")
        )
        return RunStopped(
            "breaker",
            f"{self._failures} of the last {self._window} calls to the service '{self._service}' failed ({kinds}; "
            f"breaker: more than {self._max_failures:g} of {self._window}); the last failure was: {error}. "
            f"{others}Run the same command again when the service is well",
            exit_code=4,
        )

    def _add(self, kind: str | None) -> None:
        self._outcomes.append(kind)
        self._failures += kind is not None
        if len(self._outcomes) > self._window:
            self._failures -= self._outcomes.popleft() is not None
        is_above = len(self._outcomes) == self._window and self._failures > self._max_failures
        self._calls_above = self._calls_above + 1 if is_above else 0
