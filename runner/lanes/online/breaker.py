"""When so many calls fail, though not all of them, that going on makes no sense."""

from __future__ import annotations

from collections import Counter, deque

from runner.config import BreakerConfig
from runner.errors import RunStopped, Transient


class Breaker:
    """Looks at the last calls to one service.

    An answer is good, a refusal of one request too; bad is what the service, or the way to it, is to blame for. A 429
    is neither, nor is what fails in an outage: those are waited for.

    Args:
        config: the YAML's `breaker`.
        service: whose calls these are.
    """

    def __init__(self, config: BreakerConfig, service: str) -> None:
        self._window = config.window
        self._max_failures = config.share * config.window
        self._service = service
        self._outcomes: deque[str | None] = deque()
        self._failures = 0

    def on_success(self) -> None:
        """A call was answered."""
        if self._failures or len(self._outcomes) < self._window:
            self._note(None)

    def on_failure(self, error: Transient) -> RunStopped | None:
        """A call failed; why the run stops, if this was one too many."""
        self._note(error.error_type)
        if len(self._outcomes) < self._window or self._failures <= self._max_failures:
            return None
        seen = ", ".join(f"{kind} {count}" for kind, count in Counter(filter(None, self._outcomes)).most_common())
        return RunStopped(
            "breaker",
            f"{self._failures} of the last {self._window} calls to the service '{self._service}' failed ({seen}; "
            f"breaker: more than {self._max_failures:g} of {self._window}); the last failure was: {error}. "
            "Run the same command again when the service is well",
            exit_code=4,
        )

    def _note(self, kind: str | None) -> None:
        self._outcomes.append(kind)
        self._failures += kind is not None
        if len(self._outcomes) > self._window:
            self._failures -= self._outcomes.popleft() is not None
