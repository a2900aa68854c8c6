"""The promise of the results again, for rows that come as blocks: `test_crash_model.py` with another way in."""

from __future__ import annotations

import crash_life
import pytest
import test_crash_model as model

from runner.results.block import Block
from runner.results.sink import Sink
from runner.types import Row

small = model.small


class InBlocks(Sink):
    """Takes each row that replaces none as a block, as results of batches come."""

    def append(self, row: Row) -> int:
        if row["custom_id"] in self._owners:
            return super().append(row)
        return self.extend_block(Block({name: [value] for name, value in row.items()}))


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_life, "Sink", InBlocks)


test_killed_anywhere = model.test_killed_anywhere
test_power_cut_anywhere = model.test_power_cut_anywhere
test_any_operation_may_fail = model.test_any_operation_may_fail
