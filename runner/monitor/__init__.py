"""Watches a run, never steers it: without this package the results are the same."""

from __future__ import annotations

from runner.monitor.console import ProgressDisplay, watcher
from runner.monitor.progress import Progress, RateMeter, eta
from runner.monitor.run_log import logged_to
from runner.monitor.status import INACTIVE_STATES, describe, read_status

__all__ = [
    "INACTIVE_STATES",
    "Progress",
    "ProgressDisplay",
    "RateMeter",
    "describe",
    "eta",
    "logged_to",
    "read_status",
    "watcher",
]
