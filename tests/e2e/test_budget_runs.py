"""A budget in the middle of the dataset, at a service that fails and on a machine that does too.

The service thinks, and counts that in the total only; three more seeds count otherwise. Four seeds here; all with
JUDGE_RUNNER_LONG=1.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SAMPLES = 150
FAULTS = {"500": 0.06, "503": 0.03, "429": 0.05, "reset": 0.05, "truncate": 0.03, "malformed": 0.03, "unparsable": 0.1}
PRICES = {"currency": "CNY", "models": {"pai-judge": {"input": 4, "output": 12, "batch": 0.5}}}
CAPS: list[dict[str, float]] = [
    {"tokens": 150_000},
    {"requests": 100},
    {"cost": 1.2},
    {"tokens": 150_000, "requests": 90, "cost": 1.2},
]
# The emulator lists every batch: one that was being created at the kill need not be looked for for minutes.
COMPLETE_LISTS = {f"runner.lanes.batch.listing.{name}": 0.5 for name in ("ABSENT_SECONDS", "ABSENT_ALONE_SECONDS")}
USAGES = ["total_only"] * 20 + ["whole", "zeros", "none"]


def spent(stats: dict[str, Any], by_batch: bool) -> dict[str, float]:
    """What the emulator has counted."""
    prompt, completion = stats["prompt_tokens"], stats["completion_tokens"]
    cost = (4 * prompt + 12 * completion) / 1e6 * (0.5 if by_batch else 1)
    return {"requests": stats["requests"] + stats["batch_lines"], "tokens": prompt + completion, "cost": cost}


@pytest.mark.parametrize("seed", range(len(USAGES)))
def test_spending_never_passes_the_cap(
    seed: int,
    long: bool,
    tmp_path: Path,
    emulator: Callable[..., Any],
    cli: Callable[..., Any],
    spawn: Callable[..., Any],
    until: Callable[..., None],
    write_run: Callable[..., None],
    rows: Callable[[Path], list[dict[str, Any]]],
) -> None:
    """By the emulator's own count, after a kill in the middle, after the run's end and after one more run."""
    if seed >= 4 and not long:
        pytest.skip("a long one: JUDGE_RUNNER_LONG=1")
    by_batch, cap = seed % 5 == 3, CAPS[seed % 4]
    latency, batch = {"median": 0.02, "sigma": 0.5}, {"delay": 0.2, "lose": 0.05}
    service = emulator(seed=seed, faults=FAULTS, latency=latency, batch=batch, usage=USAGES[seed])
    write_run(
        tmp_path,
        service.url,
        SAMPLES,
        judge={"parameters": {"max_tokens": 2000}},
        service={"base_url": service.url, "token_env": None, "limits": {"concurrency": 8}, "timeout": {"total": 2}},
        online={"retry": {"attempts": 6, "base": 0.01, "ceiling": 0.05}},
        router={"mode": "batch" if by_batch else "online"},
        batch={"shard_lines": 15, "parallel": 2, "poll": {"first": 0.05, "ceiling": 0.1}},
        prices=PRICES,
        budget=cap,
    )

    def within_the_cap() -> dict[str, float]:
        found = spent(service.stats(), by_batch)
        assert all(found[name] <= limit for name, limit in cap.items()), found
        return found

    killed_at = random.Random(seed).randrange(3, 40)
    first = spawn("run", "judge.yaml")
    until(lambda: first.poll() is not None or spent(service.stats(), by_batch)["requests"] >= killed_at)
    first.send_signal(signal.SIGKILL)
    first.wait()
    within_the_cap()
    second = cli("run", "judge.yaml", constants=COMPLETE_LISTS)
    assert (second.returncode, "raise the cap" in second.stderr) == (3, True), second.stderr
    at_the_end = within_the_cap()
    told = json.loads((tmp_path / "out" / "budget.json").read_bytes())
    assert all(at_the_end[name] <= told[name] <= limit for name, limit in cap.items())
    assert 0 < len(rows(tmp_path / "out")) < SAMPLES
    assert cli("run", "judge.yaml", constants=COMPLETE_LISTS).returncode == 3
    assert within_the_cap() == at_the_end
