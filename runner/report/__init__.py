"""The report: reads a run's Parquet files and run.json, and imports nothing of the runner but `model_names`.

`summarize` computes the numbers, `render` makes the page from them, and `write_report` writes both to disk.
docs/agreement.md defines each number, docs/report.md describes the page.
"""

from __future__ import annotations

from runner.report.data.tables import ReportError
from runner.report.models import Scales
from runner.report.page import render
from runner.report.summary import summarize
from runner.report.write import write_report

__all__ = ["ReportError", "Scales", "render", "summarize", "write_report"]
