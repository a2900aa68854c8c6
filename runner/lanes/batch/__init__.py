"""The Batch API: requests in files, collected when the service is done."""

from __future__ import annotations

from runner.lanes.batch.grouping import BatchEndpoint, ShardGroup, group_variants
from runner.lanes.batch.lane import BatchLane
from runner.lanes.batch.ledger import Ledger
from runner.lanes.batch.packing import ShardPacker, line_of
from runner.lanes.batch.reconcile import Reconciler
from runner.lanes.batch.shard_budget import ShardBudget
from runner.lanes.batch.submitted import claim, compare, refresh, replaced

__all__ = [
    "BatchEndpoint",
    "BatchLane",
    "Ledger",
    "Reconciler",
    "ShardBudget",
    "ShardGroup",
    "ShardPacker",
    "claim",
    "compare",
    "group_variants",
    "line_of",
    "refresh",
    "replaced",
]
