"""Batch answers whose verdict cannot be read: kept as rows, requested again, never replaced by a failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner import RunOptions, RunSummary, arun, load_config
from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start

pytestmark = pytest.mark.anyio


async def judge(folder: Path, faults: dict[str, float], options: RunOptions, **sections: Any) -> RunSummary:
    async with await start(EmulatorOptions.from_mapping({"batch": {"delay": 0.05}, "faults": faults})) as emulator:
        config = {
            "dataset": {"path": "data.jsonl"},
            "judge": {"kind": "pai_single", **sections.pop("judge", {})},
            "service": {"base_url": f"{emulator.url}/v1", "token_env": None, "timeout": {"total": 10}},
            "router": {"mode": "batch"},
            "batch": {"poll": {"first": 0.02, "ceiling": 0.05}, "shard_lines": 50},
            "online": {"retry": {"attempts": 2, "base": 0.01, "ceiling": 0.01}},
            "output": {"directory": "out", "tolerate": 1},
            "monitor": {"progress": False},
            **sections,
        }
        (folder / "judge.yaml").write_text(json.dumps(config))
        return await arun(load_config(folder / "judge.yaml"), options)


def rows(folder: Path) -> list[dict[str, Any]]:
    found = pq.read_table(folder / "out" / "results").to_pylist()
    assert sorted(row["ordinal"] for row in found) == list(range(120))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [{"id": f"s{i}", "question": f"question {i}", "answer": f"answer {i}"} for i in range(120)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


@pytest.mark.parametrize(("leftovers", "route"), [("online", "online"), ("resubmit", "batch")])
async def test_unreadable_verdicts_are_requested_again_as_leftovers_are(folder, leftovers, route):
    router = {"mode": "batch", "leftovers": leftovers}
    summary = await judge(folder, {"unparsable": 0.3}, RunOptions(), router=router)
    found = rows(folder)
    again = [row for row in found if row["attempts"] > 1]
    assert len(again) > 20
    assert {row["route"] for row in again} == {route}
    assert summary.counts.unparsed == sum(row["status"] == "unparsed" for row in found) < len(again)
    once = min(row["total_tokens"] for row in found if row["attempts"] == 1)
    assert all(row["total_tokens"] > 1.5 * once for row in again)  # both answers were paid for


async def test_unreadable_verdicts_stay_without_reask(folder):
    await judge(folder, {"unparsable": 0.3}, RunOptions(), judge={"reask": 0})
    found = rows(folder)
    assert {row["route"] for row in found} == {"batch"}
    assert {row["attempts"] for row in found} == {1}
    assert 20 < sum(row["status"] == "unparsed" for row in found) < 60


async def test_a_failure_does_not_replace_an_answer(folder):
    await judge(folder, {"unparsable": 0.3}, RunOptions(), judge={"reask": 0})
    before = {row["custom_id"]: row for row in rows(folder)}
    summary = await judge(folder, {"refuse": 1}, RunOptions(retry=("unparsed",)), judge={"reask": 0})
    assert {row["custom_id"]: row for row in rows(folder)} == before
    assert summary.counts.unparsed == sum(row["status"] == "unparsed" for row in before.values())
    assert summary.counts.done == 120
