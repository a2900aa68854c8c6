"""The report: reads Parquet and run.json, and imports nothing of the runner.

`summarize` makes the numbers, `render` the page from them, `write_report` both on the disk; docs/agreement.md says what
each number is, docs/report.md what the page shows.
"""

from __future__ import annotations

from runner.report.data.tables import ReportError
from runner.report.models import Scales
from runner.report.page import render
from runner.report.summary import summarize
from runner.report.write import write_report

__all__ = ["ReportError", "Scales", "render", "summarize", "write_report"]
