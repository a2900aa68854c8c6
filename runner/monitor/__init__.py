"""Shows the progress of a run. It never affects the run: the results are the same without it."""

from __future__ import annotations

from runner.monitor.console import ProgressDisplay, progress_display, write_line
from runner.monitor.progress import Progress, RateMeter, eta
from runner.monitor.run_log import log_to_file
from runner.monitor.status import INACTIVE_STATES, describe, read_status

__all__ = [
    "INACTIVE_STATES",
    "Progress",
    "ProgressDisplay",
    "RateMeter",
    "describe",
    "eta",
    "log_to_file",
    "progress_display",
    "read_status",
    "write_line",
]
