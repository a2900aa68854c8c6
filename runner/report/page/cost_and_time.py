"""What the run took: tokens, cost, attempts and time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runner.report.page import formatting
from runner.report.page.charts import Area, area
from runner.report.page.figures import Data


class Effort(msgspec.Struct, frozen=True):
    """The section: tables of texts, all rows first, and the rows over time."""

    usage: Sequence[Sequence[str]]
    latency: Sequence[Sequence[str]]
    timeline: Area | None
    most: str
    ends: tuple[str, str]


def effort(summary: Data) -> Effort | None:
    """Make the section; None without rows."""
    time = summary["throughput"]
    if not summary["counts"]["all"]["rows"]:
        return None
    currency = summary["run"]["currency"]
    one = len(summary["judges"]) < 2
    drawn = area(time["timeline"], time["step_s"])
    return Effort(
        usage=[_usage(line, currency) for line in _lines(summary["usage"], one)],
        latency=[_latency(line) for line in _lines(time["latency"], one) if line["n"]],
        timeline=drawn,
        most=f"{formatting.number(drawn.most)} rows/s" if drawn else "",
        ends=(formatting.when(time["first_at"]), formatting.when(time["last_at"])),
    )


def _lines(lines: Sequence[Data], one: bool) -> Sequence[Data]:
    """With one judge its line says what the first one says."""
    return lines[:1] if one else lines


def _usage(line: Data, currency: str | None) -> list[str]:
    cost, each = line["cost"], line["cost_per_sample"]
    return [
        _name(line),
        formatting.whole(line["attempts"]),
        formatting.whole(line["retries"]),
        *(formatting.whole(line[key]) for key in ("prompt_tokens", "completion_tokens", "total_tokens", "uncounted")),
        formatting.NONE if cost is None else formatting.money(cost, currency),
        formatting.NONE if each is None else formatting.money(each, currency),
    ]


def _latency(line: Data) -> list[str]:
    shares = (line[key] for key in ("p50", "p90", "p99", "max"))
    return [
        _name(line),
        *(formatting.NONE if one is None else formatting.duration(one) for one in shares),
        formatting.whole(line["n"]),
    ]


def _name(line: Data) -> str:
    return "All rows" if line["judge"] is None else str(line["judge"])
