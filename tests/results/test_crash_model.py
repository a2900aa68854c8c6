"""No crash at any moment loses a row or stores one twice.

A random history of a run is executed once in a real folder. Before every file operation (and in the middle of each
journal write) a snapshot of the folder is taken: that is what SIGKILL would leave. What a power cut would leave is
computed from what was fsynced by then. Each snapshot is written to a new folder, and recovery runs there.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from crash_disk import FOLDERS, Disk, ManualExecutor, unwatched, watched
from crash_model import CrashChecker, Expected, RunModel, after_kill, after_power_cut
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.errors import RunStopped
from runner.results import parts, recovery, writer


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert rows, write row groups and close parts after a few rows."""
    monkeypatch.setattr(parts, "ROW_GROUP_MAX_ROWS", 2)
    monkeypatch.setattr(writer, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr(recovery, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr(writer, "ThreadPoolExecutor", ManualExecutor)


def make_folders(base: Path) -> Path:
    root = base / "run"
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    return root


STEPS = ["ok", "ok", "fail", "fail", "replace_ok", "replace_ok", "replace_fail", "work", "sync", "reopen", "kill"]
histories = st.lists(st.sampled_from([*STEPS, "reparse"]), min_size=4, max_size=16)
LONG_HISTORY = [
    "fail",
    "ok",
    "fail",
    "ok",
    "reopen",
    "replace_ok",
    "ok",
    "replace_fail",
    "ok",
    "work",
    "sync",
    "replace_ok",
    "ok",
]
few_examples = settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few_examples
@given(steps=histories, deep=st.integers(0, 60))
@example(steps=LONG_HISTORY, deep=20)
@example(steps=["fail", "fail", "fail", "kill", "replace_ok", "replace_ok", "ok", "kill", "reparse"], deep=35)
def test_killed_anywhere(
    small_limits: None, loop: asyncio.Runner, tmp_path_factory: Any, steps: list[str], deep: int
) -> None:
    base = tmp_path_factory.mktemp("killed")
    root, checker = make_folders(base), CrashChecker(base)
    model_run: list[RunModel] = []
    last: list[Any] = [None]
    operations = count()

    def before(disk: Disk, _: str) -> None:
        snapshot, expected = disk.snapshot(), model_run[0].expected
        if disk.torn is not None:
            snapshot[disk.torn[0]] += disk.torn[1]
        if last[0] != (snapshot, expected):
            last[0] = (snapshot, expected)
            with unwatched():
                checker.check(snapshot, expected, after_kill, deep=next(operations) == deep)

    model_run.append(RunModel(root, loop))
    with watched(root, before):
        model_run[0].run_steps(steps)
    checker.check(Disk(root, before).snapshot(), model_run[0].expected, after_kill)


@few_examples
@given(
    steps=histories,
    deep=st.integers(0, 60),
    results_lag=st.booleans(),
    journal_lag=st.booleans(),
    zeros=st.booleans(),
)
@example(steps=LONG_HISTORY, deep=20, results_lag=True, journal_lag=True, zeros=False)
@example(steps=LONG_HISTORY, deep=30, results_lag=False, journal_lag=False, zeros=False)
@example(steps=["ok", "ok", "sync", "ok", "work"], deep=0, results_lag=True, journal_lag=False, zeros=True)
@example(steps=["ok", "sync", "ok"], deep=0, results_lag=True, journal_lag=True, zeros=False)
def test_power_cut_anywhere(
    small_limits: None, loop: asyncio.Runner, tmp_path_factory: Any, steps: list[str], deep: int, **left: bool
) -> None:
    base = tmp_path_factory.mktemp("dark")
    root, checker = make_folders(base), CrashChecker(base)
    model_run: list[RunModel] = []
    last: list[Any] = [None]
    operations = count()

    def before(disk: Disk, _: str) -> None:
        snapshot, expected = disk.after_power_cut(**left), model_run[0].expected
        if last[0] != (snapshot, expected):
            last[0] = (snapshot, expected)
            with unwatched():
                checker.check(snapshot, expected, after_power_cut, deep=next(operations) == deep)

    model_run.append(RunModel(root, loop))
    with watched(root, before):
        model_run[0].run_steps(steps)


@settings(few_examples, max_examples=50)
@given(
    steps=st.lists(st.sampled_from([step for step in STEPS if step != "kill"]), min_size=4, max_size=14),
    at=st.integers(0, 80),
    duration=st.integers(1, 6),
    number=st.sampled_from([errno.ENOSPC, errno.EIO]),
    aborted=st.booleans(),
)
@example(steps=LONG_HISTORY, at=9, duration=3, number=errno.ENOSPC, aborted=False)
@example(steps=["ok", "ok", "ok"], at=2, duration=2, number=errno.ENOSPC, aborted=True)
@example(steps=["ok", "ok", "ok"], at=2, duration=3, number=errno.EIO, aborted=True)
def test_any_operation_may_fail(
    small_limits: None,
    loop: asyncio.Runner,
    tmp_path_factory: Any,
    steps: list[str],
    at: int,
    duration: int,
    number: int,
    aborted: bool,
) -> None:
    """Some operations in a row fail: every row that `append` accepted is found after recovery."""
    base = tmp_path_factory.mktemp("failing")
    root, checker = make_folders(base), CrashChecker(base)
    operations = count()
    model_run = RunModel(root, loop)

    def before(disk: Disk, operation: str) -> None:
        if at <= next(operations) < at + duration:
            raise OSError(number, os.strerror(number))

    with watched(root, before):
        for step in steps:
            try:
                getattr(model_run, step)()
            except (RunStopped, OSError):
                break
    if aborted:
        model_run._writer.abort()
    else:
        model_run._thread.eager = True
        model_run._thread.catch_up()
        with suppress(RunStopped):
            loop.run(model_run._writer.close())
    checker.check(Disk(root, before).snapshot(), model_run.expected, after_failure)


def after_failure(texts: dict[str, str], expected: Expected) -> None:
    """Every accepted row is found; a refused row was truncated, and its request may be sent again."""
    assert expected.appended == texts
