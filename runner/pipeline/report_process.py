"""Run `python -m runner.report` as a child process, so that a run never imports its libraries or keeps its memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.config import RunConfig
from runner.core import python_command
from runner.errors import ReportFailed
from runner.judge import scale_of
from runner.results import RunDirectory, check_parts, export_journal

PAGE_PATH = Path("report") / "index.html"


def write_report(config: RunConfig) -> Path:
    """Write `report/` into the run directory and return the path of its page; raises ReportFailed.

    Rows of the journal that are in no part yet are included. Raises RunDirectoryError if a part is damaged or a request
    has several rows.
    """
    check_parts(config.output.directory / "results")
    with _temporary_folder() as folder:
        journal = Path(folder) / "journal.parquet"
        try:
            rows = export_journal(RunDirectory(config.output.directory), journal)
        except OSError as error:
            raise ReportFailed(f"the rows of the journal cannot be read: {error.strerror or error}") from error
        _run_report({**_options(config), "journal": str(journal) if rows else ""})
    return config.output.directory / PAGE_PATH


@contextmanager
def _temporary_folder() -> Iterator[str]:
    try:
        folder = tempfile.mkdtemp(prefix="judge-runner-")
    except OSError as error:
        raise ReportFailed(f"a temporary folder cannot be made: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_report(options: dict[str, Any]) -> None:
    try:
        process = subprocess.run(
            python_command("runner.report", json.dumps(options)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C must reach only the run, which waits for this process
            check=False,
        )
    except OSError as error:
        raise ReportFailed(f"its process cannot be started: {error.strerror or error}") from error
    if process.returncode:
        raise ReportFailed(process.stderr.strip() or f"its process ended with {process.returncode}")


def _options(config: RunConfig) -> dict[str, Any]:
    label = config.dataset.human_label
    scales = {judge.name: scale_of(judge) for judge in config.judges}
    return {
        "run_dir": str(config.output.directory.absolute()),
        "group_by": () if config.report is None else config.report.group_by,
        "human_scale": None if label is None else label.scale,
        "judge_scales": {name: scale for name, scale in scales.items() if scale is not None},
    }
