"""SIGKILL at every step of the batch lane: no request is in two batches, no paid answer is lost, no row is missing."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest
from fork_server import ForkedCommand
from kill_points import Scene

from runner.lanes.batch import listing

KILLED = -signal.SIGKILL
RUN = ("run", "judge.yaml", "--quiet")
SAMPLES, SHARD = 120, 40
HALF_WAY, OVER = 70.0, 100.0  # the age of a cancelled batch, and the age at which it would end, in seconds
QUICK = {"first": 0.03, "ceiling": 0.1}


class Kind(msgspec.Struct, frozen=True):
    """A kind of run: the faults of the service, the YAML's settings, and the command that is killed.

    Attributes:
        before: the command that runs before that one, if any.
        code: the exit code of that command if it is not killed.
    """

    service: Mapping[str, Any]
    leftovers: str = "online"
    before: tuple[str, ...] = ()
    command: tuple[str, ...] = RUN
    code: int = 0


KINDS = {
    "lossy": Kind({"delay": 0.08, "lose": 0.1, "errors_in_output": 0.05}),
    "failing": Kind({"delay": 0.08, "expire": 1, "fail": 1}, leftovers="resubmit"),
    "unheard": Kind({"delay": 0.08, "drop_create": 1.0}),
    "crowded": Kind({"delay": 0.5, "enqueued": SHARD}),
    "cancelled": Kind({"delay": OVER}, before=(*RUN, "--detach"), command=("cancel", "out"), code=4),
    # Result files are not there at first, then short, and each download breaks off.
    "late": Kind({"delay": 0.08, "lose": 0.05, "content_404": 1, "short_results": 4, "break_after": 9000}),
    # One reply to `create` in three is lost, and the outcome of that batch cannot be known.
    "unlisted": Kind({"delay": 0.08, "drop_create": 0.4, "unsupported": ["list"]}, code=3),
}

STATES = ("upload", "create", "confirm", "poll", "download", "reconcile", "delete", "closed")
# Where a run is killed: its kind, the point, and which passage of that point.
POINTS: list[tuple[str, str, int]] = [
    *(("lossy", f"state {step} {moment}", 2) for step in STATES for moment in ("written", "kept")),
    *(("lossy", f"{call} answered", 2) for call in ("upload", "create", "download")),
    ("lossy", "create sent", 2),
    ("lossy", "delete answered", 1),
    ("lossy", "delete answered", 4),
    ("lossy", "packed", 50),
    ("lossy", "chunk", 1),
    ("lossy", "chunk", 3),
    ("lossy", "settled", 7),
    ("lossy", "left found", 2),
    ("lossy", "left kept", 2),
    ("lossy", "asked online", 3),
    ("failing", "settled", 2),
    ("failing", "left kept", 1),
    ("failing", "left kept", 2),
    ("failing", "state delete kept", 1),
    ("failing", "state closed kept", 2),
    ("failing", "create answered", 4),
    ("unheard", "listing answered", 2),
    ("unheard", "state poll kept", 2),
    ("crowded", "state create again written", 1),
    ("crowded", "state create again kept", 1),
    ("crowded", "create sent", 3),
    ("crowded", "create answered", 3),
    ("late", "chunk", 2),
    ("late", "download answered", 1),
    ("late", "settled", 5),
    ("late", "state poll kept", 4),
    ("late", "left found", 1),
    ("cancelled", "cancel sent", 1),
    ("cancelled", "cancel answered", 1),
    ("cancelled", "state cancelling written", 1),
    ("cancelled", "state cancelling kept", 1),
]

UNDECIDED = ("state stuck written", "state stuck kept")
# Where consecutive runs are killed, each at the first passage of the point.
CHAIN = (
    "create sent",
    "listing answered",
    "create answered",
    "state poll written",
    "chunk",
    "settled",
    "left kept",
    "delete answered",
    "state closed written",
    "asked online",
)


@pytest.fixture
def scene(tmp_path: Path, start_fork: Callable[..., ForkedCommand], serve: Callable[..., Any]) -> Callable[..., Scene]:
    """Make scenes: a folder with pairs and a judge.yaml, and an emulator for it."""

    def make(kind: Kind, samples: int = SAMPLES, **batch: int) -> Scene:
        service = serve(seed=5, clock=0.0 if kind.before else None, batch=dict(kind.service))
        service.has_another_customer()
        folder = Path(mkdtemp(dir=tmp_path))
        write_pairs(folder, service.url, samples, kind.leftovers, batch)
        return Scene(folder, start_fork, service, samples)

    return make


def write_pairs(folder: Path, url: str, samples: int, leftovers: str, batch: Mapping[str, int]) -> None:
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
        "batch": {"shard_lines": SHARD, "parallel": 2, "poll": QUICK, **batch},
        "router": {"mode": "batch", "leftovers": leftovers},
        "output": {"directory": "out", "rows_per_part": 16},
    }
    (folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")


def check_rows(rows: list[dict[str, Any]], samples: int) -> None:
    """Every sample has exactly one row, and it is ok."""
    assert sorted(row["custom_id"] for row in rows) == sorted(f"{n}-judge-o-0" for n in range(samples))
    assert {row["status"] for row in rows} == {"ok"}


def check_end(scene: Scene, leftovers: str = "online") -> None:
    """All rows are there and no shard is open; no line was accepted or paid twice; another run sends nothing."""
    check_rows(scene.rows, scene.samples)
    ledger, stats = scene.ledger, scene.stats
    assert not list(scene.out.glob("journal/*"))
    assert not ledger.open_shards
    assert {path.suffix for path in ledger.folder.iterdir()} <= {".json", ".left"}

    resubmitted = len(list(ledger.leftovers())) if leftovers == "resubmit" else 0
    assert stats["lines_twice"] == resubmitted
    assert stats["batch_lines"] == scene.samples + resubmitted
    assert stats["paid_twice"] == 0
    # Only a file that was being uploaded when the run died stays: no state file has its id.
    recorded = sum(shard.input_file_id is not None for shard in ledger.shards.values())
    assert stats["files_held"] == stats["files"] - recorded
    check_idle(scene)


def received(stats: Mapping[str, Any]) -> list[int]:
    """Return the service's counts of everything it received."""
    return [stats[name] for name in ("requests", "files", "batches", "polls")]


def check_idle(scene: Scene) -> None:
    """One more run has nothing to do."""
    before = received(scene.stats)
    assert scene.run(*RUN) == 0
    assert received(scene.stats) == before
    assert not scene.passed


def detach(scene: Scene, kind: Kind) -> None:
    """Run the command that comes before, if any; then its batches are half way."""
    if kind.before:
        assert scene.run(*kind.before) == 4, scene.said
        scene.service.start_clock(HALF_WAY)


def kill_and_resume(scene: Scene, kind: Kind, point: str, nth: int) -> None:
    """Kill a run at a point, and resume it."""
    detach(scene, kind)
    assert scene.run(*kind.command, kill_at=(point, nth)) == KILLED, scene.said
    assert scene.passed[-1][1] == point
    if kind.before:
        scene.service.start_clock(2 * OVER, speed=1000)
    assert scene.run(*RUN) == 0, scene.said
    check_end(scene, kind.leftovers)


def census(scene: Scene, kind: Kind) -> Counter[str]:
    """Count how often a run that is not killed passes each point."""
    detach(scene, kind)
    assert scene.run(*kind.command) == kind.code, scene.said
    return Counter(name for _, name in scene.passed)


@pytest.mark.parametrize(("name", "point", "nth"), POINTS)
def test_killed_at_a_point(scene, name, point, nth):
    kill_and_resume(scene(KINDS[name]), KINDS[name], point, nth)


def test_every_point_was_a_kill_point(scene):
    passed = {name: census(scene(kind), kind) for name, kind in KINDS.items()}
    assert set().union(*passed.values()) == {point for _, point, _ in POINTS} | set(UNDECIDED)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.code != 3])
def test_killed_everywhere(scene, long, name):
    if not long:
        pytest.skip("several hundred kills: JUDGE_RUNNER_LONG=1")
    kind = KINDS[name]
    for point, times in sorted(census(scene(kind), kind).items()):
        often = point in ("packed", "settled")
        for nth in range(1, times + 1, 7 if often else 1):
            kill_and_resume(scene(kind), kind, point, nth)


def test_killed_in_several_consecutive_runs(scene):
    run = scene(KINDS["lossy"])
    for point in CHAIN:
        assert run.run(*RUN, kill_at=(point, 1)) == KILLED, point
    assert run.run(*RUN) == 0, run.said
    check_end(run)


def test_killed_in_the_middle_of_a_download(scene, cli_in):
    run = scene(KINDS["lossy"], samples=SHARD)
    assert run.run(*RUN, kill_at=("chunk", 1)) == KILLED
    (shard,) = run.ledger.open_shards
    assert shard.step == "download"
    assert not run.ledger.output(shard.number).exists()
    assert list(run.ledger.folder.glob(".*.output.jsonl.tmp"))
    assert cli_in(*RUN, cwd=run.folder).returncode == 0
    check_end(run)


def test_no_creation_is_answered(scene):
    run = scene(KINDS["unheard"])
    assert run.run(*RUN) == 0, run.said
    assert not run.times("create answered")
    assert run.stats["batches"] == 3
    check_end(run)


def test_a_batch_that_was_not_created_is_created_after_a_time(scene):
    run = scene(KINDS["lossy"], samples=SHARD)
    assert (listing.ABSENT_SECONDS, listing.ABSENT_ALONE_SECONDS) == (300, 1200)
    assert run.run(*RUN, kill_at=("create sent", 1)) == KILLED
    assert run.stats["batches"] == 0
    (sent,) = run.times("create sent")
    assert run.run(*RUN, absent=1.5) == 0, run.said
    (created,) = run.times("create sent")
    assert created > sent + 1.4
    assert len(run.times("listing answered")) >= 2
    check_end(run)


def test_a_created_batch_is_found_at_once(scene):
    run = scene(KINDS["lossy"], samples=SHARD)
    assert run.run(*RUN, kill_at=("create answered", 1)) == KILLED
    assert run.run(*RUN, absent=60.0) == 0, run.said
    assert len(run.times("listing answered")) == 1
    assert not run.times("create sent")
    assert run.stats["batches"] == 1
    check_end(run)


@pytest.mark.parametrize("kill_at", [None, *UNDECIDED])
def test_a_batch_that_cannot_be_searched_for_waits_for_a_decision(scene, kill_at):
    run = scene(KINDS["unlisted"])
    if kill_at is not None:
        assert run.run(*RUN, kill_at=(kill_at, 1)) == KILLED
    assert run.run(*RUN) == 3, run.said
    (waiting,) = run.ledger.open_shards
    assert f"shard {waiting.number}: " in run.said and "--resubmit-unknown" in run.said
    assert len(run.rows) == SAMPLES - SHARD
    before = received(run.stats)
    assert run.run(*RUN) == 3, run.said
    assert received(run.stats) == before

    assert run.run(*RUN, "--resubmit-unknown", kill_at=("state closed written", 1)) == KILLED
    assert run.run(*RUN) == 3, run.said
    assert run.run(*RUN, "--resubmit-unknown", kill_at=("state closed kept", 1)) == KILLED
    assert run.run(*RUN) == 0, run.said
    check_rows(run.rows, SAMPLES)
    assert not run.ledger.open_shards
    assert run.stats["lines_twice"] == run.stats["paid_twice"] == SHARD
    check_idle(run)


def test_killed_repeatedly_at_random_times(scene, long):
    samples, lines, kills = (5_000, 200, 20) if long else (600, 50, 4)
    faults = {"drop_create": 0.2, "lose": 0.02, "errors_in_output": 0.01, "expire": 1, "fail": 1}
    run = scene(Kind({"delay": 0.3, **faults}), samples, shard_lines=lines, parallel=3)
    rng, longest = random.Random(4), 0.9 if long else 0.6
    for _ in range(kills):
        assert run.run(*RUN, within=rng.uniform(0.1, longest)) == KILLED, run.said
    assert len(run.rows) < samples
    assert run.run(*RUN) == 0, run.said
    check_rows(run.rows, samples)
    stats = run.stats
    assert stats["batch_lines"] == samples and stats["lines_twice"] == 0
    # Each kill may lose the one online answer in flight; requests that a batch answered are never sent again.
    assert stats["paid_twice"] == stats["dup_ok"] <= kills
    assert not run.ledger.open_shards
    check_idle(run)
