"""What the two lanes have in common: how a run steers one, and what it sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from anyio import CancelScope

from runner.errors import Fatal, RunStopped

STOP_HINTS = {
    "authentication": "check the token and what it may use, then run the same command again",
    "quota": "see to the account, then run the same command again",
    "address": "check service.base_url and judge.model, then run the same command again",
}


class Traffic(msgspec.Struct):
    """What goes over the wire just now, and what went wrong on it."""

    in_flight: int = 0
    retries: int = 0
    throttled: int = 0


class Lane(Protocol):
    """Asks what is left, one way or the other."""

    @property
    def name(self) -> str:
        """`online` or `batch`."""

    @property
    def traffic(self) -> Traffic:
        """What goes over the wire just now."""

    @property
    def paused(self) -> str | None:
        """Why everybody waits, while the service does not answer."""

    @property
    def draining(self) -> bool:
        """Whether nothing new is sent any more."""

    @property
    def aborted(self) -> bool:
        """Whether it was told to leave at once."""

    @property
    def in_progress(self) -> str:
        """What a drain waits for, in words."""

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """What goes on at each service, where they are asked one request at a time."""

    async def run(self) -> None:
        """Ask until nothing is left for this lane; raises RunStopped where it was ended before that."""

    def drain(self, stop: RunStopped, grace: float | None = None) -> None:
        """End the lane: begin nothing more, give what is under way `grace` seconds. The first cause is kept."""

    def cancel(self) -> None:
        """Leave what is under way as it is, at once."""


class StoppableLane:
    """How a lane is ended, by whoever runs it or by itself.

    Attributes:
        aborted: whether it was told to leave at once.

    Args:
        grace: seconds that what is under way gets when the lane is drained.
        on_drain: sees to it that nothing new is begun.
    """

    def __init__(self, grace: float, on_drain: Callable[[], None]) -> None:
        self.aborted = False
        self._grace = grace
        self._on_drain = on_drain
        self._stopped: RunStopped | None = None
        self._scope: CancelScope | None = None

    @property
    def draining(self) -> bool:
        """Whether nothing new is begun any more."""
        return self._stopped is not None

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """What goes on at each service, where they are asked one request at a time."""
        return {}

    def drain(self, stop: RunStopped, grace: float | None = None) -> None:
        """End the lane: begin nothing more, give what is under way `grace` seconds. The first cause is kept."""
        if self._stopped is None:
            self._stopped = stop
            self._on_drain()
            asyncio.get_running_loop().call_later(self._grace if grace is None else grace, self._leave)

    def cancel(self) -> None:
        """Leave what is under way as it is, at once."""
        self.aborted = True
        self._leave()

    def _leave(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


def service_stop(error: Fatal) -> RunStopped:
    """The run stops because the service will answer no request of it."""
    return RunStopped(error.reason, f"the service refused: {error}; {STOP_HINTS[error.reason]}", exit_code=3)
