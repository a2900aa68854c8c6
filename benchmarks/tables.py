"""Results as one table, with medians, and ratios within the same round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from workloads import BASELINE, BY_NAME, OURS, WORKLOADS, Workload

Result = dict[str, Any]
SHORT_S = 1.0
"""What took less says nothing about the server's load."""

DISTURBED = 0.25
"""What else runs on a quiet machine takes less of a core than this."""

BUSY = 0.9
"""A server that uses more of a core than this may be what is measured."""

HEADINGS = (
    "workload",
    "client",
    "samples x rounds",
    "wall s",
    "active s",
    "requests/s",
    "CPU us/request",
    "x baseline CPU",
    "x baseline wall",
    "peak MB",
    "lost",
    "doubled",
    "asked again",
    "429 %",
    "quota used %",
    "in flight",
    "server core %",
)


def show(results: Sequence[Result]) -> str:
    """The table, and in words what compares one workload with another."""
    results = [result for result in results if result["workload"] in BY_NAME]
    grouped: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        grouped[result["workload"], result["client"]].append(result)
    rows = [HEADINGS]
    for workload in WORKLOADS:
        rows += [row(workload, runs, grouped) for key, runs in grouped.items() if key[0] == workload.name]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, "", *notes(grouped, results)])


def row(workload: Workload, runs: Sequence[Result], grouped: dict[tuple[str, str], list[Result]]) -> tuple[str, ...]:
    """A line of the table."""
    baseline = {run["round"]: run for run in grouped.get((workload.name, BASELINE), ())}
    pairs = [(run, baseline[run["round"]]) for run in runs if run["round"] in baseline]
    costs = [cpu_each(run) for run in runs]
    spread = f" ({min(costs):.0f}-{max(costs):.0f})" if len(costs) > 1 else ""
    return (
        workload.name,
        runs[0]["client"],
        f"{runs[0]['samples']:,} x {len(runs)}",
        f"{middle(runs, lambda run: run['wall_s']):.2f}",
        f"{middle(runs, active):.2f}",
        f"{middle(runs, rate):.0f}",
        f"{median(costs):.0f}{spread}",
        ratio(pairs, cpu_each),
        ratio(pairs, lambda run: run["wall_s"] / max(1, run["server"]["answered"])),
        f"{middle(runs, lambda run: run['peak_mb']):.0f}",
        total(runs, "lost"),
        total(runs, "doubled"),
        f"{middle(runs, lambda run: run['server']['answered_twice']):.0f}",
        *quota(workload, runs),
        f"{middle(runs, lambda run: run['server']['max_in_flight']):.0f}" if "--latency" in workload.server else "-",
        f"{100 * middle(runs, load):.0f}" if middle(runs, active) > SHORT_S else "-",
    )


def middle(runs: Iterable[Result], figure: Callable[[Result], float]) -> float:
    """The median."""
    return median(map(figure, runs))


def rate(run: Result) -> float:
    """Samples answered in a second."""
    return float(run["server"]["answered"] / max(active(run), 1e-6))


def active(run: Result) -> float:
    """Seconds from the server's first request to its last answer."""
    return float(run["server"]["active_s"])


def cpu_each(run: Result) -> float:
    """Microseconds of CPU for an answered sample."""
    return float(1e6 * run["cpu_s"] / max(1, run["server"]["answered"]))


def load(run: Result) -> float:
    """How much of a core the server used."""
    return float(run["server"]["cpu_s"] / max(active(run), 1e-6))


def ratio(pairs: Sequence[tuple[Result, Result]], figure: Callable[[Result], float]) -> str:
    """The median of the ratios to the baseline, each of one round."""
    return f"{median(figure(run) / figure(baseline) for run, baseline in pairs):.2f}" if pairs else "-"


def total(runs: Sequence[Result], name: str) -> str:
    """What all rounds lost together; "?" where the rows could not be counted."""
    counts = [run["output"].get(name) for run in runs]
    return "?" if None in counts else str(sum(counts))


def quota(workload: Workload, runs: Sequence[Result]) -> tuple[str, str]:
    """The share of 429s in percent, and how much of the quota was used."""
    if not workload.quota:
        return "-", "-"
    return f"{100 * middle(runs, refused):.2f}", f"{100 * middle(runs, used):.1f}"


def figures(run: Result) -> dict[str, float]:
    """The counts that say how the quota was kept: of the whole run, or once limits had to be known."""
    counts: dict[str, Any] = run["server"]
    settled: dict[str, float] = counts["settled"]
    return settled if BY_NAME[run["workload"]].settled else {**counts, "seconds": active(run)}


def refused(run: Result) -> float:
    """The share of requests that a 429 answered."""
    counts = figures(run)
    return counts["throttled"] / max(1, counts["throttled"] + counts["accepted"])


def used(run: Result) -> float:
    """What passed, over what could have."""
    workload, counts = BY_NAME[run["workload"]], figures(run)
    passed = counts["tokens"] if workload.tpm else counts["accepted"]
    return passed * 60 / (workload.quota or 1) / max(counts["seconds"], 1e-6)


def notes(grouped: dict[tuple[str, str], list[Result]], results: Sequence[Result]) -> Iterable[str]:
    """What a row alone does not say."""
    for client in dict.fromkeys(result["client"] for result in results):
        small, large = (grouped.get((name, client)) for name in ("memory-small", "memory-large"))
        if small and large:
            grown = middle(large, lambda run: run["peak_mb"]) - middle(small, lambda run: run["peak_mb"])
            yield f"memory, {client}: {grown:+.0f} MB from {small[0]['samples']:,} to {large[0]['samples']:,} samples"
    fixed = {key[1]: runs for key, runs in grouped.items() if key[0] == "saturated" and "@" in key[1]}
    if fixed and (adaptive := grouped.get(("saturated", OURS))):
        best = max(fixed, key=lambda client: middle(fixed[client], rate))
        share = 100 * middle(adaptive, rate) / middle(fixed[best], rate)
        yield f"saturated: the adaptive concurrency reaches {share:.0f} % of the best fixed one ({best})"
    for result in results:
        yield from remarks(result)


def remarks(result: Result) -> Iterable[str]:
    """What is worth saying about one run."""
    name = f"{result['workload']}, {result['client']}, round {result['round']}"
    counts, output = result["server"], result["output"]
    if result["ended"] == "timeout":
        yield f"{name}: ENDED after its {result['wall_s']:.0f} s were over"
    elif result["exit_code"]:
        yield f"{name}: exit code {result['exit_code']}"
    if "error" in output:
        yield f"{name}: rows could not be counted: {output['error']}"
    if output.get("overtaken_s") is not None:
        yield f"{name}: a long sample was overtaken for {output['overtaken_s']:.2f} s at most"
    if result["workload"] == "saturated" and "@" not in result["client"]:
        in_flight = counts["in_flight_per_s"]
        late = in_flight[len(in_flight) // 2 :]
        yield f"{name}: {min(late)} to {max(late)} in flight in the second half, the server has 64 workers"
    if result["workload"] == "throttled":
        yield f"{name}: {counts['throttled']} 429s; done {active(result) - 60:.1f} s after they ended"
    if "answered_at_kill" in result:
        yield f"{name}: killed with {result['answered_at_kill']:,} answered; {counts['answered_twice']} asked again"
    if (result.get("others_cores") or 0) > DISTURBED:
        yield f"{name}: something else kept {result['others_cores']:.1f} cores busy meanwhile: measure again"
    if load(result) > BUSY and active(result) > SHORT_S:
        yield f"{name}: the server used {100 * load(result):.0f} % of a core: it may be what was measured"
