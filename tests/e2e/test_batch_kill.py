"""SIGKILL at every step of the batch lane: no request in two batches, nothing that was paid for lost, no row missing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from anyio.from_thread import start_blocking_portal

from runner.batch import lifecycle
from runner.batch.ledger import Ledger
from runner.emulator import EmulatorOptions, start

KILLED = -9
SAMPLES, SHARD = 120, 40
QUICK = {"first": 0.03, "ceiling": 0.1}


class Kind(msgspec.Struct, frozen=True):
    """A kind of run: what the service does to it, what the YAML says of it, and which command is killed."""

    service: Mapping[str, Any]
    leftovers: str = "online"
    before: tuple[str, ...] = ()
    command: tuple[str, ...] = ("run", "judge.yaml", "--quiet")


KINDS = {
    "lossy": Kind({"delay": 0.08, "lose": 0.1, "errors_in_output": 0.05}),
    "failing": Kind({"delay": 0.08, "expire": 1, "fail": 1}, leftovers="resubmit"),
    "unheard": Kind({"delay": 0.08, "drop_create": 1.0}),
    "crowded": Kind({"delay": 0.08, "enqueued": SHARD}),
    "cancelled": Kind({"delay": 1.0}, before=("run", "judge.yaml", "--quiet", "--detach"), command=("cancel", "out")),
}

STATES = ("upload", "create", "confirm", "poll", "download", "reconcile", "delete", "closed")
POINTS: list[tuple[str, str, int]] = [
    *(("lossy", f"state {step} {moment}", 2) for step in STATES for moment in ("written", "kept")),
    *(("lossy", f"{call} answered", 2) for call in ("upload", "create", "download")),
    ("lossy", "create sent", 2),
    ("lossy", "delete answered", 1),
    ("lossy", "delete answered", 4),
    ("lossy", "packed", 50),
    ("lossy", "chunk", 1),
    ("lossy", "chunk", 3),
    ("lossy", "settled", 51),
    ("lossy", "left found", 2),
    ("lossy", "left kept", 2),
    ("lossy", "asked online", 3),
    ("failing", "settled", 15),
    ("failing", "left kept", 1),
    ("failing", "left kept", 2),
    ("failing", "state delete kept", 1),
    ("failing", "state closed kept", 2),
    ("failing", "create answered", 4),
    ("unheard", "jobs_of answered", 2),
    ("unheard", "state poll written", 2),
    ("crowded", "state create again written", 1),
    ("crowded", "state create again kept", 1),
    ("crowded", "create sent", 3),
    ("crowded", "create answered", 3),
    ("cancelled", "cancel sent", 1),
    ("cancelled", "cancel answered", 1),
    ("cancelled", "state cancelling written", 1),
    ("cancelled", "state cancelling kept", 1),
]
"""Where a run is killed: its kind, the point, and at the how manieth time. Every point there is stands here."""


class Nursery:
    """Runs commands in forks of one process, and has them killed where it is told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = Popen(
            [sys.executable, Path(__file__).parents[1] / "killed.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def run(self, **order: Any) -> int:
        """Run one command; its exit code, or minus the signal that ended it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


class Scene:
    """A folder with a run in it, the service of that run, and what is done there."""

    def __init__(self, folder: Path, nursery: Nursery, url: str) -> None:
        self.folder = folder
        self.out = folder / "out"
        self._nursery = nursery
        self._url = url

    def run(self, *arguments: str, deadly: tuple[str, int] | None = None, lists_apart: float = 0.2) -> int:
        """Run one command to its end, or to its death."""
        (self.folder / "journal").unlink(missing_ok=True)
        return self._nursery.run(
            arguments=arguments,
            folder=str(self.folder),
            journal=str(self.folder / "journal"),
            said=str(self.folder / "said"),
            deadly=deadly,
            lists_apart=lists_apart,
        )

    @property
    def said(self) -> str:
        """What the last command wrote to the terminal."""
        return (self.folder / "said").read_text(encoding="utf-8")

    @property
    def passed(self) -> list[tuple[float, str]]:
        """The points the last command passed, and when."""
        lines = (self.folder / "journal").read_text(encoding="utf-8").splitlines()
        return [(float(at), name) for at, name in (line.split(" ", 1) for line in lines)]

    @property
    def stats(self) -> dict[str, Any]:
        """The emulator's counters."""
        with urllib.request.urlopen(f"{self._url}/emulator/stats", timeout=10) as reply:
            counters: dict[str, Any] = json.load(reply)
        return counters

    @property
    def ledger(self) -> Ledger:
        """The shards as they stand in their files."""
        return Ledger(self.out / "batches")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all parts."""
        return [row for path in sorted(self.out.glob("results/*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def nursery(cli_environment: Callable[..., dict[str, str]]) -> Iterator[Nursery]:
    """One nursery for all tests."""
    one = Nursery(cli_environment())
    yield one
    one.close()


@pytest.fixture
def scene(tmp_path: Path, nursery: Nursery) -> Iterator[Callable[..., Scene]]:
    """Set scenes: a folder, an emulator of its own with these batch options, a dataset of pairs and a judge.yaml."""
    with start_blocking_portal() as portal:
        started = []

        def make(leftovers: str = "online", samples: int = SAMPLES, **service: Any) -> Scene:
            options = EmulatorOptions.from_mapping({"port": 0, "seed": 5, "batch": service})
            emulator = portal.call(start, options)
            started.append(emulator)
            folder = tmp_path / str(len(started))
            folder.mkdir()
            write_pairs(folder, f"{emulator.url}/v1", leftovers, samples)
            return Scene(folder, nursery, emulator.url)

        yield make
        for emulator in started:
            portal.call(emulator.aclose)


def write_pairs(folder: Path, url: str, leftovers: str, samples: int, shard: int = SHARD) -> None:
    """Write a dataset of pairs and the judge.yaml of a run by batch (JSON is YAML)."""
    pairs = [
        {"id": f"s{n}", "question": f"What is {n}?", "answer1": f"{n}.", "answer2": f"It is {n}."}
        for n in range(samples)
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    document = {
        "dataset": {"path": "data.jsonl"},
        "judge": {"kind": "pai_pairwise"},
        "service": {"base_url": url, "token_env": None, "limits": {"concurrency": 1}},
        "online": {"retry": {"base": 0.02}},
        "batch": {"shard_lines": shard, "parallel": 2, "poll": QUICK},
        "router": {"mode": "batch", "leftovers": leftovers},
        "output": {"directory": "out", "rows_per_part": 16},
    }
    (folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")


def check(scene: Scene, kind: Kind) -> None:
    """Every sample has its row, once and ok; the service took no line and answered no request twice."""
    rows, ledger, stats = scene.rows, scene.ledger, scene.stats
    assert sorted(row["custom_id"] for row in rows) == sorted(f"{n}-judge-o-0" for n in range(SAMPLES))
    assert {row["status"] for row in rows} == {"ok"}
    assert not list(scene.out.glob("journal/*"))
    assert not ledger.open
    assert {path.suffix for path in ledger.folder.iterdir()} <= {".json", ".left"}

    resubmitted = len(list(ledger.left())) if kind.leftovers == "resubmit" else 0
    assert stats["lines_twice"] == resubmitted
    assert stats["batch_lines"] == SAMPLES + resubmitted
    assert stats["paid_twice"] == 0
    # What stays is only what was uploaded while we died, before its id could be written down.
    uploaded = [shard for shard in ledger.shards.values() if shard.input_file_id is not None]
    assert stats["files_held"] == stats["files"] - len(uploaded) <= 2


def die_and_go_on(scene: Scene, kind: Kind, point: str, nth: int) -> None:
    """Kill a run at a point, go on with it, and see that there is nothing left to do."""
    if kind.before:
        assert scene.run(*kind.before) == 4
    assert scene.run(*kind.command, deadly=(point, nth)) == KILLED
    assert scene.passed[-1][1] == point
    assert scene.run("run", "judge.yaml", "--quiet") == 0, scene.said
    check(scene, kind)
    before = scene.stats
    assert scene.run("run", "judge.yaml", "--quiet") == 0
    assert scene.stats == before
    assert not scene.passed


@pytest.mark.parametrize(("name", "point", "nth"), POINTS)
def test_killed_at_a_point(scene, name, point, nth):
    kind = KINDS[name]
    die_and_go_on(scene(kind.leftovers, **kind.service), kind, point, nth)


def census(scene: Scene, kind: Kind) -> Counter[str]:
    """How often a run that is not killed passes each point."""
    if kind.before:
        assert scene.run(*kind.before) == 4
    code = scene.run(*kind.command)
    passed = Counter(name for _, name in scene.passed)
    assert code == (4 if kind.before else 0)
    return passed


def test_every_point_there_is_was_deadly(scene):
    passed = {name: census(scene(kind.leftovers, **kind.service), kind) for name, kind in KINDS.items()}
    assert set().union(*passed.values()) == {point for _, point, _ in POINTS}
