"""A dataset and a configuration in a folder, for several runs in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from runner import RunOptions, RunSummary, arun, load_config

COMPLETE = (0, None)
DETACHED = (4, "detached")
UNDECIDED = (3, "undecided")


def exit_of(summary: RunSummary) -> tuple[int, str | None]:
    """Return how a run ended: its exit code and stop reason."""
    return summary.exit_code, summary.stop_reason


class Bench:
    """A dataset and a configuration in a folder, for several runs.

    Attributes:
        config: the content of the YAML; tests change it between runs.
    """

    def __init__(self, folder: Path, url: str, rows: int = 4, **sections: Any) -> None:
        self.folder = folder
        self.data = folder / "data.jsonl"
        self.directory = folder / "run"
        self.config: dict[str, Any] = {
            "dataset": {"path": "data.jsonl"},
            "judge": {"kind": "pai_single"},
            "service": {"base_url": url, "token_env": None, "limits": {"concurrency": 4}, "timeout": {"total": 5}},
            "router": {"mode": "batch"},
            "online": {"retry": {"attempts": 2, "base": 0.01, "ceiling": 0.02, "patience": 5}},
            "batch": {"shard_lines": 50, "parallel": 3, "poll": {"first": 0.01, "ceiling": 0.02}},
            "output": {"directory": "run"},
            "monitor": {"progress": False},
        }
        for name, section in sections.items():
            self.config[name] = {**self.config.get(name, {}), **section}
        self.write(rows)

    def write(self, rows: int, **more: Any) -> None:
        """Write the dataset."""
        samples = [{"id": f"s{n}", "question": f"question {n}", "answer": f"answer {n}", **more} for n in range(rows)]
        text = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
        self.data.write_text(text, encoding="utf-8")

    async def run(self, **options: Any) -> RunSummary:
        """Run once."""
        path = self.folder / "judge.yaml"
        path.write_text(json.dumps(self.config), encoding="utf-8")
        return await arun(load_config(path), RunOptions(quiet=True, **options))

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        """The rows of a single judge by ordinal; asserts that each has exactly one."""
        rows = self.all_rows
        assert len({row["ordinal"] for row in rows}) == len(rows)
        return {row["ordinal"]: row for row in rows}

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        """All rows; asserts that no request has two."""
        parts = sorted((self.directory / "results").glob("*.parquet"))
        rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
        assert len({row["custom_id"] for row in rows}) == len(rows)
        return rows

    def column(self, name: str) -> list[Any]:
        """Return one column, in order of ordinals."""
        return [row[name] for _, row in sorted(self.rows.items())]

    def shard(self, number: int = 0) -> dict[str, Any]:
        """Return a shard's state file."""
        state: dict[str, Any] = json.loads((self.directory / "batches" / f"shard-{number:05d}.json").read_text("utf-8"))
        return state

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        record: dict[str, Any] = json.loads((self.directory / "run.json").read_text("utf-8"))
        return record

    def logged(self, *words: str) -> list[str]:
        """Return the messages of run.log that contain all of these texts."""
        entries = [json.loads(line) for line in (self.directory / "run.log").read_text("utf-8").splitlines()]
        return [entry["message"] for entry in entries if all(word in entry["message"] for word in words)]
