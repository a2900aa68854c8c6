"""The batch lane: requests go to the Batch API in files, and their results are collected when each job ends."""

from __future__ import annotations

from runner.lanes.batch.grouping import BatchEndpoint, ShardGroup, group_variants
from runner.lanes.batch.lane import BatchLane
from runner.lanes.batch.ledger import Ledger
from runner.lanes.batch.notes import failed_batches
from runner.lanes.batch.packing import ShardPacker, ShardSpec, request_line
from runner.lanes.batch.policy import BatchPolicy
from runner.lanes.batch.reconcile import ReaskPolicy, Reconciler
from runner.lanes.batch.shard_budget import ShardBudget
from runner.lanes.batch.submitted import (
    batches_replacing_rows,
    compare_submitted,
    mark_submitted,
    refresh_submitted_columns,
)

__all__ = [
    "BatchEndpoint",
    "BatchLane",
    "BatchPolicy",
    "Ledger",
    "ReaskPolicy",
    "Reconciler",
    "ShardBudget",
    "ShardGroup",
    "ShardPacker",
    "ShardSpec",
    "batches_replacing_rows",
    "compare_submitted",
    "failed_batches",
    "group_variants",
    "mark_submitted",
    "refresh_submitted_columns",
    "request_line",
]
