"""Two tests of size.

    python benchmarks/scale.py in-flight                 # 10,000 requests under way at once
    python benchmarks/scale.py million                   # 1,000,000 samples, and the memory on the way
    python benchmarks/scale.py million --samples 100000  # the same, smaller

Both end with 1 if a sample was lost or doubled; the first also if fewer requests were under way at once.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clients import Task, judge_runner
from environment import about
from measuring import Server, Took, execute, serving, wind_down_on_signals
from run import RESULTS, counted, dataset

LATENCY_S = 5
WAVES = 3
SPARE_FILES = 200
LOOK_EVERY_S = 1.0
SAMPLES_PER_S = 200
"""A machine slower than this is given up on."""

Point = tuple[int, float]
"""How many samples were answered, and the client's memory in MB."""


def main() -> None:
    """Read the command line, run one of the tests, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", choices=("in-flight", "million"))
    parser.add_argument("--samples", type=int, help=f"default: {WAVES} times --at-once, or 1,000,000")
    parser.add_argument("--at-once", type=int, help="default: 10,000, or 64")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines are appended here")
    given = parser.parse_args()
    wind_down_on_signals()
    if given.test == "in-flight":
        at_once = given.at_once or 10_000
        fits_file_limit(at_once)
        result = run(given.test, given.samples or WAVES * at_once, at_once, LATENCY_S)
    else:
        result = run(given.test, given.samples or 1_000_000, given.at_once or 64, 0)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**about(), **result}) + "\n")
    print(described(result))
    sys.exit(0 if went_well(result) else 1)


def fits_file_limit(at_once: int) -> None:
    """Every request under way is an open file, here and at the server; both raise their own soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < at_once + SPARE_FILES:
        raise SystemExit(
            f"{at_once} at once need {at_once + SPARE_FILES} open files, the hard limit is {hard}: ulimit -Hn"
        )


def run(test: str, samples: int, at_once: int, latency: float) -> dict[str, Any]:
    """Judge so many samples."""
    with tempfile.TemporaryDirectory(prefix="judge-scale-") as name:
        folder = Path(name)
        data, out = dataset(folder, samples, skewed=False), folder / "out"
        print(f"{test}: {samples:,} samples, {data.stat().st_size / 1e9:.2f} GB, {at_once:,} at once", flush=True)
        out.mkdir()
        with serving(f"--latency-ms {1000 * latency}") as server, (folder / "client.log").open("wb") as log:
            line: list[Point] = []
            command = judge_runner(Task(f"{server.url}/v1", data, out, at_once, None, None))
            limit = 120 + samples / SAMPLES_PER_S
            took = execute(command, log, limit, lambda memory: watched(server, memory, samples, line), LOOK_EVERY_S)
            counts = server.stats()
        if took.exit_code:
            sys.stderr.write((folder / "client.log").read_text(encoding="utf-8", errors="replace")[-2000:])
        return {
            "workload": f"scale-{test}",
            "client": "judge-runner",
            "samples": samples,
            "at_once": at_once,
            "ideal_s": -(-samples // at_once) * latency,
            **figures(took),
            "server": counts,
            "output": counted(out, data, samples),
            "memory": at_tenths(line, samples),
        }


def watched(server: Server, memory: int, samples: int, line: list[Point]) -> bool:
    """Note down how far the run is and what it takes; say how it goes, every tenth."""
    answered = server.stats()["answered"]
    before = line[-1][0] if line else 0
    line.append((answered, memory / 1e6))
    if 10 * answered // samples > 10 * before // samples:
        print(f"{time.strftime('%H:%M:%S')} {answered:>12,} answered  {memory / 1e6:6.0f} MB", flush=True)
    return False


def figures(took: Took) -> dict[str, Any]:
    """What a client took, as it is kept."""
    return {
        "wall_s": round(took.wall, 2),
        "cpu_s": round(took.cpu, 2),
        "peak_mb": round(took.peak_mb, 1),
        "exit_code": took.exit_code,
        "ended": took.ended,
    }


def at_tenths(line: list[Point], samples: int) -> dict[str, float]:
    """The memory when a tenth was answered, two tenths and so on, as far as it was looked at."""
    reached = {}
    for tenth in range(1, 11):
        found = next((memory for answered, memory in line if 10 * answered >= tenth * samples), None)
        if found is not None:
            reached[f"{10 * tenth} %"] = round(found, 1)
    return reached


def described(result: dict[str, Any]) -> str:
    """The result in words."""
    counts, output, samples = result["server"], result["output"], result["samples"]
    rate, cpu = counts["answered"] / max(counts["active_s"], 1e-6), 1e6 * result["cpu_s"] / samples
    lines = [
        f"{samples:,} samples in {result['wall_s']:.1f} s (first request to last answer {counts['active_s']:.1f} s, "
        f"{rate:,.0f}/s), CPU {cpu:.0f} us/request",
        f"rows {output.get('rows', '?')}, lost {output.get('lost', '?')}, doubled {output.get('doubled', '?')}, "
        f"asked again {counts['answered_twice']}, most in flight {counts['max_in_flight']:,}",
        "memory at "
        + " · ".join(f"{share}: {memory:.0f} MB" for share, memory in result["memory"].items())
        + f" · peak: {result['peak_mb']:.0f} MB",
    ]
    if result["ideal_s"]:
        lines.insert(1, f"ideal {result['ideal_s']:.0f} s: {counts['active_s'] / result['ideal_s']:.2f} x")
    if result["ended"] != "exit" or result["exit_code"]:
        lines.append(f"ENDED with {result['exit_code']} ({result['ended']})")
    return "\n".join(lines)


def went_well(result: dict[str, Any]) -> bool:
    """Nothing lost, nothing doubled, and as many at once as there should be."""
    output, counts = result["output"], result["server"]
    whole = result["exit_code"] == 0 and output.get("lost") == 0 and output.get("doubled") == 0
    reached: bool = result["workload"] != "scale-in-flight" or counts["max_in_flight"] >= result["at_once"]
    return whole and reached


if __name__ == "__main__":
    main()
