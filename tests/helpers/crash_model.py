"""A model of a run directory through several processes, and the checks of what a crash leaves of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from crash_disk import FOLDERS, Disk, Snapshot, watched
from result_rows import stored_row

from runner.config import JudgeConfig
from runner.core import no_price
from runner.errors import RunStopped
from runner.judge import Panel
from runner.pipeline.reparse import ReparseContext, reparse_rows
from runner.results import (
    CompletionIndex,
    ResultWriter,
    RunDirectory,
    load_completion_index,
    open_snapshot,
    recover_results,
    results_schema,
)
from runner.results.row_block import RowBlock

SCHEMA = results_schema(())
VARIANTS = {("j", False, 0): 0}
SAMPLES = 40
CONTINUE_EVERY = 4
ROWS_PER_PART = 3


class Expected(NamedTuple):
    """What must be found after a crash.

    Attributes:
        appended: the newest text of every request whose `append` returned.
        in_flight: custom_id and text of the row that is being appended, which may be found or not.
        synced: for each request the number of texts that are certainly on the disk.
        versions: all texts of each request, oldest first, including the one in flight.
        picks: the parser settings that the scores may come from.
    """

    appended: dict[str, str]
    in_flight: tuple[str, str] | None
    synced: dict[str, int]
    versions: dict[str, list[str]]
    picks: frozenset[str]


def score_of(text: str, pick: str) -> float:
    return float(text.split()[0 if pick == "first" else -1])


def reparse_context(pick: str) -> ReparseContext:
    judge = JudgeConfig.model_validate(
        {
            "name": "j",
            "kind": "template",
            "model": "m",
            "user": "{question}",
            "verdict": {"pattern": r"(\d+)", "kind": "score", "pick": pick},
        }
    )
    return ReparseContext(Panel([judge]), VARIANTS, (no_price,), None)


class RunModel:
    """A run directory that several processes write one after the other, and what must be found in it at each moment.

    Attributes:
        refused: the number of rows that the writer refused.
    """

    def __init__(self, root: Path, loop: asyncio.Runner) -> None:
        self.root = root
        self._loop = loop
        self._texts = count(1)
        self._pick = "first"
        self._appended: dict[str, str] = {}
        self._versions: dict[str, list[str]] = {}
        self._synced: dict[str, int] = {}
        self._in_flight: tuple[str, str] | None = None
        self._picks = frozenset({"first"})
        self.refused = 0
        self._open(0)

    @property
    def expected(self) -> Expected:
        versions = {name: [*texts] for name, texts in self._versions.items()}
        return Expected({**self._appended}, self._in_flight, {**self._synced}, versions, self._picks)

    def run_steps(self, steps: list[str]) -> None:
        for step in [*steps, "reopen"]:
            getattr(self, step)()

    def ok(self) -> None:
        self._append(self._next_new(), "ok")

    def fail(self) -> None:
        self._append(self._next_new(), "failed")

    def replace_ok(self) -> None:
        self._append(self._next_to_replace(), "ok")

    def replace_fail(self) -> None:
        self._append(self._next_to_replace(), "failed")

    def work(self) -> None:
        self._thread.catch_up(1)

    def sync(self) -> None:
        self._thread.eager = True
        self._thread.catch_up()
        before = {name: len(texts) for name, texts in self._versions.items()}
        self._loop.run(self._writer.sync())
        self._synced = before
        self._thread.eager = False

    def reopen(self) -> None:
        self._thread.eager = True
        self._thread.catch_up()
        self._loop.run(self._writer.close())
        self._synced = {name: len(texts) for name, texts in self._versions.items()}
        self._open(recover_results(self.root, SCHEMA, "zstd"))

    def kill(self) -> None:
        self._open(recover_results(self.root, SCHEMA, "zstd"))

    def reparse(self) -> None:
        self.reopen()
        pick = "last" if self._pick == "first" else "first"
        self._picks = frozenset({self._pick, pick})
        reparse_rows(self.root / "results", SCHEMA, "zstd", reparse_context(pick))
        self._pick, self._picks = pick, frozenset({pick})

    def _open(self, first: int) -> None:
        self._done: CompletionIndex = load_completion_index(self.root, SAMPLES, VARIANTS)
        self._to_replace = [*self._done.owners]
        self._writer = ResultWriter(self.root, SCHEMA, first, ROWS_PER_PART, "zstd", self._done.owners)
        self._thread: Any = self._writer._thread

    def _next_new(self) -> str | None:
        return f"{len(self._versions)}-j-o-0" if len(self._versions) < SAMPLES else None

    def _next_to_replace(self) -> str | None:
        return self._to_replace.pop() if self._to_replace else None

    def _append(self, custom_id: str | None, status: str) -> None:
        if custom_id is None:
            return
        number = next(self._texts)
        text = f"{number} {number + 100}"
        row = stored_row(int(custom_id.split("-")[0]), text, status=status, score=None)
        if status == "failed":
            row.update(error_type="timeout", dimensions=None)
        else:
            row["score"] = score_of(text, self._pick)
        self._in_flight = (custom_id, text)
        self._versions.setdefault(custom_id, []).append(text)
        try:
            if number % 2 and custom_id not in self._done.owners:
                block = {name: [value] for name, value in row.items()}  # as results of batches are written
                self._writer.extend_block(RowBlock(block))
            else:
                self._writer.append(row)
        except RunStopped:
            self.refused += 1
            return
        finally:
            self._in_flight = None
        self._appended[custom_id] = text


def rows_in_parts(root: Path) -> list[dict[str, Any]]:
    """Read all rows of the closed parts; fails if one cannot be read."""
    return [row for path in sorted((root / "results").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def texts_by_id(rows: list[dict[str, Any]], picks: frozenset[str]) -> dict[str, str]:
    """Returns the texts by custom_id; no request may have two rows, and each score must be that of its text."""
    twice = [name for name, times in Counter(row["custom_id"] for row in rows).items() if times > 1]
    assert not twice, f"more than one row: {twice}"
    for row in rows:
        if row["status"] == "ok":
            assert row["score"] in {score_of(row["response"], pick) for pick in picks}
    return {row["custom_id"]: row["response"] for row in rows}


def snapshot_rows(root: Path) -> list[dict[str, Any]]:
    with open_snapshot(RunDirectory(root)) as (_, chunks):
        return [row for chunk in chunks for row in chunk]


def after_kill(texts: dict[str, str], expected: Expected) -> None:
    """Every appended row must be found with its newest text; the one in flight may be found."""
    allowed = dict(expected.appended)
    if expected.in_flight is not None and texts.get(expected.in_flight[0]) == expected.in_flight[1]:
        allowed[expected.in_flight[0]] = expected.in_flight[1]
    assert texts == allowed


def after_power_cut(texts: dict[str, str], expected: Expected) -> None:
    """Every synced row must be found with that text or a newer one; every other row was appended at some time."""
    for name, text in texts.items():
        assert expected.versions[name].index(text) + 1 >= expected.synced.get(name, 0)
    assert expected.synced.keys() <= texts.keys()


Check = Callable[[dict[str, str], Expected], None]


class CrashChecker:
    """Writes snapshots to new folders and checks what a new process finds there.

    Attributes:
        checked: the number of snapshots so far.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._number = count()
        self.checked = 0

    def check(self, snapshot: Snapshot, expected: Expected, verify: Check, *, deep: bool = False) -> None:
        """Check a snapshot before and after recovery; with `deep` also after a crash at each step of the recovery."""
        self.checked += 1
        root = self._write_folder(snapshot)
        texts_by_id(rows_in_parts(root), expected.picks)
        verify(texts_by_id(snapshot_rows(root), expected.picks), expected)
        if deep:
            self._check_crashes_of_recovery(root, expected, verify)
        first = recover_results(root, SCHEMA, "zstd")
        texts = texts_by_id(rows_in_parts(root), expected.picks)
        verify(texts, expected)
        assert texts_by_id(snapshot_rows(root), expected.picks) == texts
        assert sorted(path.name for path in root.glob("*/*") if path.suffix not in (".parquet", ".crc32")) == []
        if self.checked % CONTINUE_EVERY == 0:
            self._continue(root, texts, first)

    def _continue(self, root: Path, texts: dict[str, str], first: int) -> None:
        """A second recovery changes nothing, the missing requests are correct, and responses can be parsed again."""
        names = sorted(path.name for path in root.glob("*/*"))
        assert recover_results(root, SCHEMA, "zstd") <= first  # the number of a segment without a row is free
        assert sorted(path.name for path in root.glob("*/*")) == names
        done = load_completion_index(root, SAMPLES, VARIANTS)
        failed = {row["custom_id"] for row in rows_in_parts(root) if row["status"] == "failed"}
        assert done.owners.keys() == failed
        assert done.missing() == SAMPLES - len(texts) + len(failed)
        reparse_rows(root / "results", SCHEMA, "zstd", reparse_context("last"))
        assert texts_by_id(rows_in_parts(root), frozenset({"last"})) == texts

    def _check_crashes_of_recovery(self, root: Path, expected: Expected, verify: Check) -> None:
        crashes: list[Snapshot] = []
        with watched(root, lambda disk, _: crashes.extend(snapshots_of(disk))):
            recover_results(root, SCHEMA, "zstd")
        for crash in unique(crashes):
            self.check(crash, expected, verify)

    def _write_folder(self, snapshot: Snapshot) -> Path:
        root = self._base / str(next(self._number))
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        for name, content in snapshot.items():
            (root / name).write_bytes(content)
        return root


def unique(snapshots: list[Snapshot]) -> list[Snapshot]:
    """Returns each snapshot once."""
    return [snapshot for index, snapshot in enumerate(snapshots) if snapshot not in snapshots[:index]]


def snapshots_of(disk: Disk) -> list[Snapshot]:
    """Returns what SIGKILL and a power cut would leave at this moment."""
    return [disk.snapshot(), disk.after_power_cut(results_lag=True, journal_lag=True, zeros=False)]
