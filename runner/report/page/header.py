"""The top of the page: what was run, its state, and its key figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.page.figures import COEFFICIENT, EVEN_SHARE, NUMBER, SHARE, Data, Kind, format_figure

_ENDINGS = {
    0: "Finished",
    1: "Finished, but more rows failed or could not be read than output.tolerate allows",
    3: "Stopped: action is needed before the run can resume",
    4: "Not finished: run the same command to resume",
    70: "Stopped by a bug in judge-runner",
    130: "Interrupted: run the same command to resume",
    143: "Interrupted: run the same command to resume",
}


# At most this many of the lanes that a run went through are named.
_MAX_LANES = 4


class Tile(msgspec.Struct, frozen=True):
    """One key figure."""

    name: str
    value: str
    small: str = ""
    title: str = ""
    strong: bool = False


class PageHeader(msgspec.Struct, frozen=True):
    """The header of the page.

    Attributes:
        title: name of the run.
        state: how the run ended.
        finished: True if the run is finished.
        succeeded: True if it finished with exit code 0.
        total: the number of rows of the whole run, if known.
        emulated: True if the verdicts come from the emulator.
        facts: names and texts.
        tiles: key figures.
    """

    title: str
    state: str
    finished: bool
    succeeded: bool
    total: int | None
    emulated: bool
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[Tile]


def page_header(summary: Data) -> PageHeader:
    """Make the header of the page."""
    run = summary["run"]
    return PageHeader(
        title=str(run["name"] or run["id"] or "Unnamed run"),
        state=_state(run),
        finished=run["state"] == "finished",
        succeeded=run["state"] == "finished" and not run["exit_code"],
        total=_total(run, summary["counts"]["all"]["rows"]),
        emulated=bool(run["emulated"]),
        facts=[(name, text) for name, text in _facts(summary) if text],
        tiles=_tiles(summary),
    )


def _total(run: Data, rows: int) -> int | None:
    """Returns the number of requests of the whole run, if it is known and not below the number of rows."""
    counts = run["counts"] or {}
    total = counts.get("total", 0) + counts.get("beyond_limit", 0)
    return total if total >= max(rows, 1) else None


def _state(run: Data) -> str:
    code, state = run["exit_code"], run["state"]
    ending = _ENDINGS.get(code) if code is not None else None
    text = ending or ("Finished" if state == "finished" else f"Not finished ({state or 'state unknown'})")
    if run["stop_reason"]:
        text += f" – reason: {str(run['stop_reason']).replace('_', ' ')}"
    return text if code is None else f"{text} (exit code {code})"


def _facts(summary: Data) -> list[tuple[str, str]]:
    run, counts, time = summary["run"], summary["counts"], summary["throughput"]
    started = run["created_at"] or time["first_at"]
    ended = run["updated_at"] or time["last_at"]
    routes = ", ".join(f"{formatting.plural(n, 'row')} {route}" for route, n in counts["routes"].items())
    reason = _route_reason(run)
    versions = ", ".join(f"{name} {version}" for name, version in (run["versions"] or {}).items())
    tags = ", ".join(f"{name}: {value}" for name, value in (run["tags"] or {}).items())
    return [
        ("Run", str(run["id"] or "")),
        ("When", f"{formatting.when(started)} to {formatting.when(ended)}" if started is not None else ""),
        ("Route", f"{routes}; {reason}" if routes and reason else routes),
        ("Limit", _limit(run["limit"], counts["samples"])),
        ("Tags", tags),
        ("Versions", versions),
    ]


def _route_reason(run: Data) -> str:
    """Returns why the requests took their lanes: the reason of the only lane, or the lanes with their open requests."""
    story = run["story"] or ()
    if len(story) > 1:
        shown = ", then ".join(f"{one['lane']} with {one['left']:,} open" for one in story[-_MAX_LANES:])
        return f"lanes: {shown}" if len(story) <= _MAX_LANES else f"last lanes: {shown}"
    return str(run["route_reason"] or "")


def _limit(limit: int | None, samples: int) -> str:
    if not limit:
        return ""
    first = f"the first {formatting.plural(limit, 'sample')}"
    if samples <= limit:
        return first
    return f"the last call was about {first}; this report is about all {samples:,} samples that have rows"


def _tiles(summary: Data) -> list[Tile]:
    counts, rows = summary["counts"], summary["counts"]["all"]
    n = rows["rows"]
    tiles = [] if (headline := _headline(summary)) is None else [headline]
    tiles.append(Tile("Samples", formatting.compact(counts["samples"]), formatting.plural(n, "row"), f"{n:,} rows"))
    for name, key, small in (
        ("Verdicts read", "ok", ""),
        ("Unparsed", "unparsed", " without a readable verdict"),
        ("Failed", "failed", " without a response"),
    ):
        tiles.append(_count_tile(name, rows[key], n, small))
    return [*tiles, _cost(summary), *_tokens(summary), *_time(summary["throughput"])]


def _count_tile(name: str, count: int, n: int, small: str) -> Tile:
    value = formatting.share(count / n) if n else formatting.NONE
    return Tile(name, value, f"{formatting.plural(count, 'row')}{small}", f"{count:,} of {n:,} rows")


def _cost(summary: Data) -> Tile:
    usage, currency = summary["usage"], summary["run"]["currency"]
    total = usage[0] if usage else None
    if total is None or total["cost"] is None:
        return Tile("Cost", formatting.NONE, "no prices configured" if currency is None else "no row has a cost")
    small = f"{formatting.money(total['cost_per_sample'], currency)} per sample"
    if total["unpriced"]:
        small += f"; {formatting.plural(total['unpriced'], 'row')} without a cost"
    return Tile("Cost", formatting.money(total["cost"], currency), small)


def _tokens(summary: Data) -> list[Tile]:
    if not summary["usage"]:
        return []
    total = summary["usage"][0]
    sent, received = (formatting.compact(total[key]) for key in ("prompt_tokens", "completion_tokens"))
    tokens, cached = total["total_tokens"], total["cached_tokens"]
    hits = f" ({formatting.compact(cached)} cached)" if cached else ""
    return [Tile("Tokens", formatting.compact(tokens), f"{sent} in{hits}, {received} out", f"{tokens:,} tokens")]


def _time(time: Data) -> list[Tile]:
    if time["seconds"] is None:
        return []
    rate = time["rows_per_s"]
    small = "" if rate is None else f"{formatting.number(rate)} rows per second"
    if rate is not None and rate < 1:
        small = f"{formatting.number(60 * rate)} rows per minute"
    title = "from the start of the run to its last row, including interruptions"
    return [Tile("Time", formatting.duration(time["seconds"]), small, title)]


def main_entry(entries: Sequence[Data]) -> Data | None:
    """Returns the agreement that represents the run: of its only judge, else of the aggregated verdict."""
    judges = [entry for entry in entries if entry["judge"] is not None]
    if len(judges) == 1:
        return judges[0]
    return next((entry for entry in entries if entry["judge"] is None), judges[0] if judges else None)


def headline_figure(entry: Data) -> tuple[str, Data, Kind] | None:
    """Returns name, figure and kind of the most important figure of an agreement."""
    compared = entry["overall"]
    if compared["winners"]:
        return "Accuracy against human labels", compared["winners"]["with_ties"]["accuracy"], SHARE
    if compared["scores"]:
        return "Spearman correlation with human scores", compared["scores"]["spearman"], COEFFICIENT
    if compared["labels"]:
        return "Accuracy against human labels", compared["labels"]["accuracy"], SHARE
    return None


def _headline(summary: Data) -> Tile | None:
    entry = main_entry(summary["agreement"])
    found = None if entry is None else headline_figure(entry)
    if found is not None and entry is not None:
        several = entry["judge"] is None and len(summary["judges"]) > 1
        facts = ["all judges combined" if several else "", _undecided(entry["overall"]["winners"])]
        return _strong_tile(*found, ", ".join(filter(None, facts)))
    distributions = summary["distributions"]
    for scores in sorted(distributions["scores"], key=lambda one: one["of"] != "verdict"):
        if scores["of"] != "people" and scores["mean"]["value"] is not None:
            positions = scores["of"] == "verdict" and "score" in summary["settings"]["positions"]
            return _strong_tile("Mean score", scores["mean"], NUMBER, "position, 0 to 1" if positions else "")
    for winners in sorted(distributions["winners"], key=lambda one: one["of"] != "verdict"):
        counts = {key: (winners["original"]).get(key, 0) for key in ("1", "2", "tie")}
        n = sum(counts.values())
        if winners["of"] != "people" and n:
            return Tile("Answer 1 wins", EVEN_SHARE.write(counts["1"] / n), f"of {n:,} verdicts", strong=True)
    return None


def _undecided(winners: Data | None) -> str:
    """Returns the share of samples without a majority, and the accuracy on the others; empty if all have one."""
    share = winners["undecided"] if winners else None
    if winners is None or not share or not share["count"]:
        return ""
    decided = winners["accuracy_decided"]["value"]
    text = f"undecided {SHARE.write(share['value'])}"
    return text if decided is None else f"{text}, where decided {SHARE.write(decided)}"


def _strong_tile(name: str, figure: Data, kind: Kind, source: str = "") -> Tile:
    text = format_figure(figure, kind)
    small = ", ".join(filter(None, [text.span or text.small, source]))
    return Tile(name, text.text, small, text.title, strong=True)


def judge_rows(summary: Data) -> list[dict[str, Any]]:
    """Returns the judges of the run with their counts of rows."""
    counted = {one["judge"]: one for one in summary["counts"]["judges"]}
    return [
        {
            "name": judge["name"],
            "models": formatting.listed(judge["models"]),
            "kinds": formatting.listed([str(kind).replace("_", " ") for kind in judge["kinds"]]),
            "services": formatting.listed(judge["services"]),
            "orders": "both" if judge["swap"] else "one",
            "repeats": judge["repeats"],
            **{key: counted[judge["name"]][key] for key in ("rows", "ok", "unparsed", "failed")},
        }
        for judge in summary["judges"]
    ]
