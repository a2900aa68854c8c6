"""What the run used: tokens, cost, attempts and time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import Area, area
from runner.report.page.figures import Data


class CostAndTime(msgspec.Struct, frozen=True):
    """The section: tables of texts whose first line is about all judges, and a chart of rows over time.

    `retries` is the same number that the terminal and status.json show.
    """

    retries: str
    usage: Sequence[Sequence[str]]
    latency: Sequence[Sequence[str]]
    timeline: Area | None
    peak: str
    ends: tuple[str, str]


def cost_and_time(summary: Data) -> CostAndTime | None:
    """Make the section; None without rows."""
    time = summary["throughput"]
    if not summary["counts"]["all"]["rows"]:
        return None
    currency = summary["run"]["currency"]
    single_judge = len(summary["judges"]) < 2
    chart = area(time["timeline"], time["step_s"])
    return CostAndTime(
        retries=_retries(summary["run"]["traffic"]),
        usage=[_usage(line, currency) for line in _lines(summary["usage"], single_judge)],
        latency=[_latency(line) for line in _lines(time["latency"], single_judge) if line["n"]],
        timeline=chart,
        peak=f"{formatting.number(chart.peak)} rows/s" if chart else "",
        ends=(formatting.when(time["first_at"]), formatting.when(time["last_at"])),
    )


def _retries(traffic: Data | None) -> str:
    if not traffic:
        return ""
    retries = "No attempt was retried" if not traffic["retries"] else f"Attempts retried: {traffic['retries']:,}"
    return f"{retries}; replies with status 429: {traffic['throttled']:,}."


def _lines(lines: Sequence[Data], single_judge: bool) -> Sequence[Data]:
    """Returns the lines to show: with a single judge, its own line equals the one for all judges."""
    return lines[-1:] if single_judge else lines


def _usage(line: Data, currency: str | None) -> list[str]:
    cost, each = line["cost"], line["cost_per_sample"]
    return [
        _name(line),
        formatting.whole(line["attempts"]),
        *(formatting.whole(line[key]) for key in ("prompt_tokens", "completion_tokens", "total_tokens", "uncounted")),
        formatting.NONE if cost is None else formatting.money(cost, currency),
        formatting.NONE if each is None else formatting.money(each, currency),
    ]


def _latency(line: Data) -> list[str]:
    quantiles = (line[key] for key in ("p50", "p90", "p99", "max"))
    return [
        _name(line),
        *(formatting.NONE if seconds is None else formatting.duration(seconds) for seconds in quantiles),
        formatting.whole(line["n"]),
    ]


def _name(line: Data) -> str:
    return "All judges" if line["judge"] is None else str(line["judge"])
