"""The online lane: one call per request, from a pool of workers for each service."""

from __future__ import annotations

from runner.lanes.online.lane import OnlineLane
from runner.lanes.online.spec import BackendSpec, OnlinePolicy

__all__ = ["BackendSpec", "OnlineLane", "OnlinePolicy"]
