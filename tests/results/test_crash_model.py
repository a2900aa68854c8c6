"""The promise of the results, driven: whatever ends the process at whatever moment, no row is lost and none is twice.

A random history of a run is played once on a real folder. Before every file operation (and in the middle of each
journal write) the folder is photographed: that is what SIGKILL would leave there. What a power cut would leave is
worked out from what was fsynced by then. Each picture is laid out again and given to a new process's first steps.
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
from crash_disk import FOLDERS, Disk, Slow, unwatched, watched
from crash_model import Expected, Laboratory, Life, after_kill, after_power_cut
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.errors import RunStopped
from runner.results import parts, recovery, writer


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens after a few rows: conversion, row groups, parts."""
    monkeypatch.setattr(parts, "ROW_GROUP_MAX_ROWS", 2)
    monkeypatch.setattr(writer, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr(recovery, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr(writer, "ThreadPoolExecutor", Slow)


def begin(base: Path) -> Path:
    root = base / "run"
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    return root


STEPS = ["ok", "ok", "fail", "fail", "replace_ok", "replace_ok", "replace_fail", "work", "sync", "reopen", "kill"]
histories = st.lists(st.sampled_from([*STEPS, "read_again"]), min_size=4, max_size=16)
BUSY = [
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
model = settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@model
@given(steps=histories, deep=st.integers(0, 60))
@example(steps=BUSY, deep=20)
@example(steps=["fail", "fail", "fail", "kill", "replace_ok", "replace_ok", "ok", "kill", "read_again"], deep=35)
def test_killed_anywhere(small: None, loop: asyncio.Runner, tmp_path_factory: Any, steps: list[str], deep: int) -> None:
    base = tmp_path_factory.mktemp("killed")
    root, laboratory = begin(base), Laboratory(base)
    life: list[Life] = []
    last: list[Any] = [None]
    moments = count()

    def before(disk: Disk, _: str) -> None:
        picture, expected = disk.picture(), life[0].expected
        if disk.torn is not None:
            picture[disk.torn[0]] += disk.torn[1]
        if last[0] != (picture, expected):
            last[0] = (picture, expected)
            with unwatched():
                laboratory.check(picture, expected, after_kill, deep=next(moments) == deep)

    life.append(Life(root, loop))
    with watched(root, before):
        life[0].play(steps)
    laboratory.check(Disk(root, before).picture(), life[0].expected, after_kill)


@model
@given(
    steps=histories,
    deep=st.integers(0, 60),
    results_lag=st.booleans(),
    journal_lag=st.booleans(),
    zeros=st.booleans(),
)
@example(steps=BUSY, deep=20, results_lag=True, journal_lag=True, zeros=False)
@example(steps=BUSY, deep=30, results_lag=False, journal_lag=False, zeros=False)
@example(steps=["ok", "ok", "sync", "ok", "work"], deep=0, results_lag=True, journal_lag=False, zeros=True)
@example(steps=["ok", "sync", "ok"], deep=0, results_lag=True, journal_lag=True, zeros=False)
def test_power_cut_anywhere(
    small: None, loop: asyncio.Runner, tmp_path_factory: Any, steps: list[str], deep: int, **left: bool
) -> None:
    base = tmp_path_factory.mktemp("dark")
    root, laboratory = begin(base), Laboratory(base)
    life: list[Life] = []
    last: list[Any] = [None]
    moments = count()

    def before(disk: Disk, _: str) -> None:
        picture, expected = disk.after_power_cut(**left), life[0].expected
        if last[0] != (picture, expected):
            last[0] = (picture, expected)
            with unwatched():
                laboratory.check(picture, expected, after_power_cut, deep=next(moments) == deep)

    life.append(Life(root, loop))
    with watched(root, before):
        life[0].play(steps)


@settings(model, max_examples=50)
@given(
    steps=st.lists(st.sampled_from([step for step in STEPS if step != "kill"]), min_size=4, max_size=14),
    at=st.integers(0, 80),
    lasting=st.integers(1, 6),
    number=st.sampled_from([errno.ENOSPC, errno.EIO]),
    hurried=st.booleans(),
)
@example(steps=BUSY, at=9, lasting=3, number=errno.ENOSPC, hurried=False)
@example(steps=["ok", "ok", "ok"], at=2, lasting=2, number=errno.ENOSPC, hurried=True)
@example(steps=["ok", "ok", "ok"], at=2, lasting=3, number=errno.EIO, hurried=True)
def test_any_operation_may_fail(
    small: None,
    loop: asyncio.Runner,
    tmp_path_factory: Any,
    steps: list[str],
    at: int,
    lasting: int,
    number: int,
    hurried: bool,
) -> None:
    """Operations fail for a while: whatever is said then, what `append` took is there after the next start."""
    base = tmp_path_factory.mktemp("failing")
    root, laboratory = begin(base), Laboratory(base)
    moments = count()
    life = Life(root, loop)

    def before(disk: Disk, operation: str) -> None:
        if at <= next(moments) < at + lasting:
            raise OSError(number, os.strerror(number))

    with watched(root, before):
        for step in steps:
            try:
                getattr(life, step)()
            except (RunStopped, OSError):
                break
    if hurried:
        life._sink.abort()
    else:
        life._thread.eager = True
        life._thread.catch_up()
        with suppress(RunStopped):
            loop.run(life._sink.close())
    laboratory.check(Disk(root, before).picture(), life.expected, after_failure)


def after_failure(texts: dict[str, str], expected: Expected) -> None:
    """Every row that was taken is there; one that was refused was taken back, and may be asked again."""
    assert expected.kept == texts
