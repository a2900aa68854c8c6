"""The online lane: workers take one request at a time, send it to a service and write its row."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from anyio import create_task_group

from runner.core import Drained
from runner.errors import BadRow, Busy, DatasetError, RateLimited, RunStopped, Transient
from runner.judge import Panel
from runner.lanes import PendingWork, StoppableLane, Traffic
from runner.lanes.online.backend import Backend
from runner.lanes.online.backend_spec import BackendSpec, OnlinePolicy
from runner.lanes.online.executor import Failover
from runner.lanes.online.group_commit import GroupCommitter
from runner.lanes.online.refusals import Held
from runner.lanes.online.request_queue import QueuedRequest, RequestQueue
from runner.lanes.online.throttling import ThrottleWatch
from runner.lanes.online.worker_pool import WorkerPool
from runner.results import ResultRecorder, RowCounts
from runner.service import too_long_a_wait
from runner.types import Failure, JudgeRequest, RequestResult

log = logging.getLogger(__name__)

# Requests that are prepared one after the other, while the code for it is in the processor's cache.
REQUESTS_PER_PREPARATION = 16

# Reasons for which one service can answer nothing, although others may.
BACKEND_STOP_REASONS = frozenset({"authentication", "quota", "address", "refused", "breaker"})

QUOTA_HINT = (
    "The quota is used up, or each request that is left is larger than it. Run the same command again when there is "
    "quota"
)


class OnlineLane(StoppableLane):
    """Sends every pending request to a service that may serve it.

    If several services may, each takes the next request when it has capacity: equally fast services take turns, a
    slower one gets fewer requests, and one that does not answer gets none. Another service takes over what one could
    not answer. The lane implements `BackendEvents`.

    Args:
        specs: the services.
        eligible: for each variant, which of them may serve it.
        policy: how requests are sent.
        panel: makes requests and reads verdicts.
        pending: the requests that still need a row.
        recorder: writes the rows.
    """

    def __init__(
        self,
        specs: Sequence[BackendSpec],
        eligible: Sequence[tuple[int, ...]],
        policy: OnlinePolicy,
        panel: Panel,
        pending: PendingWork,
        recorder: ResultRecorder,
    ) -> None:
        super().__init__(policy.grace, self._stop_sending)
        self.name = "online"
        self._policy = policy
        self._panel = panel
        self._pending = pending
        self._recorder = recorder
        self._committer = GroupCommitter(panel, recorder)
        self._queue = RequestQueue(eligible, len(specs))
        self._executing = 0
        self._throttling = ThrottleWatch(policy.retry.patience)
        judges = [variant.judge for variant in panel.variants]
        answered = _answered_judges(judges, recorder.done.counts)
        self._backends = tuple(
            Backend(number, spec, policy, self._committer, self, judges, answered, self._throttling)
            for number, spec in enumerate(specs)
        )

    @property
    def traffic(self) -> Traffic:
        """What is in flight at all services, and what failed."""
        seen = [backend.executor.traffic for backend in self._backends]
        return Traffic(sum(t.in_flight for t in seen), sum(t.retries for t in seen), sum(t.throttled for t in seen))

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The state of each service."""
        return {backend.name: backend.snapshot() for backend in self._backends}

    @property
    def in_progress(self) -> str:
        """What a drain waits for, as text."""
        return f"waiting for {self.traffic.in_flight} in-flight requests"

    @property
    def paused(self) -> str | None:
        """Why nothing is sent while every service has failed or asked to wait, in words; else None."""
        reasons = [backend.waits_for for backend in self._backends if backend.closed is None]
        return reasons[0] if all(reasons) and reasons else None

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""
        return "draining" if self.draining else "paused" if self.paused is not None else "running"

    async def run(self) -> None:
        """Send requests until none are left; raises RunStopped if the lane was drained before that."""
        async with create_task_group() as helpers:
            for backend in self._backends:
                helpers.start_soon(backend.limiter.run)
            helpers.start_soon(self._committer.run)
            async with create_task_group() as workers:
                self._scope = workers.cancel_scope
                WorkerPool.start(workers, *(backend.workers for backend in self._backends))
            helpers.cancel_scope.cancel()
        if self._stopped is not None:
            raise self._stopped

    async def work(self, backend: int) -> bool:
        """Process one request on a backend, from the dataset to its row; returns False if there are no more."""
        try:
            is_probe = self._backends[backend].outage.paused and await self._wait_for_probe(backend)
            queued = self._queue.take(backend) or await self._next_request(backend)
            if queued is None:
                return self._is_finished and self._take_up_held()
            await self._execute(backend, queued, is_probe)
            await self._recorder.wait_for_capacity()
        except Drained:
            return False
        except DatasetError as error:
            message = f"the dataset can no longer be read: {error}; run the same command again when it can"
            self.drain(RunStopped("dataset", message, exit_code=3))
            return False
        except RunStopped as stop:
            self.drain(stop, grace=0 if stop.reason == "output" else None)
            return False
        return True

    def has_alternative(self, backend: int, variant: int) -> bool:
        """Return True if another available backend may serve a variant."""
        return any(self._backends[other].is_available for other in self._others(backend, variant))

    def on_resumed(self, backend: int) -> None:
        """Let a backend that answers again take requests that wait at others which do not."""
        self._backends[backend].limiter.resume()
        self._wake_all()

    def on_decided(self, backend: int, queued: QueuedRequest, failure: Failure | None) -> None:
        """Write the failed row of a request that was refused for its own reasons; without a failure, send it again."""
        if failure is not None:
            self._recorder.record(queued.request, self._backends[backend].executor.result(queued, failure))
        elif not self.draining:
            self._requeue(queued)

    def on_refused(self, backend: int, stop: RunStopped) -> None:
        """Close a backend that refuses every request of a judge, or stop the run if no other can serve them."""
        if not self.draining and not self._close_backend(backend, stop):
            self.drain(stop)

    def on_lost(self, backend: int, error: Transient) -> None:
        """Stop the run, unless other backends can serve everything that this one may."""
        if self._is_replaceable(backend):
            name = self._backends[backend].name
            log.warning("the service '%s' still does not answer, others take its requests: %s", name, error)
            return
        too_long = too_long_a_wait(error, self._policy.retry, time.time())
        is_quota = isinstance(error, RateLimited) and not isinstance(error, Busy)
        then = QUOTA_HINT if is_quota else "Run the same command again when the service is back"
        message = (
            f"no answer for {self._policy.retry.patience:g} s (online.retry.patience); the last failure was: {error}. "
            f"{then}"
        )
        self.drain(RunStopped("outage", too_long or message, exit_code=4))

    def _stop_sending(self) -> None:
        self._queue.drain()
        for backend in self._backends:
            backend.drain()
        if self._policy.budget is not None:
            self._policy.budget.drain()

    async def _next_request(self, backend: int) -> QueuedRequest | None:
        """Return the next request for a backend, fresh from the dataset, or None if there are no more."""
        queue = self._queue
        while (queued := queue.take(backend)) is None and not queue.exhausted:
            if queue.is_full:
                await queue.wait_for_change()
            elif self._prepare_requests():
                await self._recorder.wait_for_capacity()
            elif not await self._pending.fill() and not self._prepare_requests():
                queue.close()
        return queued

    async def _execute(self, backend: int, queued: QueuedRequest, is_probe: bool) -> None:
        """Execute one request; hand it to another backend if this one cannot complete it."""
        executor = self._backends[backend].executor
        self._executing += 1
        try:
            await executor.execute(queued, is_probe)
        except Held:
            pass
        except Failover:
            self._fail_over(queued)
        except Drained:
            if self._backends[backend].closed is None or self.draining:
                await executor.abandon(queued)
                raise
            self._fail_over(queued)
        except RunStopped as stop:
            if self.draining or not self._close_backend(backend, stop):
                await executor.abandon(queued)
                raise
            self._fail_over(queued)
        finally:
            self._executing -= 1
            if self._is_finished:
                self._take_up_held()
                self._wake_all()

    async def _wait_for_probe(self, backend: int) -> bool:
        """Wait without holding a request while other backends can take it; returns True if this worker must probe."""
        outage = self._backends[backend].outage
        while outage.paused and not self._is_finished and self._is_replaceable(backend):
            if await outage.wait_until_up():
                return True
        return False

    def _is_replaceable(self, backend: int) -> bool:
        """Return True if other available backends may serve everything that this one may."""
        return all(self.has_alternative(backend, variant) for variant in self._variants_of(backend))

    def _variants_of(self, backend: int) -> Iterator[int]:
        return (variant for variant, numbers in enumerate(self._queue.eligible) if backend in numbers)

    def _others(self, backend: int, variant: int) -> Iterator[int]:
        return (other for other in self._queue.eligible[variant] if other != backend)

    @property
    def _is_finished(self) -> bool:
        return self._executing == 0 and self._queue.exhausted and self._queue.is_empty

    def _take_up_held(self) -> bool:
        """Decide about held requests, because nothing else is left to send; returns True if some are sent again."""
        if self.draining:
            return False
        for backend in self._backends:
            backend.decide_last()
        for queued in self._throttling.take_put_off():
            self._requeue(queued)
        return not self._queue.is_empty

    def _fail_over(self, queued: QueuedRequest) -> None:
        """Requeue a request for another backend."""
        queued.reset_failures()
        self._requeue(queued)

    def _requeue(self, queued: QueuedRequest) -> None:
        """Give a request back; a worker takes it next."""
        self._queue.requeue(queued)
        for number in self._queue.eligible[queued.request.variant]:
            if self._backends[number].closed is None:
                self._backends[number].workers.resume()

    def _close_backend(self, backend: int, stop: RunStopped) -> bool:
        """Close a backend if others can serve everything that it may; returns True if they can."""
        if stop.reason not in BACKEND_STOP_REASONS:
            return False
        in_use = [one.closed is None for one in self._backends]
        for variant in self._variants_of(backend):
            if not any(in_use[other] for other in self._others(backend, variant)):
                return False
        closing = self._backends[backend]
        if closing.closed is None:
            log.warning("the service '%s' gets no more requests, others take them: %s", closing.name, stop)
            for queued in closing.close(str(stop)):
                self._fail_over(queued)
        return True

    def _wake_all(self) -> None:
        for backend in self._backends:
            backend.outage.wake_waiters()

    def _prepare_requests(self) -> bool:
        """Prepare the next few requests; returns True if there was a sample."""
        for prepared in range(REQUESTS_PER_PREPARATION):
            item = self._pending.next_now()
            if item is None:
                return prepared > 0
            sample, variant = item
            try:
                request = self._panel.request(sample, variant)
            except BadRow as error:
                custom_id = self._panel.custom_id(sample.ordinal, variant)
                failure = Failure(error.error_type, f"{sample.place}: {error}")
                self._recorder.record(JudgeRequest(sample, variant, custom_id, b"", ""), RequestResult(failure))
            else:
                self._queue.put(QueuedRequest(request, request.body, self._policy.reasks[variant]))
        return True


def _answered_judges(judges: Collection[str], counts: RowCounts) -> Collection[str]:
    """Return the judges that the stored rows have answers of, as far as the counts tell."""
    is_alone = len(set(judges)) == 1
    return judges if is_alone and counts.ok + counts.unparsed else counts.served.keys()
