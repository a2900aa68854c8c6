"""One service with its limiter, worker pool and outage detector."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import partial
from typing import Any

from runner.lanes.online.backend_spec import BackendEvents, BackendSpec, OnlinePolicy
from runner.lanes.online.executor import RequestExecutor, ServiceHealth
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.outage import OutageDetector
from runner.lanes.online.refusals import RefusalDetector
from runner.lanes.online.request_queue import QueuedRequest
from runner.lanes.online.throttling import ThrottleWatch
from runner.lanes.online.worker_pool import WorkerPool
from runner.limits import RequestLimiter


class Backend:
    """A service and the workers that send requests to it.

    Attributes:
        name: the service's name.
        closed: why it gets no more requests although the lane goes on, or None.

    Args:
        number: its number in the lane.
        spec: the service and its limits.
        policy: how requests are sent.
        committer: takes the results.
        events: the lane.
        judges: for each variant, the name of its judge.
        answered: the judges that the run directory has answers of.
        throttling: finds requests that are larger than the quota.
    """

    def __init__(
        self,
        number: int,
        spec: BackendSpec,
        policy: OnlinePolicy,
        committer: GroupCommitter,
        events: BackendEvents,
        judges: Sequence[str],
        answered: Container[str],
        throttling: ThrottleWatch,
    ) -> None:
        self.name = spec.name
        self.closed: str | None = None
        self.outage = OutageDetector(
            policy.retry.patience,
            partial(events.on_lost, number),
            partial(events.on_resumed, number),
            policy.retry.longest_wait,
        )
        self.workers = WorkerPool(spec.start_concurrency, partial(events.work, number), self.outage.recheck_undecided)
        self.limiter = RequestLimiter(
            spec.concurrency,
            spec.rpm,
            spec.tokens,
            policy.budget,
            on_resize=self.workers.resize,
            in_outage=lambda: self.outage.paused,
        )
        self._refusals = {
            judge: RefusalDetector(
                f"judge '{judge}' at service '{spec.name}'",
                spec.client.chat_url,
                policy.breaker.refusals,
                judge in answered,
                partial(events.on_decided, number),
                partial(events.on_refused, number),
            )
            for judge in dict.fromkeys(judges)
        }
        self.executor = RequestExecutor(
            spec,
            policy,
            committer,
            self.limiter,
            ServiceHealth(self.outage, [self._refusals[judge] for judge in judges], throttling),
            self.workers,
            partial(events.has_alternative, number),
        )

    @property
    def is_available(self) -> bool:
        """True if it gets requests and, as far as is known, answers them."""
        return self.closed is None and not self.outage.paused

    @property
    def waits_for(self) -> str | None:
        """Why it sends nothing at the moment, in words; None if it does, or has nothing to send."""
        asked = self.executor.requested_wait.text
        if self.outage.paused:
            return asked or str(self.outage.last_error)
        return asked if self.executor.is_idle else None

    def drain(self) -> None:
        """Start no more requests; requests in flight may still be answered."""
        self.workers.stop()
        self.executor.drain()

    def close(self, reason: str) -> list[QueuedRequest]:
        """Send no more requests to it; return those that it holds, for other backends."""
        self.closed = reason
        self.drain()
        return [queued for refusals in self._refusals.values() for queued in refusals.take_held()]

    def decide_last(self) -> None:
        """Decide about refused requests, because nothing else is left to send."""
        for refusals in self._refusals.values():
            refusals.decide_last()

    def snapshot(self) -> dict[str, Any]:
        """Return its state for `status.json`."""
        traffic, waits_for = self.executor.traffic, self.waits_for
        state = "closed" if self.closed else "paused" if waits_for else "running"
        return {
            "state": state,
            "in_flight": traffic.in_flight,
            "concurrency": self.limiter.size,
            "retries": traffic.retries,
            "throttled": traffic.throttled,
            "because": self.closed or waits_for,
        }
