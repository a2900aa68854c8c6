"""The embedded emulator is killed during a run: the run ends at once, says so, and the next one goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from fake_service import configure, rows_by_ordinal

from runner import RunOptions, arun, load_config

pytestmark = pytest.mark.anyio


def emulator_of_this_process() -> int:
    """Return the process id of the emulator that this process has started."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            continue
        if parent == os.getpid() and b"runner.emulator" in command:
            return int(entry.name)
    raise LookupError("no emulator")


async def test_a_run_without_its_emulator_ends_at_once(tmp_path: Path) -> None:
    path = configure(tmp_path, "http://127.0.0.1:1/v1", 400)
    data = json.loads(path.read_text())
    data["service"] = {
        "kind": "emulator",
        "limits": {"concurrency": 4},
        "emulator": {"latency": {"median": 0.05}},
    }
    path.write_text(json.dumps(data))
    running = asyncio.create_task(arun(load_config(path), RunOptions(quiet=True)))
    journal = tmp_path / "run" / "journal" / "segment-00000.jsonl"
    while not (journal.exists() and journal.stat().st_size):  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(0.02)  # the run writes it
    os.kill(emulator_of_this_process(), signal.SIGKILL)
    summary = await asyncio.wait_for(running, 10)
    assert (summary.exit_code, summary.stop_reason, summary.counts.failed) == (4, "outage", 0)
    assert "the embedded emulator has ended (signal 9)" in (summary.message or "")
    assert 0 < summary.counts.done < 400
    data["service"]["emulator"] = {}
    path.write_text(json.dumps(data))
    summary = await arun(load_config(path), RunOptions(quiet=True))
    assert (summary.exit_code, len(rows_by_ordinal(tmp_path))) == (0, 400)
