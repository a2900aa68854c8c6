"""Two scale tests.

    python benchmarks/scale.py in-flight                 # 10,000 requests in flight
    python benchmarks/scale.py million                   # 1,000,000 samples, and the memory during the run
    python benchmarks/scale.py million --samples 100000  # the same, smaller

The exit code is 1 if a sample is lost or doubled; for the first test also if fewer requests were in flight.
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
from environment import describe_environment
from measuring import Cost, Server, execute, exit_on_signals, serving
from run import RESULTS, count_output, dataset

LATENCY_SECONDS = 5
SAMPLES_PER_SLOT = 3
SPARE_FILES = 200
CHECK_INTERVAL_SECONDS = 1.0
MIN_SAMPLES_PER_SECOND = 200  # the time limit of a run

Point = tuple[int, float]  # answered samples, and the client's memory in MB


def main() -> None:
    """Parse the command line, run one of the tests and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", choices=("in-flight", "million"))
    parser.add_argument("--samples", type=int, help=f"default: {SAMPLES_PER_SLOT} times --at-once, or 1,000,000")
    parser.add_argument("--at-once", type=int, help="default: 10,000, or 64")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines are appended here")
    given = parser.parse_args()
    exit_on_signals()
    if given.test == "in-flight":
        at_once = given.at_once or 10_000
        check_file_limit(at_once)
        result = run(given.test, given.samples or SAMPLES_PER_SLOT * at_once, at_once, LATENCY_SECONDS)
    else:
        result = run(given.test, given.samples or 1_000_000, given.at_once or 64, 0)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**describe_environment(), **result}) + "\n")
    print(describe(result))
    sys.exit(0 if is_complete(result) else 1)


def check_file_limit(at_once: int) -> None:
    """Exit if the hard limit of open files is too low: each request in flight is an open file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < at_once + SPARE_FILES:
        raise SystemExit(
            f"{at_once} in flight need {at_once + SPARE_FILES} open files, the hard limit is {hard}: ulimit -Hn"
        )


def run(test: str, samples: int, at_once: int, latency: float) -> dict[str, Any]:
    """Run judge-runner on this number of samples."""
    with tempfile.TemporaryDirectory(prefix="judge-scale-") as name:
        folder = Path(name)
        data, out = dataset(folder, samples, skewed=False), folder / "out"
        print(f"{test}: {samples:,} samples, {data.stat().st_size / 1e9:.2f} GB, {at_once:,} in flight", flush=True)
        out.mkdir()
        with serving(f"--latency-ms {1000 * latency}") as server, (folder / "client.log").open("wb") as log:
            points: list[Point] = []
            command = judge_runner(Task(f"{server.url}/v1", data, out, at_once, None, None))
            limit = 120 + samples / MIN_SAMPLES_PER_SECOND
            cost = execute(
                command,
                log,
                limit,
                lambda memory: record_point(server, memory, samples, points),
                CHECK_INTERVAL_SECONDS,
            )
            counts = server.stats()
        if cost.exit_code:
            sys.stderr.write((folder / "client.log").read_text(encoding="utf-8", errors="replace")[-2000:])
        return {
            "workload": f"scale-{test}",
            "client": "judge-runner",
            "samples": samples,
            "at_once": at_once,
            "ideal_s": -(-samples // at_once) * latency,
            **cost_figures(cost),
            "server": counts,
            "output": count_output(out, data, samples),
            "memory": at_tenths(points, samples),
        }


def record_point(server: Server, memory: int, samples: int, points: list[Point]) -> bool:
    """Record progress and memory; prints them at every tenth. Returns False: the client is not to be killed."""
    answered = server.stats()["answered"]
    before = points[-1][0] if points else 0
    points.append((answered, memory / 1e6))
    if 10 * answered // samples > 10 * before // samples:
        print(f"{time.strftime('%H:%M:%S')} {answered:>12,} answered  {memory / 1e6:6.0f} MB", flush=True)
    return False


def cost_figures(cost: Cost) -> dict[str, Any]:
    """Return the cost of a client in the form of the results file."""
    return {
        "wall_s": round(cost.wall, 2),
        "cpu_s": round(cost.cpu, 2),
        "peak_mb": round(cost.peak_mb, 1),
        "exit_code": cost.exit_code,
        "ended": cost.ended,
    }


def at_tenths(points: list[Point], samples: int) -> dict[str, float]:
    """Return the memory at each tenth of the answered samples."""
    reached = {}
    for tenth in range(1, 11):
        found = next((memory for answered, memory in points if 10 * answered >= tenth * samples), None)
        if found is not None:
            reached[f"{10 * tenth} %"] = round(found, 1)
    return reached


def describe(result: dict[str, Any]) -> str:
    """Describe the result."""
    counts, output, samples = result["server"], result["output"], result["samples"]
    rate, cpu = counts["answered"] / max(counts["active_s"], 1e-6), 1e6 * result["cpu_s"] / samples
    lines = [
        f"{samples:,} samples in {result['wall_s']:.1f} s (first request to last answer {counts['active_s']:.1f} s, "
        f"{rate:,.0f}/s), CPU {cpu:.0f} us/request",
        f"rows {output.get('rows', '?')}, lost {output.get('lost', '?')}, doubled {output.get('doubled', '?')}, "
        f"answered twice {counts['answered_twice']}, most in flight {counts['max_in_flight']:,}",
        "memory at "
        + " · ".join(f"{share}: {memory:.0f} MB" for share, memory in result["memory"].items())
        + f" · peak: {result['peak_mb']:.0f} MB",
    ]
    if result["ideal_s"]:
        lines.insert(1, f"ideal {result['ideal_s']:.0f} s: {counts['active_s'] / result['ideal_s']:.2f} x")
    if result["ended"] != "exit" or result["exit_code"]:
        lines.append(f"ENDED with {result['exit_code']} ({result['ended']})")
    return "\n".join(lines)


def is_complete(result: dict[str, Any]) -> bool:
    """Return True if no sample is lost or doubled and the required number of requests was in flight."""
    output, counts = result["output"], result["server"]
    complete = result["exit_code"] == 0 and output.get("lost") == 0 and output.get("doubled") == 0
    reached: bool = result["workload"] != "scale-in-flight" or counts["max_in_flight"] >= result["at_once"]
    return complete and reached


if __name__ == "__main__":
    main()
