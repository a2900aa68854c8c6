"""One run from start to end: open the run directory, run the lanes, write the samples and the report."""

from __future__ import annotations

from runner.pipeline.execute import arun, run
from runner.pipeline.finish import RunSummary
from runner.pipeline.report_process import write_report
from runner.pipeline.rescore import rescore_run

__all__ = ["RunSummary", "arun", "rescore_run", "run", "write_report"]
