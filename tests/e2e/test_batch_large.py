"""A large run by batch at a service that loses lines and whole jobs: each request has one row, in little memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

MB = 1_000_000
PEAK_MB = 300
TROUBLE = {"delay": 1, "expire": 1, "fail": 1, "lose": 0.02, "errors_in_output": 0.01}
CAUSES = {"batch_lost", "server_error"}

# Runs one command and prints its exit code, peak and time: as a child of this small process it has a peak of its own.
MEASURED = """
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.call(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(code, peak, time.monotonic() - began)
"""


class Measurement(NamedTuple):
    """The exit code, peak memory and duration of a command."""

    code: int
    peak_mb: float
    seconds: float


@pytest.fixture
def measured(tmp_path: Path, cli_environment: Callable[..., dict[str, str]]) -> Callable[..., Measurement]:
    """Run a command to its end in the test's folder, and measure it: `measured("run", "judge.yaml")`."""

    def run(*args: str) -> Measurement:
        command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "runner", *args]
        done = subprocess.run(
            command, cwd=tmp_path, env=cli_environment(), stdout=subprocess.PIPE, text=True, check=True, timeout=900
        )
        code, peak, seconds = done.stdout.split()
        return Measurement(int(code), int(peak) / MB, float(seconds))

    return run


def write_pairs(path: Path, count: int) -> None:
    """Generated samples of about a kilobyte, a third of them Chinese; no two are alike."""
    rng = random.Random(7)
    english = ["light", "because", "the", "atmosphere", "of", "scatters", "river", "stone", "quickly", "and", "bridge"]
    chinese = ["因为", "光线", "在", "大气", "中", "散射", "所以", "天空", "看起来", "是", "蓝色的"]

    def text(words: list[str], joint: str) -> str:
        return joint.join(rng.choices(words, k=rng.randint(10, 90)))

    with path.open("w", encoding="utf-8") as lines:
        for number in range(count):
            words, joint = (chinese, "") if number % 3 == 0 else (english, " ")
            line = {
                "id": f"pair-{number}",
                "question": f"{number}: {text(words, joint)}?",
                "answer1": text(words, joint),
                "answer2": text(words, joint),
                "topic": f"t{number % 17}",
            }
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def sizes(long: bool) -> tuple[int, ...]:
    """The numbers of samples: one short run, or a long one after one of a fifth of its size."""
    return (20_000, 100_000) if long else (3_000,)


@pytest.mark.slow
@pytest.mark.parametrize("leftovers", ["online", "resubmit"])
def test_every_request_of_a_large_run_has_its_row(leftovers, measured, tmp_path, emulator, write_batch_run, long):
    peaks = []
    for samples in sizes(long):
        service = emulator(seed=samples, batch=TROUBLE)
        write_batch_run(
            service.url,
            samples,
            dataset={"path": "data.jsonl", "keep": ["topic"]},
            judge={"kind": "pai_pairwise"},
            router={"leftovers": leftovers},
            batch={"shard_lines": 500 if samples < 20_000 else 50_000, "parallel": 8},
            output={"directory": f"out-{samples}"},
        )
        write_pairs(tmp_path / "data.jsonl", samples)
        first = measured("run", "judge.yaml", "--quiet")
        print(f"{leftovers}, {samples:,} samples: {first}")
        check(leftovers, tmp_path / f"out-{samples}", samples, first, service, measured)
        peaks.append(first.peak_mb)
        service.close()
    assert max(peaks) < PEAK_MB
    assert peaks[-1] < peaks[0] + 60


def check(
    leftovers: str, out: Path, samples: int, first: Measurement, service: Any, measured: Callable[..., Measurement]
) -> None:
    """Every row exists once; requests that three batches in a row did not answer are sent by the next run."""
    table = read(out)
    assert pc.all(pc.equal(table.column("ordinal"), pa.array(range(samples)))).as_py()
    assert pc.count_distinct(table.column("custom_id")).as_py() == samples
    failed = table.filter(pc.not_equal(table.column("status"), "ok"))
    assert first.code == (1 if failed.num_rows else 0)
    assert set(failed.column("error_type").to_pylist()) <= CAUSES
    assert failed.num_rows < samples // 1000 and (leftovers == "resubmit" or failed.num_rows == 0)
    online = table.filter(pc.equal(table.column("route"), "online")).num_rows
    stats = service.stats()
    assert (stats["distinct_ok"], stats["paid_twice"]) == (samples - failed.num_rows, 0)
    assert stats["lines_lost"] > samples // 100
    assert (stats["requests"], stats["lines_twice"]) == ((online, 0) if online else (0, stats["batch_lines"] - samples))
    manifest = json.loads((out / "run.json").read_bytes())
    assert manifest["batches"]["expired"] == manifest["batches"]["failed"] == 1
    assert manifest["lanes"] == (["batch", "online"] if leftovers == "online" else ["batch"])

    if failed.num_rows:
        assert measured("run", "judge.yaml", "--quiet", "--set", "router.leftovers=online").code == 0
        again = read(out)
        assert again.column("custom_id").equals(table.column("custom_id"))
        assert pc.unique(again.column("status")).to_pylist() == ["ok"]
        assert service.stats()["paid_twice"] == 0
    assert pq.read_metadata(out / "samples.parquet").num_rows == samples


def read(out: Path) -> pa.Table:
    """All rows of a run directory, in the dataset's order."""
    columns = ["ordinal", "custom_id", "status", "route", "error_type"]
    return pq.read_table(out / "results", columns=columns).sort_by("ordinal").combine_chunks()
