"""A run directory's life, what must be found of it after each moment, and the laboratory that looks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from crash_disk import FOLDERS, Disk, Picture, watched
from result_rows import make

from runner.config import JudgeConfig
from runner.core import no_price
from runner.errors import RunStopped
from runner.judge import Panel
from runner.pipeline.reparse import ReparseContext, reparse_rows
from runner.results import (
    CompletionIndex,
    ResultWriter,
    RunDirectory,
    recover_results,
    results_schema,
    open_snapshot,
    load_completion_index,
)
from runner.results.row_block import RowBlock

SCHEMA = results_schema(())
VARIANTS = {("j", False, 0): 0}
SAMPLES = 40
EVERY = 4
ROWS_PER_PART = 3


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


def again(pick: str) -> ReparseContext:
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
        self._open(recover_results(self.root, SCHEMA, "zstd"))

    def kill(self) -> None:
        self._open(recover_results(self.root, SCHEMA, "zstd"))

    def read_again(self) -> None:
        self.reopen()
        pick = "last" if self._pick == "first" else "first"
        self._readings = frozenset({self._pick, pick})
        reparse_rows(self.root / "results", SCHEMA, "zstd", again(pick))
        self._pick, self._readings = pick, frozenset({pick})

    def _open(self, first: int) -> None:
        self._done: CompletionIndex = load_completion_index(self.root, SAMPLES, VARIANTS)
        self._wanted = [*self._done.owners]
        self._sink = ResultWriter(self.root, SCHEMA, first, ROWS_PER_PART, "zstd", self._done.owners)
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
            if number % 2 and custom_id not in self._done.owners:
                self._sink.extend_block(
                    RowBlock({name: [value] for name, value in row.items()})
                )  # as batches' rows come
            else:
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
    with open_snapshot(RunDirectory(root)) as (_, chunks):
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
        first = recover_results(root, SCHEMA, "zstd")
        texts = found(rows_in_parts(root), expected.readings)
        judge(texts, expected)
        assert found(as_seen(root), expected.readings) == texts
        assert sorted(path.name for path in root.glob("*/*") if path.suffix != ".parquet") == []
        if self.looked_at % EVERY == 0:
            self._go_on(root, texts, first)

    def _go_on(self, root: Path, texts: dict[str, str], first: int) -> None:
        """Recovery again changes nothing, what is left is right, and the answers can be read again."""
        names = sorted(path.name for path in root.glob("*/*"))
        assert recover_results(root, SCHEMA, "zstd") <= first  # the number of a segment without a row is free again
        assert sorted(path.name for path in root.glob("*/*")) == names
        done = load_completion_index(root, SAMPLES, VARIANTS)
        failed = {row["custom_id"] for row in rows_in_parts(root) if row["status"] == "failed"}
        assert done.owners.keys() == failed
        assert done.missing() == SAMPLES - len(texts) + len(failed)
        reparse_rows(root / "results", SCHEMA, "zstd", again("last"))
        assert found(rows_in_parts(root), frozenset({"last"})) == texts

    def _check_cuts_of_recovery(self, root: Path, expected: Expected, judge: Judge) -> None:
        cuts: list[Picture] = []
        with watched(root, lambda disk, _: cuts.extend(pictures_of(disk))):
            recover_results(root, SCHEMA, "zstd")
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
