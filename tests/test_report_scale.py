"""The benchmark of the report makes runs that the report can be made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.report import summarize

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("kind", "samples"), [("pair", 3_000), ("single", 6_000)])
def test_a_run_is_made_and_summarized(kind: str, samples: int, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "report_scale.py"), "--summary", "--rows", "18000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    kept = tmp_path / "run"
    given = [*command, "--kind", kind, "--keep", str(kept)]
    done = subprocess.run(given, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout[:26]) == (0, "summary of 18,000 rows (" + kind[:2]), done.stderr
    data = summarize(kept)
    assert (data["counts"]["all"]["rows"], data["counts"]["samples"]) == (18_000, samples)
    assert data["settings"]["clusters"]["n"] == samples // 4
    assert 0.02 < (data["counts"]["all"]["unparsed"] + data["counts"]["all"]["failed"]) / 18_000 < 0.04
    assert len(data["ranking"]["tables"][0]["models"]) == 12
    compared = data["agreement"][0]["overall"]
    assert (compared["winners"] is None) is (kind == "single")
    assert len(list((kept / "results").glob("part-*.parquet"))) == 1
