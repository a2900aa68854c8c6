"""Write the report to disk: `report/summary.json` and `report/index.html` in the run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from runner.report.models import Scales
from runner.report.page import render
from runner.report.summary import summarize


def write_report(
    run_dir: Path, group_by: Sequence[str] = (), scales: Scales | None = None, journal: str | None = None
) -> Path:
    """Summarize a run and write its numbers and its page. Each existing file is replaced atomically.

    Args:
        run_dir: the run directory.
        group_by: as in `summarize`.
        scales: as in `summarize`.
        journal: as in `summarize`.

    Returns the path of the page.

    Raises:
        ReportError: there is no run, a grouping column does not exist, or a file cannot be read.
        OSError: the report cannot be written.
    """
    summary = summarize(run_dir, group_by, scales, journal=journal)
    page = render(summary)
    folder = run_dir / "report"
    folder.mkdir(exist_ok=True)
    numbers = msgspec.json.format(msgspec.json.encode(summary), indent=1)
    _replace(folder / "summary.json", numbers + b"\n")
    _replace(folder / "index.html", page.encode())
    return folder / "index.html"


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
