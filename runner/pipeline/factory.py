"""Build the lanes of a run from the configuration."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from runner.config import JudgeConfig, ServiceConfig
from runner.core import (
    COMPLETION_CAP_PARAMETERS,
    COMPLETION_TOKENS,
    RESERVED_OPEN_FILES,
    TEMPLATE_TOKENS,
    connections_per_service,
    open_file_limit,
)
from runner.dataset import Prefetcher, chunks
from runner.lanes import Lane, PendingWork
from runner.lanes.batch import (
    BatchEndpoint,
    BatchLane,
    BatchPolicy,
    ReaskPolicy,
    Reconciler,
    ShardPacker,
    ShardSpec,
)
from runner.lanes.online import BackendSpec, OnlineLane, OnlinePolicy
from runner.limits import AdaptiveController, TokenEstimator, TokenQuota
from runner.pipeline.open import OpenRun
from runner.planning import batch_services
from runner.results import ResultRecorder, extra_float_columns
from runner.service import Client

log = logging.getLogger(__name__)


class LaneFactory:
    """Builds the lanes of one run.

    Args:
        run: the run.
        recorder: records the rows of all lanes.
        clients: the clients by service name and base URL.
        addresses: the current base URL of each service.
        notify: shows a message.
    """

    def __init__(
        self,
        run: OpenRun,
        recorder: ResultRecorder,
        clients: Mapping[tuple[str, str], Client],
        addresses: Mapping[str, str],
        notify: Callable[[str], None],
    ) -> None:
        self._run = run
        self._recorder = recorder
        self._clients = clients
        self._addresses = addresses
        self._notify = notify
        self._config = run.inputs.config
        self._service = self._config.services[0]

    @asynccontextmanager
    async def lane(
        self, name: str, accept: Callable[[int], bool], is_final: Callable[[int], bool]
    ) -> AsyncIterator[Lane]:
        """Build a lane and prefetch its samples as long as the context is open.

        Args:
            name: `online` or `batch`.
            accept: given the number of batches that gave a request no answer, True if this lane is to send it.
            is_final: given the same number, True if the request is never sent again.
        """
        async with self._prefetcher() as prefetcher:
            pending = PendingWork(prefetcher, self._run.inputs.reader, self._run.done, accept)
            yield self._online(pending) if name == "online" else self._batch(pending, is_final)

    def _prefetcher(self) -> Prefetcher:
        inputs, wanted = self._run.inputs, self._run.done.next_wanted
        return Prefetcher(chunks(inputs.files, wanted, known=self._run.fingerprint, **inputs.reader.reading))

    def _online(self, pending: PendingWork) -> OnlineLane:
        config, panel, budget = self._config, self._run.inputs.panel, self._run.budget
        numbers = {service.name: number for number, service in enumerate(config.services)}
        return OnlineLane(
            [self._spec(service) for service in config.services],
            [tuple(numbers[name] for name in config.judges[v.judge_index].service) for v in panel.variants],
            OnlinePolicy(
                config.online.retry,
                config.breaker,
                None if budget is None else budget.queue(),
                self._reasks,
                self._grace,
            ),
            panel,
            pending,
            self._recorder,
        )

    def _spec(self, service: ServiceConfig) -> BackendSpec:
        limits, longest_wait = service.limits, self._config.online.retry.longest_wait
        concurrency, most = limits.concurrency, connections_per_service(len(self._config.services))
        wanted = concurrency if isinstance(concurrency, int) else concurrency.max
        if wanted > most:
            message = (
                f"service '{service.name}': at most {most} requests in flight, not {wanted}: this process may have "
                f"{open_file_limit()} open files (ulimit -n), and {RESERVED_OPEN_FILES} are kept for the run's own"
            )
            log.warning("%s", message)
            self._notify(message)
        return BackendSpec(
            service.name,
            self._clients[service.name, self._addresses[service.name]],
            min(concurrency, most)
            if isinstance(concurrency, int)
            else AdaptiveController(min(concurrency.start, most), min(concurrency.max, most), longest_wait),
            limits.rpm,
            None if limits.tpm is None else TokenQuota(limits.tpm, self._estimators()),
        )

    def _batch(self, pending: PendingWork, is_final: Callable[[int], bool]) -> BatchLane:
        run, config, options = self._run, self._config, self._run.options
        panel, dialects = run.inputs.panel, self._dialects
        endpoints = [
            [BatchEndpoint(s.name, self._addresses[s.name], s.dialect) for s in batch_services(judge, config.services)]
            for judge in config.judges
        ]
        packer = ShardPacker(
            run.ledger,
            pending,
            panel,
            self._recorder,
            ShardSpec(endpoints, config.batch.shard_bytes, config.batch.shard_lines),
            float_columns=extra_float_columns(run.inputs.schema),
            budget=run.shard_budget,
        )
        reconciler = Reconciler(
            run.ledger,
            panel,
            self._recorder,
            dialects,
            ReaskPolicy(self._reasks, is_final),
            run.shard_budget,
        )
        policy = BatchPolicy(
            config.batch,
            config.online.retry,
            self._grace,
            detach=options.detach,
            cancel=options.cancel,
            resubmit_unknown=options.resubmit_unknown,
        )
        return BatchLane(run.ledger, self._clients, dialects, None if options.cancel else packer, reconciler, policy)

    @property
    def _dialects(self) -> dict[str, str]:
        """The dialect of each service; a shard of a service that is no longer configured uses that of the first one."""
        known = {service.name: service.dialect for service in self._config.services}
        return {name: known.get(name, self._service.dialect) for name, _ in self._clients}

    def _estimators(self) -> list[TokenEstimator]:
        """Returns the token estimator of each variant; the variants of one judge share one."""
        by_judge = [
            TokenEstimator(
                TEMPLATE_TOKENS if judge.is_builtin else 0,
                COMPLETION_TOKENS,
                _completion_cap(judge),
            )
            for judge in self._config.judges
        ]
        return [by_judge[variant.judge_index] for variant in self._run.inputs.panel.variants]

    @property
    def _reasks(self) -> tuple[int, ...]:
        return tuple(self._config.judges[v.judge_index].reask for v in self._run.inputs.panel.variants)

    @property
    def _grace(self) -> float:
        grace = self._run.options.grace
        return max(service.timeout.total for service in self._config.services) if grace is None else grace


def _completion_cap(judge: JudgeConfig) -> int | None:
    """Returns the maximum number of completion tokens per request; None if the parameters set none."""
    caps = (judge.parameters.get(name) for name in COMPLETION_CAP_PARAMETERS)
    return min((cap for cap in caps if isinstance(cap, int)), default=None)
