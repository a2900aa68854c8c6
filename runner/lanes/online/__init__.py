"""The online lane: one call per request, from a pool of workers for each service."""

from __future__ import annotations

from runner.lanes.online.backend_spec import BackendSpec, OnlinePolicy
from runner.lanes.online.lane import OnlineLane

__all__ = ["BackendSpec", "OnlineLane", "OnlinePolicy"]
