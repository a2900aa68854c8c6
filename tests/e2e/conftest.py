"""Helpers of the end-to-end tests: a dataset with its judge.yaml, and the rows that a run left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the long versions of the fault and kill tests are wanted: JUDGE_RUNNER_LONG=1."""
    return os.environ.get("JUDGE_RUNNER_LONG") == "1"


@pytest.fixture(scope="session")
def write_run() -> Callable[..., None]:
    """Write a dataset of N samples and a judge.yaml beside it (JSON is YAML); sections replace those given here."""

    def write(folder: Path, url: str, samples: int, **sections: Any) -> None:
        lines = [
            {"id": f"s{n}", "question": f"What is {n}?", "answer": f"It is {n}.", "category": f"c{n % 3}"}
            for n in range(samples)
        ]
        (folder / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        document = {
            "dataset": {"path": "data.jsonl", "keep": ["category"]},
            "judge": {},
            "service": {"base_url": url, "token_env": None, "limits": {"concurrency": 4}},
            "output": {"directory": "out"},
            **sections,
        }
        (folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], Rows]:
    """Read all rows of a run directory's closed parts."""

    def read(directory: Path) -> Rows:
        return [row for path in sorted(directory.glob("results/*.parquet")) for row in pq.read_table(path).to_pylist()]

    return read


@pytest.fixture
def state(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Read status.json of the run in `out`; empty before there is one."""

    def read() -> dict[str, Any]:
        path = tmp_path / "out" / "status.json"
        data: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return data

    return read
