"""The batch lane: workers create shards, poll them and write their rows."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping

from anyio import create_task_group

from runner.core import Drained, DrainSignal
from runner.errors import DatasetError, NoBatchApi, RunDirectoryError, RunStopped, output_failed
from runner.lanes import StoppableLane, Traffic
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.lifecycle import UNSENT_STEPS, ShardLifecycle
from runner.lanes.batch.outcomes import Detached
from runner.lanes.batch.packing import ShardPacker
from runner.lanes.batch.policy import BatchPolicy
from runner.lanes.batch.poll_timer import PollTimer
from runner.lanes.batch.reconcile import Reconciler
from runner.service import Client


class BatchLane(StoppableLane):
    """Takes every open shard to its rows, and makes new shards of the pending requests.

    Args:
        ledger: the shards.
        clients: the services, by name and base URL: the configured ones, and those at which open shards have batches.
        dialects: the dialect of each service, by its name.
        packer: makes new shards; None if no new ones are wanted.
        reconciler: makes rows of results.
        policy: the configuration and run options for batches.
    """

    def __init__(
        self,
        ledger: Ledger,
        clients: Mapping[tuple[str, str], Client],
        dialects: Mapping[str, str],
        packer: ShardPacker | None,
        reconciler: Reconciler,
        policy: BatchPolicy,
    ) -> None:
        super().__init__(policy.grace, self._stop_sending)
        self.name = "batch"
        self.traffic = Traffic()
        self._ledger = ledger
        self._packer = packer
        self._reconciler = reconciler
        self._policy = policy
        self._drain = DrainSignal()
        self._no_api: NoBatchApi | None = None
        self._waiting: deque[Shard] = deque(ledger.open_shards)
        self._detached_count = 0
        self._running = 0
        self._shard_ended = asyncio.Event()
        self._apis = {
            (name, url): BatchApi(
                client, dialects[name], policy.batch.window, policy.retry, self._drain.sleep, self.traffic
            )
            for (name, url), client in clients.items()
        }
        poll_timer = PollTimer(policy.batch.poll.first, policy.batch.poll.ceiling, random.random)
        self._lifecycle = ShardLifecycle(ledger, self._api, reconciler, poll_timer, policy, self._drain)

    @property
    def paused(self) -> str | None:
        """Why workers wait while a service does not answer, else None."""
        return next((api.last_failure for api in self._apis.values() if api.last_failure), None)

    @property
    def in_progress(self) -> str:
        """What a drain waits for, as text."""
        return "waiting for shards that are being sent or collected"

    @property
    def state(self) -> str:
        """The state as `status.json` names it."""
        if self.draining:
            return "draining"
        if self.paused:
            return "paused"
        waits = all(shard.step == "poll" for shard in self._ledger.open_shards)
        return "waiting_batch" if waits and self._ledger.open_shards else "running"

    async def run(self) -> None:
        """Work until every shard is closed and no request is pending.

        Raises RunStopped if the lane ends before that, and NoBatchApi if the service has no Batch API. A shard that
        waits for a decision stays open and does not stop the others.
        """
        polled = sum(1 for shard in self._waiting if shard.step == "poll")
        try:
            async with create_task_group() as workers:
                self._scope = workers.cancel_scope
                # Batches that are polled already may be more than `parallel`: each gets a worker, which packs nothing.
                for number in range(max(self._policy.batch.parallel, polled)):
                    workers.start_soon(self._work, number < self._policy.batch.parallel)
        finally:
            if self._packer is not None:
                self._packer.release_all()
        if self._stopped is not None:
            raise self._stopped
        if self._no_api is not None:
            await self._drop_unsent(str(self._no_api))
            raise self._no_api
        if self._detached_count:
            raise self._detached()
        if not self._policy.cancel:
            await self._reconciler.reask()

    def _stop_sending(self) -> None:
        self._drain.set()

    async def _work(self, packs: bool) -> None:
        """Run one shard after another, until none is left or one keeps running at the service (`--detach`).

        Only workers with `packs` make new shards.
        """
        try:
            while not self._drain.is_set and self._no_api is None:
                shard = await self._next(packs)
                if shard is None:
                    return
                await self._run_shard(shard)
        except Drained:
            return
        except Detached:
            self._detached_count += 1
        except NoBatchApi as error:
            self._no_api = error
        except DatasetError as error:
            message = f"the dataset can no longer be read: {error}; run the same command again when it can"
            self.drain(RunStopped("dataset", message, exit_code=3))
        except (OSError, RunDirectoryError) as error:
            self.drain(output_failed(error), grace=0)
        except RunStopped as stop:
            self.drain(stop, grace=0 if stop.reason == "output" else None)

    async def _next(self, packs: bool) -> Shard | None:
        """Return the next shard to run, or None if there is none.

        If the budget has no room for another line, wait for running shards to end: they may release some.
        """
        while not self._waiting and packs and self._packer is not None and self._no_api is None:
            try:
                return await self._packer.next()
            except RunStopped as stop:
                if stop.reason != "budget" or not (self._running or self._detached_count):
                    raise
            if not self._running:
                return None
            await self._drain.wait_for(self._shard_ended.wait())
        return self._waiting.popleft() if self._waiting else None

    async def _run_shard(self, shard: Shard) -> None:
        self._running += 1
        try:
            await self._lifecycle.run(shard)
        finally:
            self._running -= 1
            self._shard_ended.set()
            self._shard_ended = asyncio.Event()

    def _api(self, shard: Shard) -> BatchApi:
        return self._apis[shard.endpoint_key]

    async def _drop_unsent(self, reason: str) -> None:
        for shard in self._ledger.open_shards:
            if shard.step in UNSENT_STEPS:
                await self._lifecycle.drop(shard, reason)

    def _detached(self) -> RunStopped:
        message = "run the same command again later to collect the batches' results"
        return RunStopped("detached", message, exit_code=4)
