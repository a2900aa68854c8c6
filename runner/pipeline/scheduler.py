"""Decide which lane runs next, and run it, until no request is missing or no lane can send the missing ones."""

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

# Makes a lane, given its name and two functions of the number of batches that gave a request no answer: `accept` is
# True if the lane is to send the request, `is_final` is True if the request is never sent again.
MakeLane = Callable[[LaneName, Callable[[int], bool], Callable[[int], bool]], AbstractAsyncContextManager[Lane]]


class LanePolicy(msgspec.Struct):
    """Decides by which lane requests go. The scheduler records in it which lanes turned out to be unusable.

    Attributes:
        route: the lane of requests that were in no batch yet.
        leftovers: the YAML's `router.leftovers`, for requests that batches did not answer.
        resubmits: the YAML's `batch.resubmits`, for the same requests.
        falls_back: True if batches take over once the online quota is exhausted.
        online_closed: why the online lane cannot send any more; None while it can.
        no_batch_api: True once the service has turned out to have no Batch API.
        collects_first: True if open batches are collected before everything else, because they may release reserved
            budget.
    """

    route: Route
    leftovers: Literal["online", "resubmit"]
    resubmits: int
    falls_back: bool
    online_closed: RunStopped | None = None
    no_batch_api: bool = False
    collects_first: bool = False

    def lane_for(self, tries: int) -> LaneName | None:
        """Returns the lane for requests to which `tries` batches gave no answer; None if no lane can send them."""
        can_resubmit = tries <= self.resubmits and not self.no_batch_api
        if tries == 0:
            wanted: LaneName = self.route.lane
        else:
            wanted = "batch" if self.leftovers == "resubmit" and can_resubmit else "online"
        if wanted == "batch" and self.no_batch_api:
            wanted = "online"
        if wanted == "online" and self.online_closed is not None:
            return "batch" if self.falls_back and can_resubmit else None
        return wanted

    def is_final(self, tries: int) -> bool:
        """Returns True if a request to which `tries` batches gave no answer is never sent again."""
        return self.leftovers == "resubmit" and tries > self.resubmits

    def next_lane(self, missing: Mapping[int, int], has_open_batches: bool) -> LaneName | None:
        """Returns the lane that runs next; None if no lane has anything to do.

        Args:
            missing: the number of missing requests by the number of batches that gave them no answer.
            has_open_batches: True if there are batches to collect.
        """
        wanted = {self.lane_for(tries) for tries in missing} | ({"batch"} if has_open_batches else set())
        sends_first = self.lane_for(0) == "online" and 0 in missing and not self.collects_first
        order: tuple[LaneName, ...] = ("online", "batch") if sends_first else ("batch", "online")
        return next((name for name in order if name in wanted), None)

    def reason(self, name: LaneName, missing: Mapping[int, int], batches: int) -> str:
        """Returns why lane `name` runs next, as text for the user; `batches` is the number of open batches."""
        if name == "batch" and self.online_closed is not None:
            return f"the online quota is exhausted (router.on_exhausted_quota): {self.online_closed}"
        if 0 in missing and self.lane_for(0) == name:
            return self.route.reason
        count = sum(n for tries, n in missing.items() if tries and self.lane_for(tries) == name)
        if count:
            requests = counted(count, "request", "requests")
            return f"{requests} that batches did not answer (router.leftovers: {self.leftovers})"
        return f"{counted(batches, 'batch', 'batches')} of this run to collect"


class LaneScheduler:
    """Runs each lane in turn on the remaining requests.

    Attributes:
        lane: the lane that is running or ran last; None before the first.

    Args:
        run: the run.
        manifest: records every lane.
        policy: decides by which lane requests go.
        make_lane: makes a lane.
        notify: shows a line of text to the user.
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
        self._stop: RunStopped | None = None
        self._batch_lane_ran = False

    @property
    def draining(self) -> bool:
        """True if no new request is sent any more."""
        return self._stop is not None

    def drain(self, stop: RunStopped, grace: float | None = None) -> None:
        """Drain the running lane, and start no other.

        Args:
            stop: the reason, which `run` raises at the end.
            grace: seconds that requests in flight get; None: as configured.
        """
        if self._stop is None:
            self._stop = stop
        if self.lane is not None:
            self.lane.drain(stop, grace)

    def cancel(self) -> None:
        """Stop the running lane at once, without waiting for what is in progress."""
        if self.lane is not None:
            self.lane.cancel()

    async def run(self) -> None:
        """Run lanes until no request is missing; raises RunStopped if they ended before that."""
        while self._stop is None:
            missing, open_shards = self._open_run.done.missing_by_tries(), self._collectable_shards()
            name = self._next(missing, open_shards)
            if name is None:
                break
            await self._run(name, self._policy.reason(name, missing, open_shards))
        self._check_end()

    def _next(self, missing: Mapping[int, int], open_shards: int) -> LaneName | None:
        if self._open_run.options.cancel:
            return "batch" if open_shards else None
        return self._policy.next_lane(missing, open_shards > 0)

    async def _run(self, name: LaneName, reason: str) -> None:
        policy = self._policy
        async with self._make_lane(name, lambda tries: policy.lane_for(tries) == name, policy.is_final) as lane:
            self._manifest.start_lane(lane, reason)
            self._notify(f"{name}: {reason}")
            self.lane = lane
            try:
                await lane.run()
            except NoBatchApi as error:
                policy.no_batch_api = True
                if policy.route.lane == "batch":
                    policy.route = self._manifest.route = Route("online", f"the service has no Batch API: {error}")
            except RunStopped as stop:
                if name == "online" and stop.reason == "budget" and self._collectable_shards():
                    policy.collects_first = True
                elif name == "online" and stop.reason == "quota" and policy.falls_back:
                    policy.online_closed = stop
                else:
                    raise
            finally:
                self._batch_lane_ran = self._batch_lane_ran or name == "batch"

    def _collectable_shards(self) -> int:
        """Returns the number of open shards that the batch lane can work on.

        A shard that waits for a user's decision counts only until the batch lane has run once.
        """
        return sum(1 for shard in self._open_run.ledger.open_shards if not (self._batch_lane_ran and shard.stuck))

    def _check_end(self) -> None:
        """Raise RunStopped if requests are missing that no lane can send."""
        if self._stop is not None:
            raise self._stop
        done, stuck = self._open_run.done, [shard for shard in self._open_run.ledger.open_shards if shard.stuck]
        if stuck:
            raise _undecided([f"shard {shard.number}: {shard.stuck}" for shard in stuck])
        if done.missing() and self._open_run.options.cancel:
            message = f"{counted(done.missing(), 'request', 'requests')} missing; run the same command again to resume"
            raise RunStopped("cancelled", message, exit_code=4)
        if done.missing() and self._policy.online_closed is not None:
            raise self._policy.online_closed


def _undecided(reasons: list[str]) -> RunStopped:
    shown = "; ".join(reasons[:5]) + ("; ..." if len(reasons) > 5 else "")
    return RunStopped(
        "undecided",
        f"{counted(len(reasons), 'shard waits', 'shards wait')} for a decision ({shown}). Everything else is done. "
        "Run the same command again: it looks again. If nothing changes, check the service's console; "
        "--resubmit-unknown sends their requests again, and they may be paid for twice",
        exit_code=3,
    )
