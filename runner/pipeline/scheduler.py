"""Which lane asks what is left, and the next one, until nothing is left or nobody can ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal

import msgspec

from runner.core.text import counted
from runner.errors import NoBatchApi, RunStopped
from runner.lanes.base import Lane
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import OpenRun
from runner.planning.routing import Route

LaneName = Literal["online", "batch"]
MakeLane = Callable[[LaneName, Callable[[int], bool], Callable[[int], bool]], AbstractAsyncContextManager[Lane]]
"""Makes a lane; told by how many batches a request went unanswered in whether it is for it, or not asked any more."""


class LanePolicy(msgspec.Struct):
    """Where requests go, and which lanes turned out to be closed.

    Attributes:
        route: of what was in no batch yet.
        leftovers, resubmits: the YAML's, for what batches did not answer.
        falls_back: whether batches take over where the online quota is gone.
        online_gone: why nothing can be asked online any more.
        batch_gone: whether the service turned out to have no Batch API.
        collects_first: whether open batches come before all else: they may give back some of a spent budget.
    """

    route: Route
    leftovers: Literal["online", "resubmit"]
    resubmits: int
    falls_back: bool
    online_gone: RunStopped | None = None
    batch_gone: bool = False
    collects_first: bool = False

    def lane_of(self, tries: int) -> LaneName | None:
        """The lane for requests that went unanswered in so many batches; None where no lane can ask them."""
        again = tries <= self.resubmits and not self.batch_gone
        if tries == 0:
            wanted: LaneName = self.route.lane
        else:
            wanted = "batch" if self.leftovers == "resubmit" and again else "online"
        if wanted == "batch" and self.batch_gone:
            wanted = "online"
        if wanted == "online" and self.online_gone is not None:
            return "batch" if self.falls_back and again else None
        return wanted

    def gives_up(self, tries: int) -> bool:
        """Whether a request that went unanswered in so many batches is not asked any more."""
        return self.leftovers == "resubmit" and tries > self.resubmits

    def next(self, left: Mapping[int, int], collects: bool) -> LaneName | None:
        """The lane that goes next.

        Args:
            left: how many requests are left, by how many batches they went unanswered in.
            collects: whether there are batches to be collected.
        """
        wanted = {self.lane_of(tries) for tries in left} | ({"batch"} if collects else set())
        first = self.lane_of(0)
        asks_first = first == "online" and 0 in left and not self.collects_first
        order: tuple[LaneName, ...] = ("online", "batch") if asks_first else ("batch", "online")
        return next((name for name in order if name in wanted), None)

    def reason(self, name: LaneName, left: Mapping[int, int], batches: int) -> str:
        """Why that lane goes next."""
        if name == "batch" and self.online_gone is not None:
            return f"the online quota is gone for good (router.on_exhausted_quota): {self.online_gone}"
        if 0 in left and self.lane_of(0) == name:
            return self.route.reason
        count = sum(n for tries, n in left.items() if tries and self.lane_of(tries) == name)
        if count:
            requests = counted(count, "request", "requests")
            return f"{requests} that batches did not answer (router.leftovers: {self.leftovers})"
        return f"{counted(batches, 'batch', 'batches')} of this run to collect"


class LaneScheduler:
    """Runs one lane after the other over what is left.

    Attributes:
        lane: the one at work.

    Args:
        opened: the run.
        record: told of every lane.
        way: where requests go.
        make: makes a lane.
        say: tells the user.
    """

    def __init__(
        self, opened: OpenRun, record: RunManifest, way: LanePolicy, make: MakeLane, say: Callable[[str], None]
    ) -> None:
        self.lane: Lane | None = None
        self._opened = opened
        self._record = record
        self._way = way
        self._make = make
        self._say = say
        self._stopped: RunStopped | None = None
        self._looked = False

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
            left, shards = self._opened.done.missing_by_tries(), self._collectable()
            name = self._next(left, shards)
            if name is None:
                break
            await self._run(name, self._way.reason(name, left, shards))
        self._check_end()

    def _next(self, left: Mapping[int, int], shards: int) -> LaneName | None:
        if self._opened.options.cancel:
            return "batch" if shards else None
        return self._way.next(left, shards > 0)

    async def _run(self, name: LaneName, reason: str) -> None:
        way = self._way
        async with self._make(name, lambda tries: way.lane_of(tries) == name, way.gives_up) as lane:
            self._record.begin(lane, reason)
            self._say(f"{name}: {reason}")
            self.lane = lane
            try:
                await lane.run()
            except NoBatchApi as error:
                way.batch_gone = True
                if way.route.lane == "batch":
                    way.route = self._record.route = Route("online", f"the service has no Batch API: {error}")
            except RunStopped as stop:
                if name == "online" and stop.reason == "budget" and self._collectable():
                    way.collects_first = True
                elif name == "online" and stop.reason == "quota" and way.falls_back:
                    way.online_gone = stop
                else:
                    raise
            finally:
                self._looked = self._looked or name == "batch"

    def _collectable(self) -> int:
        """How many open shards are worth going on with: those that wait for a decision only once."""
        return sum(1 for shard in self._opened.ledger.open if not (self._looked and shard.stuck))

    def _check_end(self) -> None:
        """Raise RunStopped where requests are left that no lane could bring to their rows."""
        if self._stopped is not None:
            raise self._stopped
        done, stuck = self._opened.done, [shard for shard in self._opened.ledger.open if shard.stuck]
        if stuck:
            raise _undecided([f"shard {shard.number}: {shard.stuck}" for shard in stuck])
        if done.missing() and self._opened.options.cancel:
            message = (
                f"{counted(done.missing(), 'request', 'requests')} left; run the same command again to ask the rest"
            )
            raise RunStopped("cancelled", message, exit_code=4)
        if done.missing() and self._way.online_gone is not None:
            raise self._way.online_gone


def _undecided(why: list[str]) -> RunStopped:
    shown = "; ".join(why[:5]) + ("; ..." if len(why) > 5 else "")
    return RunStopped(
        "undecided",
        f"{counted(len(why), 'shard waits', 'shards wait')} for a decision ({shown}). All else is done. Look at the "
        "service's console; with --resubmit-unknown their requests are asked again, and may be paid for twice",
        exit_code=3,
    )
