"""Measure how much time a service takes whose replies are 500 at random, against the calls that it then needs.

    python benchmarks/random_errors.py

With a share p of errors, a row needs 1 / (1 - p) calls on average. The ideal time is that of the run without errors,
times the calls made; the table gives the ratio to it. The bound is 1.3. Fixed and learned concurrency are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)
MAX_RATIO = 1.3
TIMEOUT_SECONDS = 300


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--latency", type=float, default=0.2, help="median seconds of an answer")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    options = parser.parse_args()
    print("| concurrency | 500s | rows ok | calls | seconds | ratio to the ideal |\n|---|---|---|---|---|---|")
    is_slow = False
    for concurrency in (64, {"start": 20, "max": 200}):
        base = None
        for share in options.shares:
            seconds, rows, calls, code = measure(options.rows, options.latency, share, concurrency)
            per_call = seconds / calls
            base = base or per_call
            ratio = per_call / base
            is_slow = is_slow or ratio > MAX_RATIO or code != 0
            name = concurrency if isinstance(concurrency, int) else "learned"
            print(
                f"| {name} | {share:.0%} | {rows:,} | {calls:,} | {seconds:.1f} | {ratio:.2f} (exit {code}) |",
                flush=True,
            )
    sys.exit(is_slow)


def measure(rows: int, latency: float, share: float, concurrency: object) -> tuple[float, int, int, int]:
    """Run once; returns the seconds from the first row to the last, the ok rows, the calls and the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"id": f"s{i}", "question": f"question {i}", "answer": f"answer {i}"}) for i in range(rows)]
        (folder / "data.jsonl").write_text("\n".join(lines))
        emulator = subprocess.Popen(
            [sys.executable, "-m", "runner", "emulate", "--port", "0", "--latency.median", str(latency)]
            + (["--faults.500", str(share)] if share else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert emulator.stdout is not None
            url = re.search(r"http://\S+", emulator.stdout.readline())
            assert url is not None
            config = {
                "dataset": {"path": "data.jsonl"},
                "judge": {"kind": "pai_single"},
                "service": {"base_url": url[0].rstrip("/"), "token_env": None, "limits": {"concurrency": concurrency}},
                "online": {"retry": {"base": 0.1, "attempts": 20}},
                "router": {"mode": "online"},
                "output": {"directory": "run"},
                "report": None,
            }
            (folder / "judge.yaml").write_text(json.dumps(config))
            done = subprocess.run(
                [sys.executable, "-m", "runner", "run", str(folder / "judge.yaml"), "--quiet"],
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            table = pq.read_table(folder / "run" / "results", columns=["status", "attempts", "finished_at"])
        finally:
            emulator.terminate()
            emulator.wait()
    ended = table["finished_at"].to_pylist()
    seconds = (max(ended) - min(ended)).total_seconds()
    return seconds, table["status"].to_pylist().count("ok"), sum(table["attempts"].to_pylist()), done.returncode


if __name__ == "__main__":
    main()
