"""Runs with few file descriptors: connections are bounded, so that every answer can be stored."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_service import configure

SAMPLES = 300


def run(folder: Path, limit: int, concurrency: object) -> subprocess.CompletedProcess[str]:
    """Run with an embedded emulator that takes its time, and at most `limit` open files."""
    config = configure(folder, "http://127.0.0.1:1/v1", SAMPLES)
    data = json.loads(config.read_text())
    data["service"] = {
        "kind": "emulator",
        "limits": {"concurrency": concurrency},
        "emulator": {"latency": {"median": 0.1}},
    }
    del data["monitor"]
    config.write_text(json.dumps(data))
    return subprocess.run(
        [sys.executable, "-m", "runner", "run", str(config)],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("concurrency", [2000, {"start": 200, "max": 512}])
def test_the_concurrency_is_bounded_by_the_limit_on_open_files(tmp_path: Path, concurrency: object) -> None:
    done = run(tmp_path, 100, concurrency)
    assert done.returncode == 0, done.stderr
    wanted = concurrency if isinstance(concurrency, int) else 512
    said = f"at most 36 requests in flight, not {wanted}: this process may have 100 open files"
    assert done.stderr.count(said) == 1
    assert said in (tmp_path / "run" / "run.log").read_text()
    table = pq.read_table(tmp_path / "run" / "results" / "part-00000.parquet")
    assert (table.num_rows, set(table["attempts"].to_pylist())) == (SAMPLES, {1})


def test_too_few_files_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    done = run(tmp_path, 60, 2)
    assert (done.returncode, "at least 65" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()
