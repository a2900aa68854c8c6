"""The two ways to get answers: one call per request (`online`), or the Batch API (`batch`)."""

from __future__ import annotations

from runner.lanes.base import Lane, StoppableLane, Traffic, service_stop
from runner.lanes.pending import PendingWork
from runner.lanes.requested_wait import RequestedWait

__all__ = ["Lane", "PendingWork", "RequestedWait", "StoppableLane", "Traffic", "service_stop"]
