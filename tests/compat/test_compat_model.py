"""A complete run with a real language model behind a real server, on pairs of LLMBar in both orders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from external_tools import HERE

PAIRS = 10
ROOT = HERE.parents[1]
TOOL = ROOT / "benchmarks" / "real_model.py"


@pytest.fixture
def pairs(shared: Path) -> Path:
    path = shared / "datasets" / "llmbar" / "llmbar.jsonl"
    if not path.exists():
        pytest.skip("LLMBar is not beside the repository")
    return path


def run(pairs: Path, run_dir: Path) -> str:
    """Run the tool and return its output."""
    command = [sys.executable, str(TOOL), str(pairs), "--pairs", str(PAIRS), "--run-dir", str(run_dir)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1200, check=False)
    if "could not be installed" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_real_model_judges_real_pairs(pairs, tmp_path):
    output = run(pairs, tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / "results").to_pylist()
    expected = {(ordinal, swapped) for ordinal in range(PAIRS) for swapped in (False, True)}
    assert {(row["ordinal"], row["swapped"]) for row in rows} == expected
    assert len(rows) == len(expected)
    for row in rows:
        assert row["status"] in ("ok", "unparsed")
        assert (row["winner"] in ("1", "2")) == (row["status"] == "ok")
        assert row["response"]
        assert row["prompt_tokens"] > 100
    assert f"calls                        {len(expected)}," in output
    parsed = sum(row["status"] == "ok" for row in rows)
    assert f"without a verdict            {len(expected) - parsed} of {len(expected)}" in output
    assert run(pairs, tmp_path / "run").splitlines()[1:] == output.splitlines()[1:]  # no request is sent again
