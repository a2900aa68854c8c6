"""Seeded histories of kills against services that list late, keep files pending, refuse full queues and cut results.

Whatever happens, no request is paid twice and none is lost: each has its row, or waits in a batch about which a person
must decide because the service's list proves nothing.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fork_server import ForkedCommand
from kill_points import Scene

KILLED = -signal.SIGKILL
RUN = ("run", "judge.yaml", "--quiet")
SAMPLES, SHARD = 24, 8
MAX_KILLS = 3
MAX_RERUNS = 3  # each downloads a file up to three times, and the result files of a shard are short four times at most
LISTED_LATE_SECONDS, NEVER_SECONDS = (
    0.2,
    9999.0,
)  # a lag shorter than the time after which absence counts, and a longer one
HISTORIES, LONG_HISTORIES = 10, 240

# Each option of a service with the values that a history draws from; the first value is that of a good service.
SERVICE: dict[str, tuple[Any, ...]] = {
    "list_lag": (0.0, LISTED_LATE_SECONDS, LISTED_LATE_SECONDS, NEVER_SECONDS),
    "list_other_files": (False, False, True),
    "file_pending": (0.0, 0.0, 0.3),
    "enqueued_requests": (None, SHARD, 2 * SHARD),
    "enqueued_status": (429, 400, 403),
    "enqueued": (None, None, SHARD),
    "drop_create": (0.0, 0.3, 0.6),
    "lose": (0.0, 0.0, 0.1),
    "fail": (0, 0, 1),
    "expire": (0, 0, 1),
    "content_404": (0, 0, 2),
    "short_results": (0, 0, 1, 4),
    "break_after": (None, None, 3000),
    "wrap": (False, False, False, True),
}

POINTS = (
    *(
        f"state {step} {moment}"
        for step in ("create", "confirm", "poll", "download", "delete")
        for moment in ("written", "kept")
    ),
    *(f"{call} answered" for call in ("upload", "create", "listing", "download", "delete")),
    "create sent",
    "packed",
    "settled",
    "left kept",
)


def prepare(folder: Path, url: str, dialect: str, leftovers: str, parallel: int) -> None:
    """Write a dataset and the judge.yaml of a run by batch (JSON is YAML)."""
    samples = [{"id": f"s{n}", "question": f"What is {n}?\u2028", "answer": f"{n}.\u0085"} for n in range(SAMPLES)]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, samples)), encoding="utf-8")
    document = {
        "dataset": {"path": "data.jsonl"},
        "judge": {"kind": "pai_single"},
        "service": {
            "base_url": url,
            "token_env": None,
            "limits": {"concurrency": 1},
            "dialect": dialect,
            "batch": True,
        },
        "online": {"retry": {"base": 0.02, "ceiling": 0.05, "patience": 3}},
        "batch": {
            "shard_lines": SHARD,
            "parallel": parallel,
            "resubmits": 9,
            "poll": {"first": 0.03, "ceiling": 0.1},
        },
        "router": {"mode": "batch", "leftovers": leftovers},
        "output": {"directory": "out", "rows_per_part": 16, "tolerate": 1.0},
    }
    (folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        count = LONG_HISTORIES if os.environ.get("JUDGE_RUNNER_LONG") == "1" else HISTORIES
        metafunc.parametrize("seed", range(count))


def test_no_history_pays_twice_or_loses_a_request(
    seed: int, tmp_path: Path, start_fork: Callable[..., ForkedCommand], serve: Callable[..., Any]
) -> None:
    draw = random.Random(seed)
    options = {name: draw.choice(values) for name, values in SERVICE.items()}
    dialect = draw.choice(("pai", "openai", "dashscope"))
    service = serve(seed=seed, dialect=dialect, batch={"delay": draw.choice((0.0, 0.05, 0.3)), **options})
    if draw.random() < 0.5 and options["list_lag"] != NEVER_SECONDS:
        service.has_another_customer()
    prepare(tmp_path, service.url, dialect, draw.choice(("online", "resubmit")), draw.choice((1, 2, 3)))
    scene = Scene(tmp_path, start_fork, service, SAMPLES)
    codes = [
        scene.run(*RUN, kill_at=(draw.choice(POINTS), draw.randint(1, 3)), absent=1.0)
        for _ in range(draw.randint(1, MAX_KILLS))
    ]
    codes.append(scene.run(*RUN, absent=1.0))
    proves_nothing = options["list_lag"] == NEVER_SECONDS or options["list_other_files"]
    reruns = 0
    while codes[-1] == 3 and not proves_nothing and reruns < MAX_RERUNS:  # the list has batches, the files lines by now
        # Where the list was empty, a person has looked and found that the service has none.
        looked = () if scene.stats["batches"] else ("--resubmit-unknown",)
        codes.append(scene.run(*RUN, *looked, absent=1.0))
        reruns += 1
    told = f"{options} {dialect} {codes} {scene.said}"
    stats, rows, waiting = scene.stats, scene.rows, scene.ledger.open_shards
    assert {*codes} <= {KILLED, 0, 3}, told
    assert stats["paid_twice"] == 0, told
    ids = sorted(row["custom_id"] for row in rows)
    assert len(ids) == len({*ids}), told
    assert len(ids) + sum(shard.requests - shard.answered for shard in waiting) == SAMPLES, told
    assert (codes[-1] == 3) == bool(waiting), told
    for shard in waiting:
        assert "--resubmit-unknown" in scene.said, told
        # A job of which all are lost names no file.
        assert (
            shard.step == "poll" and options["lose"]
            if "no file with results" in (shard.stuck or "")
            else proves_nothing
        )
