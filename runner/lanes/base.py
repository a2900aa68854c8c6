"""The interface of a lane, and how a lane is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from anyio import CancelScope

from runner.errors import Fatal, RunStopped

STOP_HINTS = {
    "authentication": "check the token and what it may use, then run the same command again",
    "quota": "check the account, then run the same command again",
    "address": "check service.base_url and judge.model, then run the same command again",
    "refused": "check judge.model, judge.parameters and service, then run the same command again",
}


class Traffic(msgspec.Struct):
    """Requests in flight, and failed calls so far."""

    in_flight: int = 0
    retries: int = 0
    throttled: int = 0


class Lane(Protocol):
    """One of the two ways to get answers to the pending requests."""

    @property
    def name(self) -> str:
        """`online` or `batch`."""

    @property
    def traffic(self) -> Traffic:
        """What is in flight, and what failed."""

    @property
    def paused(self) -> str | None:
        """Why all workers wait while the service does not answer, else None."""

    @property
    def draining(self) -> bool:
        """True once nothing new is started."""

    @property
    def aborted(self) -> bool:
        """True once the lane was cancelled: requests in flight are abandoned."""

    @property
    def in_progress(self) -> str:
        """What a drain waits for, as text."""

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The state of each service for `status.json`, if the lane sends one request at a time."""

    async def run(self) -> None:
        """Send requests until none are left for this lane; raises RunStopped if it was drained before that."""

    def drain(self, stop: RunStopped, grace: float | None = None) -> None:
        """Start nothing new, and give requests in flight `grace` seconds. The first cause is kept."""

    def cancel(self) -> None:
        """Abandon requests in flight at once."""


class StoppableLane:
    """The base of both lanes: how a lane is drained and cancelled, from outside or by itself.

    Attributes:
        aborted: True once the lane was cancelled.

    Args:
        grace: seconds that requests in flight get when the lane is drained.
        on_drain: called once, so that nothing new is started.
    """

    def __init__(self, grace: float, on_drain: Callable[[], None]) -> None:
        self.aborted = False
        self._grace = grace
        self._on_drain = on_drain
        self._stopped: RunStopped | None = None
        self._scope: CancelScope | None = None

    @property
    def draining(self) -> bool:
        """True once nothing new is started."""
        return self._stopped is not None

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The state of each service for `status.json`, if the lane sends one request at a time."""
        return {}

    def drain(self, stop: RunStopped, grace: float | None = None) -> None:
        """Start nothing new, and give requests in flight `grace` seconds. The first cause is kept."""
        if self._stopped is None:
            self._stopped = stop
            self._on_drain()
            asyncio.get_running_loop().call_later(self._grace if grace is None else grace, self._leave)

    def cancel(self) -> None:
        """Abandon requests in flight at once."""
        self.aborted = True
        self._leave()

    def _leave(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


def service_stop(error: Fatal) -> RunStopped:
    """Return why the run stops: the service will answer none of its requests."""
    hint = STOP_HINTS[error.reason] if error.hint is None else f"{error.hint}, then run the same command again"
    return RunStopped(error.reason, f"the service refused: {error}; {hint}", exit_code=3)
