"""A folder with a dataset, a configuration and an emulator, for repeated runs."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from runner import RunOptions, RunSummary, load_config, run
from runner.types import Row

TEMPLATE = {
    "kind": "template",
    "model": "judge-model",
    "user": 'Rate it: {question} / {answer}. End with "Rating: [[n]]", n from 1 to 10.',
    "verdict": {"pattern": r"(\d+)", "kind": "score", "pick": "last"},
}


class Bench:
    """Runs one configuration, with changes, in one run directory."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.data = folder / "data.jsonl"
        self.directory = folder / "out"
        self._url = url
        self.config: dict[str, Any] = {
            "dataset": {"path": "data.jsonl"},
            "judge": {**TEMPLATE},
            "service": {"base_url": f"{url}/v1", "token_env": None, "limits": {"concurrency": 4}},
            "output": {"directory": "out", "rows_per_part": 4},
            "monitor": {"progress": False},
        }

    def write(self, count: int, first: int = 0, name: str = "data.jsonl", **more: Any) -> None:
        """Write a dataset of the samples from `first` to `count`, each with the columns in `more`."""
        rows = [{"id": f"s{n}", "question": f"question {n}", "answer": f"answer {n}", **more} for n in range(count)]
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows[first:]), encoding="utf-8")

    def run(self, changes: dict[str, Any] | None = None, **options: Any) -> RunSummary:
        """Run with some keys changed, `{"judge.model": "other"}`; the value `...` removes the key."""
        config = json.loads(json.dumps(self.config))
        for key, value in (changes or {}).items():
            *path, last = key.split(".")
            section = config
            for part in path:
                section = section.setdefault(part, {})
            if value is ...:
                section.pop(last, None)
            else:
                section[last] = value
        path = self.folder / "judge.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        return run(load_config(path), RunOptions(**{"quiet": True, **options}))

    @property
    def rows(self) -> list[Row]:
        """Return all rows in order of ordinal and custom_id, and check that no custom_id is there twice."""
        parts = sorted((self.directory / "results").glob("*.parquet"))
        rows = [row for path in parts for row in pq.read_table(path).to_pylist()]
        assert len({row["custom_id"] for row in rows}) == len(rows)
        return sorted(rows, key=lambda row: (row["ordinal"], row["custom_id"]))

    @property
    def samples(self) -> list[Row]:
        """Return the lines of samples.parquet."""
        samples: list[Row] = pq.read_table(self.directory / "samples.parquet").to_pylist()
        return samples

    @property
    def request_count(self) -> int:
        """Return the number of requests that the emulator has received since it started."""
        with urllib.request.urlopen(f"{self._url}/emulator/stats") as reply:
            return int(json.load(reply)["requests"])


@contextmanager
def emulator(**options: Any) -> Iterator[str]:
    """Run an emulator in another process; yields its URL without `/v1`."""
    given = json.dumps({"port": 0, "latency": {"median": 0.0, "sigma": 0.0}, **options})
    command = [sys.executable, "-m", "runner.emulator", "--options-json", given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removesuffix("/v1")
        finally:
            process.terminate()
