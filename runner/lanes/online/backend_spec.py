"""What the lane hands to a backend: the service with its limits, the policy for all services, and where to report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from runner.config import BreakerConfig, RetryConfig
from runner.errors import RunStopped, Transient
from runner.lanes.online.request_queue import QueuedRequest
from runner.limits import AdaptiveController, BudgetQueue, TokenQuota
from runner.service import Client
from runner.types import Failure


class BackendSpec(msgspec.Struct, frozen=True):
    """One service and its limits.

    Attributes:
        name: the service's name in the YAML.
        client: its HTTP client.
        concurrency: requests in flight at once, or the controller that learns how many.
        rpm: requests per minute, or None.
        tokens: tokens per minute, or None.
    """

    name: str
    client: Client
    concurrency: int | AdaptiveController
    rpm: int | None = None
    tokens: TokenQuota | None = None

    @property
    def start_concurrency(self) -> int:
        """The limit on requests in flight at the start."""
        return self.concurrency if isinstance(self.concurrency, int) else self.concurrency.limit


class OnlinePolicy(msgspec.Struct, frozen=True):
    """How requests are sent to every service.

    Attributes:
        retry: the YAML's `online.retry`.
        breaker: the YAML's `breaker`.
        budget: of the run, or None.
        reasks: for each variant, how often a request is sent again when its verdict cannot be read.
        grace: seconds that requests in flight get when the lane is drained.
    """

    retry: RetryConfig
    breaker: BreakerConfig = BreakerConfig()
    budget: BudgetQueue | None = None
    reasks: Sequence[int] = ()
    grace: float = 0.0


class BackendEvents(Protocol):
    """What a backend asks of its lane and reports to it. `backend` is its number in the lane."""

    async def work(self, backend: int) -> bool:
        """Process one request on a backend; return False if there is nothing more to do."""

    def has_alternative(self, backend: int, variant: int) -> bool:
        """Return True if another available backend may serve a variant."""

    def on_lost(self, backend: int, error: Transient) -> None:
        """Handle a backend that has not answered for the whole patience; `error` is its last failure."""

    def on_resumed(self, backend: int) -> None:
        """Handle a backend that answers again after an outage."""

    def on_decided(self, backend: int, queued: QueuedRequest, failure: Failure | None) -> None:
        """Write the failed row of a request that was refused for its own reasons; without a failure, send it again."""

    def on_refused(self, backend: int, stop: RunStopped) -> None:
        """Handle a backend that refuses every request of a judge."""
