"""Measure judge-runner, the baseline and other installed clients against a reference server.

    python benchmarks/run.py --quick
    python benchmarks/run.py --workloads overhead,quota --clients baseline,judge-runner,openai --rounds 3
    python benchmarks/run.py --clients baseline,mine --command "mine=./mine {base_url} {data} {out}"

The clients of a workload take turns, round by round. The table has medians, and ratios within a round. Each run appends
its figures to a file of JSON lines; `--table FILE` prints the table of such a file again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import generate
from clients import KNOWN, Client, Task, find
from environment import describe_environment
from measuring import Cost, Server, execute, exit_on_signals, serving
from tables import show
from workloads import BY_NAME, PEERS, WORKLOADS, Workload

HERE = Path(__file__).parent
RESULTS = HERE.parent / "runs" / "benchmarks.jsonl"
COUNT_TIMEOUT_SECONDS = 300


def main() -> None:
    """Parse the command line, measure and print."""
    given = arguments()
    if given.table:
        print(show([json.loads(line) for line in given.table.read_text(encoding="utf-8").splitlines()]))
        return
    commands = {name: command for name, _, command in (pair.partition("=") for pair in given.command)}
    names = [name for name in given.workloads.split(",") if name] or [
        w.name for w in WORKLOADS if w.quick or not given.quick
    ]
    if unknown := [name for name in names if name not in BY_NAME]:
        raise SystemExit(f"--workloads: unknown {', '.join(unknown)}; known are {', '.join(BY_NAME)}")
    exit_on_signals()
    common = describe_environment()
    print(" · ".join(f"{key} {value}" for key, value in common.items() if key != "versions"))
    print(" · ".join(f"{package} {version}" for package, version in common["versions"].items()), flush=True)
    results: list[dict[str, Any]] = []
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="judge-bench-") as folder:
        for workload in map(BY_NAME.__getitem__, names):
            for result in measure(workload, participants(workload, given.clients, commands), given, Path(folder)):
                results.append(result)
                with given.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**common, **result}) + "\n")
    print(f"\n{show(results)}\n\nappended to {given.results}")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="", help=f"of {', '.join(BY_NAME)}; default: all, or the quick ones")
    parser.add_argument("--clients", default="", help="default: each workload's; judge-runner@N: fixed concurrency N")
    parser.add_argument("--command", action="append", default=[], metavar="NAME=COMMAND", help="one more client")
    parser.add_argument("--rounds", type=int, help="default: 3, or 1 if a workload waits for a quota")
    parser.add_argument("--quick", action="store_true", help="fewer workloads, fewer samples: a few minutes")
    parser.add_argument("--samples", type=int, help="number of samples of every workload")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON lines are appended here")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only print the table of these results")
    return parser.parse_args()


def participants(workload: Workload, names: str, commands: dict[str, str]) -> list[Client]:
    """Return the clients of a workload; prints those that are not installed."""
    requested = [name for name in names.split(",") if name] or list(workload.clients)
    if PEERS in requested:
        requested.remove(PEERS)
        requested += [client.name for client in KNOWN if client.peer]
    installed = []
    for name in requested:
        client = find(name, commands)
        if client is None:
            known = ", ".join(client.name for client in KNOWN)
            raise SystemExit(f"--clients: unknown {name}; known are {known}, judge-runner@N and those of --command")
        if client.missing:
            print(f"{workload.name}: {name} skipped: {', '.join(client.missing)} not installed")
        else:
            installed.append(client)
    return installed


def measure(
    workload: Workload, clients: Sequence[Client], given: argparse.Namespace, folder: Path
) -> Iterator[dict[str, Any]]:
    """Run every client of a workload in rounds; yields the result of each run."""
    print(f"\n{workload.name}: {workload.about}", flush=True)
    for number in range(1, (given.rounds or workload.rounds) + 1):
        for client in clients:
            count = (workload.quick if given.quick else 0) or workload.samples
            if client.peer:
                count = min(count, workload.peer_samples)
            count = given.samples or count
            result = {
                "workload": workload.name,
                "client": client.name,
                "round": number,
                "samples": count,
                "quick": given.quick,
            }
            result |= run_client(workload, client, dataset(folder, count, workload.skewed), count, folder)
            print(summary_line(result), flush=True)
            yield result


def dataset(folder: Path, count: int, skewed: bool) -> Path:
    """Return the path of a dataset of this size, which is written once."""
    path = folder / f"pairs-{count}{'-skewed' if skewed else ''}.jsonl"
    if not path.exists():
        generate.write(path, count, skewed=skewed)
    return path


def run_client(workload: Workload, client: Client, data: Path, count: int, folder: Path) -> dict[str, Any]:
    """Run one client once, against its own server."""
    with tempfile.TemporaryDirectory(dir=folder) as name, serving(workload.server) as server:
        out = Path(name)
        concurrency = (workload.peer_concurrency if client.peer else None) or workload.concurrency
        task = Task(f"{server.url}/v1", data, out, concurrency, workload.rpm, workload.tpm)
        with (out / "client.log").open("wb") as log:
            cost, more = execute_workload(workload, client.command(task), server, count, log)
        counts = server.stats()
        result = {
            "wall_s": round(cost.wall, 4),
            "cpu_s": round(cost.cpu, 4),
            "peak_mb": round(cost.peak_mb, 1),
            "until_first_request_s": round(counts["first_request"] - cost.started, 4)
            if counts["first_request"]
            else None,
            "exit_code": cost.exit_code,
            "ended": cost.ended,
            "others_cores": other_load(cost, counts),
            "server": counts,
            "output": count_output(out, data, count),
            **more,
        }
        if cost.exit_code:
            sys.stderr.write((out / "client.log").read_text(encoding="utf-8", errors="replace")[-2000:])
    return result


def execute_workload(
    workload: Workload, command: list[str], server: Server, count: int, log: Any
) -> tuple[Cost, dict[str, Any]]:
    """Run the client; if the workload has a kill, kill it at half, run it again and add up the costs of both."""
    if not workload.kill:
        return execute(command, log, workload.limit), {}
    first = execute(command, log, workload.limit, lambda _: server.stats()["answered"] >= count / 2)
    answered = server.stats()["answered"]
    again = execute(command, log, workload.limit)
    both = again._replace(
        started=first.started,
        busy=None if first.busy is None or again.busy is None else first.busy + again.busy,
        wall=first.wall + again.wall,
        cpu=first.cpu + again.cpu,
        peak_mb=max(first.peak_mb, again.peak_mb),
    )
    return both, {"answered_at_kill": answered, "first_ended": first.ended}


def other_load(cost: Cost, counts: dict[str, Any]) -> float | None:
    """Return the cores that processes other than client and server kept busy; None if unknown."""
    if cost.busy is None:
        return None
    other: float = cost.busy - cost.cpu - counts["cpu_s"]
    return round(max(0.0, other) / cost.wall, 2)


def count_output(out: Path, data: Path, count: int) -> dict[str, Any]:
    """Count what the client wrote, in a separate process."""
    command = [sys.executable, str(HERE / "result_counts.py"), str(out), str(data), str(count)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COUNT_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"error": "took too long"}
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-300:]}
    return found


def summary_line(result: dict[str, Any]) -> str:
    """Return one line about a run."""
    counts, output = result["server"], result["output"]
    return (
        f"{time.strftime('%H:%M:%S')} {result['client']:16} round {result['round']}  wall {result['wall_s']:7.2f} s  "
        f"CPU {1e6 * result['cpu_s'] / max(1, counts['answered']):6.0f} us/request  {result['peak_mb']:5.0f} MB  "
        f"answered {counts['answered']:,}  lost {output.get('lost', '?')}  429s {counts['throttled']:,}"
    )


if __name__ == "__main__":
    main()
