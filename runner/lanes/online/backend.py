"""One service at work: who asks it, how fast, and whether it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from runner.config import BreakerConfig, RetryConfig
from runner.errors import Transient
from runner.judge import Panel
from runner.lanes.online.breaker import Breaker
from runner.lanes.online.executor import RequestExecutor
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.outage import OutageDetector
from runner.lanes.online.request_queue import HasAlternative
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import AdaptiveController, BudgetQueue, RequestLimiter, TokenQuota
from runner.service import Client


class BackendSpec(msgspec.Struct, frozen=True):
    """One service and its limits.

    Attributes:
        name: as judges name it.
        client: its HTTP calls.
        concurrency: requests under way at once, or what learns how many.
        rpm: requests per minute, or None.
        tokens: tokens per minute, or None.
    """

    name: str
    client: Client
    concurrency: int | AdaptiveController
    rpm: int | None = None
    tokens: TokenQuota | None = None


class OnlinePolicy(msgspec.Struct, frozen=True):
    """How all services are asked: the YAML's `online.retry` and `breaker`, and the budget, if there is one."""

    retry: RetryConfig
    breaker: BreakerConfig = BreakerConfig()
    budget: BudgetQueue | None = None


class Backend:
    """A service, the workers that ask it, and what they heed.

    Attributes:
        name: the service's.
        closed: why it is asked no more, while others may be.

    Args:
        spec: the service.
        policy: how it is asked.
        panel: knows how to ask again.
        committer: takes the answers.
        work: what its workers do.
        has_alternative: whether others can ask the requests of a variant.
        on_lost: told when it has not answered for as long as patience lasts.
        on_resumed: told when it answers again.
    """

    def __init__(
        self,
        spec: BackendSpec,
        policy: OnlinePolicy,
        panel: Panel,
        committer: GroupCommitter,
        *,
        work: Callable[[], Awaitable[bool]],
        has_alternative: HasAlternative,
        on_lost: Callable[[Transient], None],
        on_resumed: Callable[[], None],
    ) -> None:
        self.name = spec.name
        self.closed: str | None = None
        self.limiter = RequestLimiter(spec.concurrency, spec.rpm, spec.tokens, policy.budget, self._resize)
        self.workers = WorkerPool(self.limiter.size, work)
        self.outage = OutageDetector(policy.retry.patience, on_lost, on_resumed)
        self.executor = RequestExecutor(
            spec.name,
            spec.client,
            panel,
            committer,
            policy.retry,
            self.limiter,
            self.outage,
            Breaker(policy.breaker, spec.name),
            self.workers.suspended,
            lambda: self.workers.finished,
            has_alternative,
        )

    @property
    def is_available(self) -> bool:
        """Whether it is asked, and answers as far as is known."""
        return self.closed is None and not self.outage.paused

    def drain(self) -> None:
        """Begin nothing more; what is under way may still be answered."""
        self.workers.stop()
        self.executor.drain()

    def close(self, why: str) -> None:
        """Ask it no more: others go on with its requests."""
        self.closed = why
        self.drain()

    def snapshot(self) -> dict[str, Any]:
        """What goes on here, for who watches."""
        state = "closed" if self.closed else "paused" if self.outage.paused else "running"
        traffic = self.executor.traffic
        seen = {"state": state, "in_flight": traffic.in_flight, "concurrency": self.limiter.size}
        because = self.closed or (str(self.outage.last_error) if self.outage.paused else None)
        return {**seen, "retries": traffic.retries, "throttled": traffic.throttled, "because": because}

    def _resize(self, size: int) -> None:
        self.workers.resize(size)
