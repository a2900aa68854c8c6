"""The report's benchmark creates a valid run and its report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("kind", "samples", "gives"), [("pair", 200, "winner"), ("single", 400, "score")])
def test_a_run_is_made_and_summarized(kind: str, samples: int, gives: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "report_scale.py"), "--rows", "1200"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = [*command, "--kind", kind, "--keep", str(tmp_path / "run")]
    done = subprocess.run(given, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"report of 1,200 rows ({kind},")
    assert (tmp_path / "run" / "report" / "index.html").exists()
    rows = pq.read_table(tmp_path / "run" / "results")
    assert len(set(rows["custom_id"].to_pylist())) == rows.num_rows == 1_200
    read = rows.filter(pc.equal(rows["status"], "ok"))
    assert 0.92 < read.num_rows / 1_200 < 1
    assert read[gives].null_count == 0
    assert rows.filter(pc.not_equal(rows["status"], "ok"))[gives].null_count == 1_200 - read.num_rows
    lines = pq.read_table(tmp_path / "run" / "samples.parquet")
    assert (lines.num_rows, len(set(lines["question"].to_pylist()))) == (samples, samples // 4)
