"""The promise of the results, driven: whatever ends the process at whatever moment, no row is lost and none is twice.

A random history of a run is played once on a real folder. Before every file operation (and in the middle of each
journal write) the folder is photographed: that is what SIGKILL would leave there. What a power cut would leave is
worked out from what was fsynced by then. Each picture is laid out again and given to a new process's first steps.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from result_rows import make

from runner.config import JudgeConfig
from runner.errors import RunStopped
from runner.judge import Panel
from runner.reread import Again, reread
from runner.results import parts, resume, sink
from runner.results.directory import RunDirectory
from runner.results.recorder import no_price
from runner.results.resume import Done, recover, scan
from runner.results.schema import results_schema
from runner.results.sink import Sink
from runner.results.view import rows_so_far

SCHEMA = results_schema(())
VARIANTS = {("j", False, 0): 0}
SAMPLES = 40
EVERY = 4
ROWS_PER_PART = 3
FOLDERS = ("results", "journal")

Picture = dict[str, bytes]
"""The files of a run directory by their relative names."""


class Slow(Executor):
    """The sink's thread, working only when it is told to; so histories can be played again exactly."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.eager = False
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: work(*args, **kwargs)))
        if self.eager:
            self.catch_up()
        return future

    def catch_up(self, most: int = 1000) -> None:
        """Do what waits, oldest first."""
        while self._waiting and most > 0:
            future, work = self._waiting.pop(0)
            most -= 1
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - as a real thread pool does
                future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future, _ in self._waiting:
                future.cancel()
        self.catch_up()


class Disk:
    """Watches the file operations below a folder, and knows what of it a power cut would leave."""

    def __init__(self, root: Path, before: Callable[[Disk, str], None]) -> None:
        self.root = root
        self.torn: tuple[str, bytes] | None = None
        self._before = before
        self._paths: dict[int, Path] = {}
        self._pins: list[int] = []
        self._synced: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        for folder in FOLDERS:
            self._names[folder] = self._listing(folder)
            for name, inode in self._names[folder].items():
                self._synced[inode] = (root / folder / name).read_bytes()
                self._pins.append(os.open(root / folder / name, os.O_RDONLY))

    def picture(self) -> Picture:
        """What SIGKILL would leave just now."""
        return {f"{f}/{name}": (self.root / f / name).read_bytes() for f in FOLDERS for name in self._listing(f)}

    def after_power_cut(self, *, results_lag: bool, journal_lag: bool, zeros: bool) -> Picture:
        """What a power cut would leave: what was fsynced of each file, and a folder's names as they are or were."""
        left = {}
        for folder, lag in zip(FOLDERS, (results_lag, journal_lag), strict=True):
            now = self._listing(folder)
            for name, inode in (self._names[folder] if lag else now).items():
                kept = self._synced.get(inode, b"")
                grown = (self.root / folder / name).stat().st_size - len(kept) if now.get(name) == inode else 0
                left[f"{folder}/{name}"] = kept + bytes(max(0, grown)) if zeros else kept
        return left

    def _listing(self, folder: str) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.root / folder)}

    def _note_synced(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            if path.name in self._names:
                self._names[path.name] = self._listing(path.name)
        elif path.exists():
            self._synced[os.fstat(handle).st_ino] = path.read_bytes()
            self._pins.append(os.dup(handle))

    def close(self) -> None:
        """Let go of the inodes that were kept from being used again."""
        for pin in self._pins:
            REAL["close"](pin)

    def tell(self, operation: str, handle: int | None = None, line: bytes = b"") -> None:
        """Something is about to happen."""
        self._before(self, operation)
        if operation == "write" and handle is not None:
            name = str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(self.root))
            self.torn = (name, line[: len(line) // 2])
            self._before(self, "half a write")
            self.torn = None


REAL = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate", "open", "replace", "unlink", "close")}
WRITER = {name: getattr(pq.ParquetWriter, name) for name in ("__init__", "write_table", "close")}


@contextmanager
def watched(root: Path, before: Callable[[Disk, str], None]) -> Iterator[None]:
    """Tell of every file operation that the results make, before it happens."""
    disk = Disk(root, before)

    def plain(name: str) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            disk.tell(name)
            return REAL[name](*args, **kwargs)

        return operation

    def write(handle: int, line: bytes) -> int:
        disk.tell("write", handle, line)
        return int(REAL["write"](handle, line))

    def fsync(handle: int) -> None:
        disk.tell("fsync")
        REAL["fsync"](handle)
        disk._note_synced(handle)

    def parquet(name: str) -> Callable[..., Any]:
        def operation(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if name != "close" or writer.is_open:
                disk.tell(f"parquet {name}")
            return WRITER[name](writer, *args, **kwargs)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ftruncate", "open", "replace", "unlink"):
            patch.setattr(os, name, plain(name))
        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", fsync)
        for name in WRITER:
            patch.setattr(pq.ParquetWriter, name, parquet(name))
        try:
            yield
        finally:
            disk.close()


class Expected(NamedTuple):
    """What must be found after a cut.

    Attributes:
        kept: the newest text of every request whose `append` returned.
        flying: the row that is being appended, which may be there or not.
        synced: how many texts of each request were on the disk for sure.
        versions: all texts of each request, oldest first, the flying one included.
        readings: which picks of a number the scores may come from.
    """

    kept: dict[str, str]
    flying: tuple[str, str] | None
    synced: dict[str, int]
    versions: dict[str, list[str]]
    readings: frozenset[str]


def score_of(text: str, pick: str) -> float:
    return float(text.split()[0 if pick == "first" else -1])


def again(pick: str) -> Again:
    judge = JudgeConfig.model_validate(
        {
            "name": "j",
            "kind": "template",
            "model": "m",
            "user": "{question}",
            "verdict": {"pattern": r"(\d+)", "kind": "score", "pick": pick},
        }
    )
    return Again(Panel([judge]), VARIANTS, (no_price,), None)


class Life:
    """One run directory's life: sessions that append, and what is to be expected of it at each moment."""

    def __init__(self, root: Path, loop: asyncio.Runner) -> None:
        self.root = root
        self._loop = loop
        self._texts = count(1)
        self._pick = "first"
        self._kept: dict[str, str] = {}
        self._versions: dict[str, list[str]] = {}
        self._synced: dict[str, int] = {}
        self._flying: tuple[str, str] | None = None
        self._readings = frozenset({"first"})
        self.refused = 0
        self._open(0)

    @property
    def expected(self) -> Expected:
        versions = {name: [*texts] for name, texts in self._versions.items()}
        return Expected({**self._kept}, self._flying, {**self._synced}, versions, self._readings)

    def play(self, steps: list[str]) -> None:
        for step in [*steps, "reopen"]:
            getattr(self, step)()

    def ok(self) -> None:
        self._append(self._next_fresh(), "ok")

    def fail(self) -> None:
        self._append(self._next_fresh(), "failed")

    def replace_ok(self) -> None:
        self._append(self._next_again(), "ok")

    def replace_fail(self) -> None:
        self._append(self._next_again(), "failed")

    def work(self) -> None:
        self._thread.catch_up(1)

    def sync(self) -> None:
        self._thread.eager = True
        self._thread.catch_up()
        before = {name: len(texts) for name, texts in self._versions.items()}
        self._loop.run(self._sink.sync())
        self._synced = before
        self._thread.eager = False

    def reopen(self) -> None:
        self._thread.eager = True
        self._thread.catch_up()
        self._loop.run(self._sink.close())
        self._synced = {name: len(texts) for name, texts in self._versions.items()}
        self._open(recover(self.root, SCHEMA, "zstd"))

    def kill(self) -> None:
        self._open(recover(self.root, SCHEMA, "zstd"))

    def read_again(self) -> None:
        self.reopen()
        pick = "last" if self._pick == "first" else "first"
        self._readings = frozenset({self._pick, pick})
        reread(self.root / "results", SCHEMA, "zstd", again(pick))
        self._pick, self._readings = pick, frozenset({pick})

    def _open(self, first: int) -> None:
        self._done: Done = scan(self.root, SAMPLES, VARIANTS)
        self._wanted = [*self._done.owners]
        self._sink = Sink(self.root, SCHEMA, first, ROWS_PER_PART, "zstd", self._done.owners)
        self._thread: Any = self._sink._thread

    def _next_fresh(self) -> str | None:
        return f"{len(self._versions)}-j-o-0" if len(self._versions) < SAMPLES else None

    def _next_again(self) -> str | None:
        return self._wanted.pop() if self._wanted else None

    def _append(self, custom_id: str | None, status: str) -> None:
        if custom_id is None:
            return
        number = next(self._texts)
        text = f"{number} {number + 100}"
        row = make(int(custom_id.split("-")[0]), text, status=status, score=None)
        if status == "failed":
            row.update(error_type="timeout", dimensions=None)
        else:
            row["score"] = score_of(text, self._pick)
        self._flying = (custom_id, text)
        self._versions.setdefault(custom_id, []).append(text)
        try:
            self._sink.append(row)
        except RunStopped:
            self.refused += 1
            return
        finally:
            self._flying = None
        self._kept[custom_id] = text


def rows_in_parts(root: Path) -> list[dict[str, Any]]:
    """All rows of the closed parts; fails where one cannot be read."""
    return [row for path in sorted((root / "results").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def found(rows: list[dict[str, Any]], readings: frozenset[str]) -> dict[str, str]:
    """Texts by custom_id; none may be there twice, and each score must be its own text's."""
    twice = [name for name, times in Counter(row["custom_id"] for row in rows).items() if times > 1]
    assert not twice, f"twice: {twice}"
    for row in rows:
        if row["status"] == "ok":
            assert row["score"] in {score_of(row["response"], pick) for pick in readings}
    return {row["custom_id"]: row["response"] for row in rows}


def as_seen(root: Path) -> list[dict[str, Any]]:
    with rows_so_far(RunDirectory(root)) as (_, chunks):
        return [row for chunk in chunks for row in chunk]


def after_kill(texts: dict[str, str], expected: Expected) -> None:
    """Every row that was appended is there with its newest text; the one under way may be."""
    allowed = dict(expected.kept)
    if expected.flying is not None and texts.get(expected.flying[0]) == expected.flying[1]:
        allowed[expected.flying[0]] = expected.flying[1]
    assert texts == allowed


def after_power_cut(texts: dict[str, str], expected: Expected) -> None:
    """Every row that was synced is there, as it was then or newer; what else is there was once appended."""
    for name, text in texts.items():
        assert expected.versions[name].index(text) + 1 >= expected.synced.get(name, 0)
    assert expected.synced.keys() <= texts.keys()


Judge = Callable[[dict[str, str], Expected], None]


class Laboratory:
    """Lays pictures out again and lets a new process begin there."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._number = count()
        self.looked_at = 0

    def check(self, picture: Picture, expected: Expected, judge: Judge, *, deep: bool = False) -> None:
        """Before recovery, after it, after another one; with `deep` also after it was cut at each of its steps."""
        self.looked_at += 1
        root = self._lay_out(picture)
        found(rows_in_parts(root), expected.readings)
        judge(found(as_seen(root), expected.readings), expected)
        if deep:
            self._check_cuts_of_recovery(root, expected, judge)
        first = recover(root, SCHEMA, "zstd")
        texts = found(rows_in_parts(root), expected.readings)
        judge(texts, expected)
        assert found(as_seen(root), expected.readings) == texts
        assert sorted(path.name for path in root.glob("*/*") if path.suffix != ".parquet") == []
        if self.looked_at % EVERY == 0:
            self._go_on(root, texts, first)

    def _go_on(self, root: Path, texts: dict[str, str], first: int) -> None:
        """Recovery again changes nothing, what is left is right, and the answers can be read again."""
        names = sorted(path.name for path in root.glob("*/*"))
        assert recover(root, SCHEMA, "zstd") <= first  # the number of a segment without a row is free again
        assert sorted(path.name for path in root.glob("*/*")) == names
        done = scan(root, SAMPLES, VARIANTS)
        failed = {row["custom_id"] for row in rows_in_parts(root) if row["status"] == "failed"}
        assert done.owners.keys() == failed
        assert done.missing() == SAMPLES - len(texts) + len(failed)
        reread(root / "results", SCHEMA, "zstd", again("last"))
        assert found(rows_in_parts(root), frozenset({"last"})) == texts

    def _check_cuts_of_recovery(self, root: Path, expected: Expected, judge: Judge) -> None:
        cuts: list[Picture] = []
        with watched(root, lambda disk, _: cuts.extend(pictures_of(disk))):
            recover(root, SCHEMA, "zstd")
        for cut in unlike(cuts):
            self.check(cut, expected, judge)

    def _lay_out(self, picture: Picture) -> Path:
        root = self._base / str(next(self._number))
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        for name, content in picture.items():
            (root / name).write_bytes(content)
        return root


def unlike(pictures: list[Picture]) -> list[Picture]:
    """Each picture once."""
    return [picture for index, picture in enumerate(pictures) if picture not in pictures[:index]]


def pictures_of(disk: Disk) -> list[Picture]:
    """What may be left if everything ends here: killed, or without power."""
    return [disk.picture(), disk.after_power_cut(results_lag=True, journal_lag=True, zeros=False)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens after a few rows: conversion, row groups, parts."""
    monkeypatch.setattr(parts, "GROUP_ROWS", 2)
    monkeypatch.setattr(sink, "BATCH_ROWS", 1)
    monkeypatch.setattr(resume, "BATCH_ROWS", 1)
    monkeypatch.setattr(sink, "ThreadPoolExecutor", Slow)


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
model = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


@contextmanager
def unwatched() -> Iterator[None]:
    """Let the laboratory use the real operations while a history is being watched."""
    with pytest.MonkeyPatch.context() as patch:
        for name, operation in REAL.items():
            patch.setattr(os, name, operation)
        patch.setattr(os, "fsync", lambda handle: None)
        for name, operation in WRITER.items():
            patch.setattr(pq.ParquetWriter, name, operation)
        yield


@settings(model, max_examples=50)
@given(
    steps=st.lists(st.sampled_from([step for step in STEPS if step != "kill"]), min_size=4, max_size=14),
    at=st.integers(0, 80),
    lasting=st.integers(1, 6),
    number=st.sampled_from([errno.ENOSPC, errno.EIO]),
)
@example(steps=BUSY, at=9, lasting=3, number=errno.ENOSPC)
def test_any_operation_may_fail(
    small: None, loop: asyncio.Runner, tmp_path_factory: Any, steps: list[str], at: int, lasting: int, number: int
) -> None:
    """Operations fail for a while: whatever is said then, what `append` took is there after the next start."""
    base = tmp_path_factory.mktemp("failing")
    root, laboratory = begin(base), Laboratory(base)
    moments = count()
    life = Life(root, loop)

    def before(disk: Disk, operation: str) -> None:
        if operation != "half a write" and at <= next(moments) < at + lasting:
            if operation == "write" and at % 2:
                return
            raise OSError(number, os.strerror(number))

    with watched(root, before):
        for step in steps:
            try:
                getattr(life, step)()
            except (RunStopped, OSError):
                break
        else:
            step = "reopen"
    try:
        life._thread.eager = True
        life._thread.catch_up()
        loop.run(life._sink.close())
    except RunStopped as stop:
        assert (stop.reason, stop.exit_code) == ("output", 3)
    laboratory.check(Disk(root, before).picture(), life.expected, after_failure)


def after_failure(texts: dict[str, str], expected: Expected) -> None:
    """Every row that was taken is there; one that was refused was taken back, and may be asked again."""
    assert expected.kept == texts
