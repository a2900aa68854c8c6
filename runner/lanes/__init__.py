"""The two ways to get answers: one call per request (`online`), or the Batch API (`batch`)."""

from __future__ import annotations

from runner.lanes.base import Lane, StoppableLane, Traffic, service_stop
from runner.lanes.pending import PendingWork

__all__ = ["Lane", "PendingWork", "StoppableLane", "Traffic", "service_stop"]
