"""The report, made by another program: what it needs is never loaded into a run, and what it takes goes with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from runner.config import RunConfig
from runner.errors import ReportFailed
from runner.judge import scale_of

PAGE = Path("report") / "index.html"


def write_report(config: RunConfig) -> Path:
    """Write `report/` into a configuration's run directory and return the page's path; raises ReportFailed."""
    done = subprocess.run(
        [sys.executable, "-m", "runner.report", msgspec.json.encode(_options(config)).decode()],
        capture_output=True,
        text=True,
        start_new_session=True,  # Ctrl-C is for the run, which waits for this
        check=False,
    )
    if done.returncode:
        raise ReportFailed(done.stderr.strip() or f"it ended with {done.returncode}")
    return config.output.directory / PAGE


def _options(config: RunConfig) -> dict[str, Any]:
    label = config.dataset.human_label
    scales = {judge.name: scale_of(judge) for judge in config.judges}
    return {
        "run_dir": str(config.output.directory.absolute()),
        "group_by": () if config.report is None else config.report.group_by,
        "human_scale": None if label is None else label.scale,
        "judge_scales": {name: scale for name, scale in scales.items() if scale is not None},
    }
