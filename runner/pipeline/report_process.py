"""Run `python -m runner.report` as a child process, so that a run never imports its libraries or keeps its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from runner.config import RunConfig
from runner.errors import ReportFailed
from runner.judge import scale_of

PAGE_PATH = Path("report") / "index.html"


def write_report(config: RunConfig) -> Path:
    """Write `report/` into the run directory and return the path of its page; raises ReportFailed."""
    process = subprocess.run(
        [sys.executable, "-m", "runner.report", msgspec.json.encode(_options(config)).decode()],
        capture_output=True,
        text=True,
        start_new_session=True,  # Ctrl-C must reach only the run, which waits for this process
        check=False,
    )
    if process.returncode:
        raise ReportFailed(process.stderr.strip() or f"it ended with {process.returncode}")
    return config.output.directory / PAGE_PATH


def _options(config: RunConfig) -> dict[str, Any]:
    label = config.dataset.human_label
    scales = {judge.name: scale_of(judge) for judge in config.judges}
    return {
        "run_dir": str(config.output.directory.absolute()),
        "group_by": () if config.report is None else config.report.group_by,
        "human_scale": None if label is None else label.scale,
        "judge_scales": {name: scale for name, scale in scales.items() if scale is not None},
    }
