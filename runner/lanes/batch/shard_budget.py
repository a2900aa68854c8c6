"""Reserve budget for the lines of a shard before it is submitted, and charge what they used once it is collected.

The reservation is in the shard's state file. It is released only after that file says that the shard was collected, and
after its use is on the disk. A crash in between counts too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from runner.errors import RunStopped
from runner.judge import Panel
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.result_lines import Leftover, LineResult
from runner.lanes.batch.submitted import ordinal_and_variant
from runner.limits import ZERO_SPEND, Budget, Reservation, Spend
from runner.types import Failure, JudgeRequest, JudgeResponse, Usage


class ShardBudget:
    """The batch side of the budget.

    Args:
        budget: the run's budget.
        ledger: the shards.
        panel: finds the variant of a custom_id.
    """

    def __init__(self, budget: Budget, ledger: Ledger, panel: Panel) -> None:
        self._budget = budget
        self._ledger = ledger
        self._panel = panel

    def restore(self) -> None:
        """Reserve what the state files of open shards say.

        A shard that was made without these caps is counted line by line. Raises RunDirectoryError and OSError.
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
        """Reserve for one line and return the amount, or None if the caps leave no room for it."""
        amount = self._budget.bounds[request.variant].at_most(request.body, "batch").amount
        if not self._budget.could_fit(amount):
            return None
        self._budget.reserve_shard(amount)
        return amount

    def exhausted(self, request: JudgeRequest) -> RunStopped:
        """Return why the run stops: the caps leave no room for this line."""
        return self._budget.exhausted(self._budget.bounds[request.variant].at_most(request.body, "batch").amount)

    def release(self, amount: Spend | None) -> None:
        """Release a shard's reservation, once its state file says that it is no longer needed."""
        if amount is not None:
            self._budget.release_shard(amount)

    def members_with_cost(self, shard: Shard) -> Iterator[Reservation]:
        """Yield the most that each line of a shard can use, in line order; raises RunDirectoryError."""
        bounds = self._budget.bounds
        for custom_id, body in self._ledger.read_requests(shard.number):
            yield bounds[ordinal_and_variant(self._panel, custom_id)[1]].at_most(body, "batch")

    def used(self, shard: Shard, reserved: Reservation, result: LineResult | None) -> Spend:
        """Return what one line used.

        A line without a usage count counts in full, unless the service says that it did not run the line, or it ran
        nothing of the shard at all.
        """
        if isinstance(result, JudgeResponse | Failure):
            return reserved.bound.counted(reserved, result.usage)
        if isinstance(result, Leftover) and not result.was_run:
            return ZERO_SPEND
        if result is None and was_never_run(shard):
            return ZERO_SPEND
        return reserved.bound.counted(reserved, Usage())

    async def charge(self, amount: Spend) -> None:
        """Count what a shard used; it is on the disk when this returns. Raises RunStopped if it cannot be written."""
        await self._budget.charge(amount)


def was_never_run(shard: Shard) -> bool:
    """Return True if a batch failed as a whole, or was never created."""
    return shard.ended == "failed" and shard.output_file_id is None and shard.error_file_id is None
