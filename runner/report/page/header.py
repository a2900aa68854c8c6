"""The top of the page: what was run, in which state, and its key figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runner.report.page import formatting
from runner.report.page.figures import COEFFICIENT, EVEN, NUMBER, SHARE, Data, Kind, shown

_ENDINGS = {
    0: "Finished",
    1: "Finished, but more rows failed or could not be read than output.tolerate allows",
    3: "Stopped: a person has to act before it can go on",
    4: "Not finished: the same command goes on with it",
    70: "Stopped by a bug of judge-runner",
    130: "Interrupted; the same command goes on with it",
    143: "Interrupted; the same command goes on with it",
}


class Tile(msgspec.Struct, frozen=True):
    """One key figure."""

    name: str
    value: str
    small: str = ""
    title: str = ""
    strong: bool = False


class Top(msgspec.Struct, frozen=True):
    """What stands above everything else; `facts` are names and texts, `well` is a run that ended with code 0."""

    title: str
    state: str
    finished: bool
    well: bool
    total: int | None
    emulated: bool
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[Tile]


def top(summary: Data) -> Top:
    """Make the head of the page."""
    run = summary["run"]
    return Top(
        title=str(run["name"] or run["id"] or "A run"),
        state=_state(run),
        finished=run["state"] == "finished",
        well=run["state"] == "finished" and not run["exit_code"],
        total=(run["counts"] or {}).get("total"),
        emulated=bool(run["emulated"]),
        facts=[(name, text) for name, text in _facts(summary) if text],
        tiles=_tiles(summary),
    )


def _state(run: Data) -> str:
    code, state = run["exit_code"], run["state"]
    said = _ENDINGS.get(code) if code is not None else None
    text = said or ("Finished" if state == "finished" else f"Not finished ({state or 'its state is not known'})")
    if run["stop_reason"]:
        text += f" – reason: {str(run['stop_reason']).replace('_', ' ')}"
    return text if code is None else f"{text} (exit code {code})"


def _facts(summary: Data) -> list[tuple[str, str]]:
    run, counts, time = summary["run"], summary["counts"], summary["throughput"]
    began = run["created_at"] or time["first_at"]
    ended = run["updated_at"] or time["last_at"]
    routes = ", ".join(f"{formatting.plural(n, 'row')} {route}" for route, n in counts["routes"].items())
    named = ", ".join(f"{name} {version}" for name, version in (run["versions"] or {}).items())
    tags = ", ".join(f"{name}: {value}" for name, value in (run["tags"] or {}).items())
    return [
        ("Run", str(run["id"] or "")),
        ("When", f"{formatting.when(began)} to {formatting.when(ended)}" if began is not None else ""),
        ("Route", f"{routes}; {run['route_reason']}" if routes and run["route_reason"] else routes),
        ("Limit", f"the first {formatting.plural(run['limit'], 'sample')}" if run["limit"] else ""),
        ("Tags", tags),
        ("Versions", named),
    ]


def _tiles(summary: Data) -> list[Tile]:
    counts, rows = summary["counts"], summary["counts"]["all"]
    n = rows["rows"]
    tiles = [] if (headline := _headline(summary)) is None else [headline]
    tiles.append(
        Tile("Samples", formatting.compact(counts["samples"]), f"{formatting.plural(n, 'row')}", whole_title(n))
    )
    for name, key, small in (("Answered", "ok", "read"), ("Unparsed", "unparsed", "not readable")):
        tiles.append(_counted(name, rows[key], n, small))
    tiles.append(_counted("Failed", rows["failed"], n, "without an answer"))
    return [*tiles, _cost(summary), *_tokens(summary), *_time(summary["throughput"])]


def whole_title(n: int) -> str:
    """What stands behind a short count."""
    return f"{n:,} rows"


def _counted(name: str, count: int, n: int, small: str) -> Tile:
    value = formatting.share(count / n) if n else formatting.NONE
    return Tile(name, value, f"{formatting.plural(count, 'row')} {small}", f"{count:,} of {n:,} rows")


def _cost(summary: Data) -> Tile:
    usage, currency = summary["usage"], summary["run"]["currency"]
    every = usage[0] if usage else None
    if every is None or every["cost"] is None:
        return Tile("Cost", formatting.NONE, "no prices given" if currency is None else "no row has a cost")
    small = f"{formatting.money(every['cost_per_sample'], currency)} per sample"
    if every["unpriced"]:
        small += f"; {formatting.plural(every['unpriced'], 'row')} without a cost"
    return Tile("Cost", formatting.money(every["cost"], currency), small)


def _tokens(summary: Data) -> list[Tile]:
    if not summary["usage"]:
        return []
    every = summary["usage"][0]
    sent, got = (formatting.compact(every[key]) for key in ("prompt_tokens", "completion_tokens"))
    return [
        Tile(
            "Tokens",
            formatting.compact(every["total_tokens"]),
            f"{sent} in, {got} out",
            f"{every['total_tokens']:,} tokens",
        )
    ]


def _time(time: Data) -> list[Tile]:
    if time["seconds"] is None:
        return []
    rate = time["rows_per_s"]
    small = "" if rate is None else f"{formatting.number(rate)} rows per second"
    if rate is not None and rate < 1:
        small = f"{formatting.number(60 * rate)} rows per minute"
    return [
        Tile(
            "Time", formatting.duration(time["seconds"]), small, "from the run's begin to its last row, breaks included"
        )
    ]


def main_entry(entries: Sequence[Data]) -> Data | None:
    """The agreement that stands for the run: of its one judge, or else of the aggregated verdict."""
    judges = [entry for entry in entries if entry["judge"] is not None]
    if len(judges) == 1:
        return judges[0]
    return next((entry for entry in entries if entry["judge"] is None), judges[0] if judges else None)


def headline_figure(entry: Data) -> tuple[str, Data, Kind] | None:
    """The one figure of an agreement: its name, itself and its kind."""
    compared = entry["overall"]
    if compared["winners"]:
        return "Accuracy against people", compared["winners"]["with_ties"]["accuracy"], SHARE
    if compared["scores"]:
        return "Spearman with people", compared["scores"]["spearman"], COEFFICIENT
    if compared["labels"]:
        return "Accuracy against people", compared["labels"]["accuracy"], SHARE
    return None


def _headline(summary: Data) -> Tile | None:
    entry = main_entry(summary["agreement"])
    found = None if entry is None else headline_figure(entry)
    if found is not None and entry is not None:
        many = entry["judge"] is None and len(summary["judges"]) > 1
        return _strong(*found, "all judges together" if many else "")
    spread = summary["distributions"]
    for scores in sorted(spread["scores"], key=lambda one: one["of"] != "verdict"):
        if scores["of"] != "people" and scores["mean"]["value"] is not None:
            return _strong("Mean score", scores["mean"], NUMBER)
    for winners in sorted(spread["winners"], key=lambda one: one["of"] != "verdict"):
        told = {key: (winners["original"]).get(key, 0) for key in ("1", "2", "tie")}
        n = sum(told.values())
        if winners["of"] != "people" and n:
            return Tile("Answer 1 wins", EVEN.write(told["1"] / n), f"of {n:,} verdicts", strong=True)
    return None


def _strong(name: str, figure: Data, kind: Kind, who: str = "") -> Tile:
    said = shown(figure, kind)
    small = ", ".join(filter(None, [said.span or said.small, who]))
    return Tile(name, said.text, small, said.title, strong=True)


def judges(summary: Data) -> list[dict[str, Any]]:
    """The judges of the run with their counts of rows."""
    counted = {one["judge"]: one for one in summary["counts"]["judges"]}
    return [
        {
            "name": judge["name"],
            "models": formatting.listed(judge["models"]),
            "kinds": formatting.listed([str(kind).replace("_", " ") for kind in judge["kinds"]]),
            "services": formatting.listed(judge["services"]),
            "orders": "both orders" if judge["swap"] else "one order",
            "repeats": judge["repeats"],
            **{key: counted[judge["name"]][key] for key in ("rows", "ok", "unparsed", "failed")},
        }
        for judge in summary["judges"]
    ]
