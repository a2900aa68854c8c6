"""The batch side of the budget: a shard's lines are reserved before it is submitted, and charged when it is collected.

What is reserved stands in the shard's state file; it is given back only after that file says that the shard was
collected, and after what it took is on the disk. A crash in between counts too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from runner.errors import RunStopped
from runner.judge import Panel
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.result_lines import Leftover, LineResult
from runner.lanes.batch.submitted import place_of
from runner.limits import ZERO_SPEND, Budget, Reservation, Spend
from runner.types import JudgeRequest, JudgeResponse, Usage


class ShardBudget:
    """What the shards of a run may take, and took.

    Args:
        budget: of the run.
        ledger: the shards.
        panel: knows the requests by their names.
    """

    def __init__(self, budget: Budget, ledger: Ledger, panel: Panel) -> None:
        self._budget = budget
        self._ledger = ledger
        self._panel = panel

    def restore(self) -> None:
        """Reserve for the shards that are out what their state files say.

        One that was made without these caps is looked at line by line. Raises RunDirectoryError and OSError.
        """
        for shard in self._ledger.open_shards:
            if shard.is_collected:
                continue
            reserved = shard.reserved
            if reserved is None or not self._budget.has_reserve(reserved):
                reserved = sum((line.amount for line in self.members_with_cost(shard)), ZERO_SPEND)
                self._ledger.save(msgspec.structs.replace(shard, reserved=reserved))
            self._budget.reserve_shard(reserved)

    def reserve(self, request: JudgeRequest) -> Spend | None:
        """Reserve for one line; None where the caps leave no room for it."""
        amount = self._budget.bounds[request.variant].at_most(request.body, "batch").amount
        if not self._budget.could_fit(amount):
            return None
        self._budget.reserve_shard(amount)
        return amount

    def exhausted(self, request: JudgeRequest) -> RunStopped:
        """The run stops because the caps leave no room for this line."""
        return self._budget.exhausted(self._budget.bounds[request.variant].at_most(request.body, "batch").amount)

    def release(self, amount: Spend | None) -> None:
        """Give back what was reserved for a shard, once its state file says so."""
        if amount is not None:
            self._budget.release_shard(amount)

    def members_with_cost(self, shard: Shard) -> Iterator[Reservation]:
        """What each line of a shard can take at most, in their order."""
        bounds = self._budget.bounds
        for custom_id, body in self._ledger.read_requests(shard.number):
            yield bounds[place_of(self._panel, custom_id)[1]].at_most(body, "batch")

    def used(self, shard: Shard, reserved: Reservation, finding: LineResult | None) -> Spend:
        """What one line took.

        A line without a count is taken in full, but where the service says that it was not run, or ran nothing at all.
        """
        if isinstance(finding, JudgeResponse):
            return reserved.bound.counted(reserved, finding.usage)
        if isinstance(finding, Leftover) and not finding.was_run:
            return ZERO_SPEND
        if finding is None and was_never_run(shard):
            return ZERO_SPEND
        return reserved.bound.counted(reserved, Usage())

    async def charge(self, amount: Spend) -> None:
        """Count what a shard took; when this returns, it is on the disk. Raises RunStopped where it cannot be."""
        await self._budget.charge(amount)


def was_never_run(shard: Shard) -> bool:
    """Whether a batch failed as a whole, or never came to be."""
    return shard.ended == "failed" and shard.output_file_id is None and shard.error_file_id is None
