"""The batch lane over what is left: workers pull shards and see each through to its rows."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping

from anyio import create_task_group

from runner.config import BatchConfig, RetryConfig
from runner.core import Drained, DrainSignal
from runner.errors import DatasetError, NoBatchApi, RunDirectoryError, RunStopped, output_failed
from runner.lanes import StoppableLane, Traffic
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.lifecycle import UNSENT_STEPS, BatchPolicy, Detached, ShardLifecycle
from runner.lanes.batch.packing import ShardPacker
from runner.lanes.batch.poll_timer import PollTimer
from runner.lanes.batch.reconcile import Reconciler
from runner.service import Client


class BatchLane(StoppableLane):
    """Sees every open shard through to its rows, and makes new ones of what is left.

    Args:
        ledger: the shards there are.
        clients: the services, by name and address: the present ones, and those at which open shards have batches.
        dialects: of each service, by its name.
        packer: makes new shards; None where none are wanted.
        reconciler: makes rows.
        batch, policy: the YAML's `batch` and `online.retry`.
        grace: seconds that what is under way gets when the lane is drained.
        detach: begin and collect what can be, and leave batches running.
        cancel: cancel all batches, and keep what they answered.
        resubmit_unknown: give up shards that wait for a decision; their requests are asked anew.
    """

    def __init__(
        self,
        ledger: Ledger,
        clients: Mapping[tuple[str, str], Client],
        dialects: Mapping[str, str],
        packer: ShardPacker | None,
        reconciler: Reconciler,
        *,
        batch: BatchConfig,
        policy: RetryConfig,
        grace: float,
        detach: bool = False,
        cancel: bool = False,
        resubmit_unknown: bool = False,
    ) -> None:
        super().__init__(grace, self._stop_sending)
        self.name = "batch"
        self.traffic = Traffic()
        self._ledger = ledger
        self._reconciler = reconciler
        self._cancels = cancel
        self._packer = packer
        self._parallel = batch.parallel
        self._drain = DrainSignal()
        self._no_api: NoBatchApi | None = None
        self._waiting: deque[Shard] = deque(ledger.open_shards)
        self._detached_count = 0
        self._running = 0
        self._change = asyncio.Event()
        self._apis = {
            (name, url): BatchApi(client, dialects[name], batch.window, policy, self._drain.sleep, self.traffic)
            for (name, url), client in clients.items()
        }
        pulse = PollTimer(batch.poll.first, batch.poll.ceiling, random.random)
        manner = BatchPolicy(batch.window, batch.poll.ceiling, batch.delete_files, detach, cancel, resubmit_unknown)
        self._lifecycle = ShardLifecycle(ledger, self._api, reconciler, pulse, manner, self._drain)

    @property
    def paused(self) -> str | None:
        """Why everybody waits, while the service does not answer."""
        return next((api.trouble for api in self._apis.values() if api.trouble), None)

    @property
    def in_progress(self) -> str:
        """What a drain waits for, in words."""
        return "waiting for what is being sent or collected"

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
        """Go on until every shard is closed and nothing is left to make one of.

        Raises RunStopped where it ends before that, and NoBatchApi where the service has none. A shard that waits for
        a decision stays open, and is no reason not to go on.
        """
        begun = sum(1 for shard in self._waiting if shard.step == "poll")
        try:
            async with create_task_group() as workers:
                self._scope = workers.cancel_scope
                for number in range(max(self._parallel, begun)):
                    workers.start_soon(self._work, number < self._parallel)
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
        if not self._cancels:
            await self._reconciler.reask()

    def _stop_sending(self) -> None:
        self._drain.set()

    async def _work(self, packs: bool) -> None:
        """One shard after the other, until there is none, or one stays running at the service."""
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
        """The next shard to see to; None where there is none.

        Where the budget has no room for another line, those that are out are waited for: they may give some back.
        """
        while not self._waiting and packs and self._packer is not None and self._no_api is None:
            try:
                return await self._packer.next()
            except RunStopped as stop:
                if stop.reason != "budget" or not (self._running or self._detached_count):
                    raise
            if not self._running:
                return None
            await self._drain.wait_for(self._change.wait())
        return self._waiting.popleft() if self._waiting else None

    async def _run_shard(self, shard: Shard) -> None:
        self._running += 1
        try:
            await self._lifecycle.run(shard)
        finally:
            self._running -= 1
            self._change.set()
            self._change = asyncio.Event()

    def _api(self, shard: Shard) -> BatchApi:
        return self._apis[shard.endpoint_key]

    async def _drop_unsent(self, reason: str) -> None:
        for shard in self._ledger.open_shards:
            if shard.step in UNSENT_STEPS:
                await self._lifecycle.drop(shard, reason)

    def _detached(self) -> RunStopped:
        message = "run the same command again later to collect what the batches answer"
        return RunStopped("detached", message, exit_code=4)
