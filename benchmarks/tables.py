"""Render results as one table, with medians, and ratios within a round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from workloads import BASELINE, BY_NAME, OURS, WORKLOADS, Workload

Result = dict[str, Any]
MIN_LOAD_SECONDS = 1.0  # a shorter run is no measure of the server's load
MAX_OTHER_CORES = 0.25  # other processes of a quiet machine use less than this
MAX_SERVER_CORE_SHARE = 0.9  # above this, the server may limit the result

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
    "answered twice",
    "429 %",
    "quota used %",
    "in flight",
    "server core %",
)


def show(results: Sequence[Result]) -> str:
    """Return the table, and notes below it."""
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
    """Return a line of the table."""
    baseline = {run["round"]: run for run in grouped.get((workload.name, BASELINE), ())}
    pairs = [(run, baseline[run["round"]]) for run in runs if run["round"] in baseline]
    costs = [cpu_each(run) for run in runs]
    spread = f" ({min(costs):.0f}-{max(costs):.0f})" if len(costs) > 1 else ""
    return (
        workload.name,
        runs[0]["client"],
        f"{runs[0]['samples']:,} x {len(runs)}",
        f"{median_of(runs, lambda run: run['wall_s']):.2f}",
        f"{median_of(runs, active):.2f}",
        f"{median_of(runs, rate):.0f}",
        f"{median(costs):.0f}{spread}",
        ratio(pairs, cpu_each),
        ratio(pairs, lambda run: run["wall_s"] / max(1, run["server"]["answered"])),
        f"{median_of(runs, lambda run: run['peak_mb']):.0f}",
        total(runs, "lost"),
        total(runs, "doubled"),
        f"{median_of(runs, lambda run: run['server']['answered_twice']):.0f}",
        *quota(workload, runs),
        f"{median_of(runs, lambda run: run['server']['max_in_flight']):.0f}" if "--latency" in workload.server else "-",
        f"{100 * median_of(runs, load):.0f}" if median_of(runs, active) > MIN_LOAD_SECONDS else "-",
    )


def median_of(runs: Iterable[Result], figure: Callable[[Result], float]) -> float:
    """Return the median of a figure."""
    return median(map(figure, runs))


def rate(run: Result) -> float:
    """Return the answered samples per second."""
    return float(run["server"]["answered"] / max(active(run), 1e-6))


def active(run: Result) -> float:
    """Return the seconds from the server's first request to its last answer."""
    return float(run["server"]["active_s"])


def cpu_each(run: Result) -> float:
    """Return the CPU microseconds per answered sample."""
    return float(1e6 * run["cpu_s"] / max(1, run["server"]["answered"]))


def load(run: Result) -> float:
    """Return the share of a core that the server used."""
    return float(run["server"]["cpu_s"] / max(active(run), 1e-6))


def ratio(pairs: Sequence[tuple[Result, Result]], figure: Callable[[Result], float]) -> str:
    """Return the median of the ratios to the baseline, each within a round."""
    return f"{median(figure(run) / figure(baseline) for run, baseline in pairs):.2f}" if pairs else "-"


def total(runs: Sequence[Result], name: str) -> str:
    """Return the sum of an output figure over all rounds; "?" if the rows could not be counted."""
    counts = [run["output"].get(name) for run in runs]
    return "?" if None in counts else str(sum(counts))


def quota(workload: Workload, runs: Sequence[Result]) -> tuple[str, str]:
    """Return the share of 429s and the used share of the quota, both in percent."""
    if not workload.quota:
        return "-", "-"
    return f"{100 * median_of(runs, throttled_share):.2f}", f"{100 * median_of(runs, used):.1f}"


def figures(run: Result) -> dict[str, float]:
    """Return the counts for the quota: of the whole run, or only of its settled part."""
    counts: dict[str, Any] = run["server"]
    settled: dict[str, float] = counts["settled"]
    return settled if BY_NAME[run["workload"]].settled else {**counts, "seconds": active(run)}


def throttled_share(run: Result) -> float:
    """Return the share of requests that got a 429."""
    counts = figures(run)
    return counts["throttled"] / max(1, counts["throttled"] + counts["accepted"])


def used(run: Result) -> float:
    """Return the accepted requests or tokens as a share of the quota."""
    workload, counts = BY_NAME[run["workload"]], figures(run)
    passed = counts["tokens"] if workload.tpm else counts["accepted"]
    return passed * 60 / (workload.quota or 1) / max(counts["seconds"], 1e-6)


def notes(grouped: dict[tuple[str, str], list[Result]], results: Sequence[Result]) -> Iterable[str]:
    """Generate notes that compare workloads, and remarks about single runs."""
    for client in dict.fromkeys(result["client"] for result in results):
        small, large = (grouped.get((name, client)) for name in ("memory-small", "memory-large"))
        if small and large:
            grown = median_of(large, lambda run: run["peak_mb"]) - median_of(small, lambda run: run["peak_mb"])
            yield f"memory, {client}: {grown:+.0f} MB from {small[0]['samples']:,} to {large[0]['samples']:,} samples"
    fixed = {key[1]: runs for key, runs in grouped.items() if key[0] == "saturated" and "@" in key[1]}
    if fixed and (adaptive := grouped.get(("saturated", OURS))):
        best = max(fixed, key=lambda client: median_of(fixed[client], rate))
        share = 100 * median_of(adaptive, rate) / median_of(fixed[best], rate)
        yield f"saturated: the adaptive concurrency reaches {share:.0f} % of the best fixed one ({best})"
    for result in results:
        yield from remarks(result)


def remarks(result: Result) -> Iterable[str]:
    """Generate remarks about one run."""
    name = f"{result['workload']}, {result['client']}, round {result['round']}"
    counts, output = result["server"], result["output"]
    if result["ended"] == "timeout":
        yield f"{name}: KILLED at its time limit, after {result['wall_s']:.0f} s"
    elif result["exit_code"]:
        yield f"{name}: exit code {result['exit_code']}"
    if "error" in output:
        yield f"{name}: rows could not be counted: {output['error']}"
    if output.get("overtaken_s") is not None:
        yield f"{name}: later samples overtook a long one by {output['overtaken_s']:.2f} s at most"
    if result["workload"] == "saturated" and "@" not in result["client"]:
        in_flight = counts["in_flight_per_s"]
        late = in_flight[len(in_flight) // 2 :]
        yield f"{name}: {min(late)} to {max(late)} in flight in the second half, the server has 64 workers"
    if result["workload"] == "throttled":
        yield f"{name}: {counts['throttled']} 429s; finished {active(result) - 60:.1f} s after they ended"
    if "answered_at_kill" in result:
        yield f"{name}: killed with {result['answered_at_kill']:,} answered; {counts['answered_twice']} answered twice"
    if (result.get("others_cores") or 0) > MAX_OTHER_CORES:
        yield f"{name}: other processes kept {result['others_cores']:.1f} cores busy: measure again"
    if load(result) > MAX_SERVER_CORE_SHARE and active(result) > MIN_LOAD_SECONDS:
        yield f"{name}: the server used {100 * load(result):.0f} % of a core and may have limited the result"
