"""How well a judge agrees with human labels: one table over several benchmarks, beside published figures.

    python benchmarks/judge_quality.py JUDGE.yaml [--benchmarks llmbar,hhh] [--limit 100] [--data FOLDER]

JUDGE.yaml names the judge: `service` (or `services`), and any other key of a configuration except `dataset`. `judge`
(or each of `judges`) overrides keys of the benchmark's own judge: `judge: {model: my-model}` keeps its prompt. A judge
with a `kind` replaces it. `x-pairwise` and `x-single` do the same for sets of that type only. Each benchmark of
configs/benchmarks/ whose file is in the folder is run (or resumed) in `runs/judge_quality/JUDGE/NAME`. The table is
made from each run's report/summary.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "benchmarks"
FILES = {"system": "file://", "user": "file://", "token_file": "", "ca_file": ""}
HEAD = ("", "n", "accuracy", "both right", "together", "kappa", "rho", "unread", "orders agree", "first wins")

Mapped = dict[str, Any]


class Line(NamedTuple):
    """One line of the table: its label and its cells."""

    label: str
    cells: Sequence[str]


def main() -> None:
    """Run the available benchmarks, and print the table."""
    given = _arguments()
    judge = _read(given.judge)
    if "dataset" in judge:
        sys.exit(f"error: {given.judge}: dataset: is set by the benchmarks; this file names only the judge")
    runs = given.runs / given.judge.stem
    lines: list[Line] = []
    for path in _chosen(given.benchmarks, given.data):
        benchmark = _read(path)
        about = benchmark["x-benchmark"]
        config = merged(benchmark, judge, given.judge.resolve().parent)
        config["dataset"]["path"] = str(_file(benchmark, given.data))
        summary = _run(config, runs / path.stem, given.limit)
        if summary is not None:
            lines += [Line(f"{path.stem} ({about['type']})", ()), *table(summary, about["published"]), Line("", ())]
    print("\n".join(rendered(lines)))


def merged(benchmark: Mapped, judge: Mapped, base: Path) -> Mapped:
    """Return the benchmark's configuration with another judge, whose file names are relative to `base`."""
    given = _rooted(judge, base)
    typed = given.get(f"x-{benchmark['x-benchmark']['type']}")
    own = benchmark["judge"]
    config = {key: value for key, value in benchmark.items() if key not in ("judge", "output")}
    config |= {
        key: value for key, value in given.items() if key not in ("judge", "judges") and not key.startswith("x-")
    }
    config["output"] = {**benchmark.get("output", {}), **given.get("output", {})}
    if "services" in given:
        config.pop("service", None)
    if "judges" in given:
        config["judges"] = [_overridden(own, one, typed) for one in given["judges"]]
    else:
        config["judge"] = _overridden(own, given.get("judge"), typed)
    return config


def _overridden(own: Mapped, *given: Mapped | None) -> Mapped:
    for one in filter(None, given):
        own = dict(one) if "kind" in one else {**own, **one}
    return own


def _rooted(value: Any, base: Path) -> Any:
    """Return the same configuration with absolute file names."""
    if isinstance(value, list):
        return [_rooted(item, base) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: FILES[key] + str(base / item.removeprefix(FILES[key]))
        if key in FILES and isinstance(item, str) and item.startswith(FILES[key])
        else _rooted(item, base)
        for key, item in value.items()
    }


def _run(config: Mapped, directory: Path, limit: int | None) -> Mapped | None:
    """Run a configuration; returns the report's summary, or None if there is none."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    path = directory.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "runner", "run", str(path), "--run-dir", str(directory)]
    if limit is not None:
        command += ["--limit", str(limit)]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode  # stdout is for the table only
    found = directory / "report" / "summary.json"
    if code not in (0, 1) or not found.exists():
        print(f"{path.stem}: no figures: exit code {code}", file=sys.stderr)
        return None
    summary: Mapped = json.loads(found.read_text(encoding="utf-8"))
    return summary


def table(summary: Mapped, published: Iterable[Mapped]) -> Iterator[Line]:
    """Generate the lines of one benchmark: our figures, overall and by published group, and the published figures."""
    groups: dict[tuple[str, str], list[Mapped]] = {}
    overall = []
    for one in published:
        if "where" in one:
            (group,) = one["where"].items()
            groups.setdefault(group, []).append(one)
        else:
            overall.append(one)
    yield from _ours(summary, None)
    yield from map(_published, overall)
    for (column, value), others in groups.items():
        yield from _ours(summary, (column, value))
        yield from map(_published, others)


def _ours(summary: Mapped, group: tuple[str, str] | None) -> Iterator[Line]:
    consistency = {one["judge"]: one for one in summary["consistency"]["judges"]}
    several = len(consistency) > 1
    for one in summary["agreement"]:
        if one["judge"] is None and not several:
            continue  # of a single judge this is the combined verdict of its two orders
        suffix = "" if group is None else f", {group[0]} {group[1]}"
        compared = _part(one, "comparison", group)
        if compared is not None:
            position = _part(consistency.get(one["judge"], {}), "steadiness", group)
            cells = _cells(compared, (position or {}).get("position") or {})
            yield Line("  " + (one["judge"] or "the panel") + suffix, cells)


def _part(one: Mapped, name: str, group: tuple[str, str] | None) -> Mapped | None:
    """Return the part of a judge's entry that is about all rows, or about one group."""
    if group is None:
        return one.get("overall")
    found = [entry for entry in one.get("groups", {}).get(group[0], ()) if entry["value"] == group[1]]
    return found[0][name] if found else None


def _cells(compared: Mapped, position: Mapped) -> Sequence[str]:
    winners, scores = compared.get("winners"), compared.get("scores")
    if winners:
        shown = winners["with_ties"]
        swapped = shown["accuracy_mean_of_orders"]
        accuracy = swapped if swapped["value"] is not None else shown["accuracy"]
        return (
            str(accuracy["n"]),
            _figure(accuracy),
            _figure(shown["accuracy_both_orders"]),
            _figure(shown["accuracy_orders_combined"]),
            _figure(shown["kappa"]),
            "",
            _unread(shown["accuracy"]),
            _figure(position.get("orders_agree")),
            _figure(position.get("first_shown_wins")),
        )
    if scores:
        rho = scores["spearman"]
        kappa = _figure(scores["quadratic_kappa"])
        return str(rho["n"]), "", "", "", kappa and f"{kappa} (quadratic)", _figure(rho), _unread(rho), "", ""
    return ("",) * (len(HEAD) - 1)


def _published(one: Mapped) -> Line:
    keys = ("accuracy", "both_orders", "orders_combined", "kappa", "spearman", "", "orders_agree", "")
    return Line("  published: " + one["judge"], ("", *(f"{one[key]:.3f}" if key in one else "" for key in keys)))


def _figure(figure: Mapped | None) -> str:
    if not figure or figure["value"] is None:
        return ""
    interval = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['value']:.3f}{interval}"


def _unread(figure: Mapped) -> str:
    total = figure["n"] + figure["left_out"]
    return f"{figure['left_out'] / total:.1%}" if total else ""


def rendered(lines: Sequence[Line]) -> Iterator[str]:
    """Render the table as text, without its empty columns."""
    filled = [line for line in lines if line.cells]
    used = [index for index in range(1, len(HEAD)) if any(line.cells[index - 1] for line in filled)]
    rows = [[HEAD[0], *(HEAD[index] for index in used)]]
    rows += [[line.label, *(line.cells[index - 1] if line.cells else "" for index in used)] for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _chosen(names: Sequence[str], data: Path) -> Iterator[Path]:
    """Generate the named benchmarks, or all whose file exists."""
    for name in names or sorted(path.stem for path in CONFIGS.glob("*.yaml")):
        path = CONFIGS / f"{name}.yaml"
        if not path.exists():
            sys.exit(f"error: --benchmarks: unknown {name}; known are {', '.join(sorted(_names()))}")
        if _file(_read(path), data) is not None:
            yield path
        elif names:
            sys.exit(f"error: {name}: its file is not in {data}; configs/benchmarks/README.md says how to get it")
        else:
            print(f"{name}: skipped, its file is not in {data}", file=sys.stderr)


def _names() -> Iterator[str]:
    return (path.stem for path in CONFIGS.glob("*.yaml"))


def _file(benchmark: Mapped, data: Path) -> Path | None:
    """Return the path of the benchmark's file: in the folder, or in one of its subfolders; else None."""
    name = Path(benchmark["dataset"]["path"]).name
    return next((path.resolve() for path in (data / name, *sorted(data.glob(f"*/{name}"))) if path.exists()), None)


def _read(path: Path) -> Mapped:
    try:
        loaded: Mapped = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        sys.exit(f"error: {path}: cannot be read: {error}")
    return loaded


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judge", type=Path, help="the configuration of the judge")
    parser.add_argument(
        "--benchmarks", type=lambda text: text.split(","), default=[], help="default: all whose file exists"
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DATA", ROOT / "data")), help="default: $DATA")
    parser.add_argument("--runs", type=Path, default=Path("runs/judge_quality"))
    parser.add_argument("--limit", type=int, help="only this number of samples of each, from the first")
    return parser.parse_args()


if __name__ == "__main__":
    main()
