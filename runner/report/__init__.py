"""The report: reads Parquet and run.json, and imports nothing of the runner.

`summarize` makes the numbers; docs/agreement.md says what each of them is.
"""

from __future__ import annotations

from runner.report.shapes import Scales
from runner.report.summary import summarize
from runner.report.tables import ReportError

__all__ = ["ReportError", "Scales", "summarize"]
