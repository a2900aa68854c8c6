"""One call for each request, by a pool of workers."""

from __future__ import annotations

from runner.lanes.online.backend import BackendSpec, OnlinePolicy
from runner.lanes.online.lane import OnlineLane

__all__ = ["BackendSpec", "OnlineLane", "OnlinePolicy"]
