"""Which lane asks what is left, and the next one, until nothing is left or nobody can ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal

import msgspec

from runner.core import counted
from runner.errors import NoBatchApi, RunStopped
from runner.lanes import Lane
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import OpenRun
from runner.planning import Route

LaneName = Literal["online", "batch"]
MakeLane = Callable[[LaneName, Callable[[int], bool], Callable[[int], bool]], AbstractAsyncContextManager[Lane]]
"""Makes a lane; told by how many batches a request went unanswered in whether it is for it, or not asked any more."""


class LanePolicy(msgspec.Struct):
    """Where requests go, and which lanes turned out to be closed.

    Attributes:
        route: of what was in no batch yet.
        leftovers, resubmits: the YAML's, for what batches did not answer.
        falls_back: whether batches take over where the online quota is gone.
        online_closed: why nothing can be asked online any more.
        no_batch_api: whether the service turned out to have no Batch API.
        collects_first: whether open batches come before all else: they may give back some of a spent budget.
    """

    route: Route
    leftovers: Literal["online", "resubmit"]
    resubmits: int
    falls_back: bool
    online_closed: RunStopped | None = None
    no_batch_api: bool = False
    collects_first: bool = False

    def lane_for(self, tries: int) -> LaneName | None:
        """The lane for requests that went unanswered in so many batches; None where no lane can ask them."""
        again = tries <= self.resubmits and not self.no_batch_api
        if tries == 0:
            wanted: LaneName = self.route.lane
        else:
            wanted = "batch" if self.leftovers == "resubmit" and again else "online"
        if wanted == "batch" and self.no_batch_api:
            wanted = "online"
        if wanted == "online" and self.online_closed is not None:
            return "batch" if self.falls_back and again else None
        return wanted

    def is_final(self, tries: int) -> bool:
        """Whether a request that went unanswered in so many batches is not asked any more."""
        return self.leftovers == "resubmit" and tries > self.resubmits

    def next_lane(self, left: Mapping[int, int], collects: bool) -> LaneName | None:
        """The lane that goes next.

        Args:
            left: how many requests are left, by how many batches they went unanswered in.
            collects: whether there are batches to be collected.
        """
        wanted = {self.lane_for(tries) for tries in left} | ({"batch"} if collects else set())
        first = self.lane_for(0)
        asks_first = first == "online" and 0 in left and not self.collects_first
        order: tuple[LaneName, ...] = ("online", "batch") if asks_first else ("batch", "online")
        return next((name for name in order if name in wanted), None)

    def reason(self, name: LaneName, left: Mapping[int, int], batches: int) -> str:
        """Why that lane goes next."""
        if name == "batch" and self.online_closed is not None:
            return f"the online quota is gone for good (router.on_exhausted_quota): {self.online_closed}"
        if 0 in left and self.lane_for(0) == name:
            return self.route.reason
        count = sum(n for tries, n in left.items() if tries and self.lane_for(tries) == name)
        if count:
            requests = counted(count, "request", "requests")
            return f"{requests} that batches did not answer (router.leftovers: {self.leftovers})"
        return f"{counted(batches, 'batch', 'batches')} of this run to collect"


class LaneScheduler:
    """Runs one lane after the other over what is left.

    Attributes:
        lane: the one at work.

    Args:
        run: the run.
        manifest: told of every lane.
        policy: where requests go.
        make_lane: makes a lane.
        notify: tells the user.
    """

    def __init__(
        self,
        run: OpenRun,
        manifest: RunManifest,
        policy: LanePolicy,
        make_lane: MakeLane,
        notify: Callable[[str], None],
    ) -> None:
        self.lane: Lane | None = None
        self._open_run = run
        self._manifest = manifest
        self._policy = policy
        self._make_lane = make_lane
        self._notify = notify
        self._stopped: RunStopped | None = None
        self._batch_lane_ran = False

    @property
    def draining(self) -> bool:
        """Whether nothing new is begun any more."""
        return self._stopped is not None

    def drain(self, stop: RunStopped, grace: float | None = None) -> None:
        """End the lane at work, and begin no other."""
        if self._stopped is None:
            self._stopped = stop
        if self.lane is not None:
            self.lane.drain(stop, grace)

    def cancel(self) -> None:
        """Leave what is under way as it is, at once."""
        if self.lane is not None:
            self.lane.cancel()

    async def run(self) -> None:
        """Ask until nothing is left; raises RunStopped where it ended before that."""
        while self._stopped is None:
            left, shards = self._open_run.done.missing_by_tries(), self._collectable()
            name = self._next(left, shards)
            if name is None:
                break
            await self._run(name, self._policy.reason(name, left, shards))
        self._check_end()

    def _next(self, left: Mapping[int, int], shards: int) -> LaneName | None:
        if self._open_run.options.cancel:
            return "batch" if shards else None
        return self._policy.next_lane(left, shards > 0)

    async def _run(self, name: LaneName, reason: str) -> None:
        way = self._policy
        async with self._make_lane(name, lambda tries: way.lane_for(tries) == name, way.is_final) as lane:
            self._manifest.begin(lane, reason)
            self._notify(f"{name}: {reason}")
            self.lane = lane
            try:
                await lane.run()
            except NoBatchApi as error:
                way.no_batch_api = True
                if way.route.lane == "batch":
                    way.route = self._manifest.route = Route("online", f"the service has no Batch API: {error}")
            except RunStopped as stop:
                if name == "online" and stop.reason == "budget" and self._collectable():
                    way.collects_first = True
                elif name == "online" and stop.reason == "quota" and way.falls_back:
                    way.online_closed = stop
                else:
                    raise
            finally:
                self._batch_lane_ran = self._batch_lane_ran or name == "batch"

    def _collectable(self) -> int:
        """How many open shards are worth going on with: those that wait for a decision only once."""
        return sum(1 for shard in self._open_run.ledger.open_shards if not (self._batch_lane_ran and shard.stuck))

    def _check_end(self) -> None:
        """Raise RunStopped where requests are left that no lane could bring to their rows."""
        if self._stopped is not None:
            raise self._stopped
        done, stuck = self._open_run.done, [shard for shard in self._open_run.ledger.open_shards if shard.stuck]
        if stuck:
            raise _undecided([f"shard {shard.number}: {shard.stuck}" for shard in stuck])
        if done.missing() and self._open_run.options.cancel:
            message = (
                f"{counted(done.missing(), 'request', 'requests')} left; run the same command again to ask the rest"
            )
            raise RunStopped("cancelled", message, exit_code=4)
        if done.missing() and self._policy.online_closed is not None:
            raise self._policy.online_closed


def _undecided(why: list[str]) -> RunStopped:
    shown = "; ".join(why[:5]) + ("; ..." if len(why) > 5 else "")
    return RunStopped(
        "undecided",
        f"{counted(len(why), 'shard waits', 'shards wait')} for a decision ({shown}). All else is done. Look at the "
        "service's console; with --resubmit-unknown their requests are asked again, and may be paid for twice",
        exit_code=3,
    )
