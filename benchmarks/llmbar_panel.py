"""Reproduce the LLMBar paper's table with a complete run: its four judges as one panel, in both orders.

    python benchmarks/llmbar_panel.py [--shared ../shared] [--run runs/llmbar_panel]

A server returns what GPT-4 and ChatGPT answered in the paper's own runs. `judge-runner run` sends the requests, and the
run's summary is compared with the published counts, by subset: `here (published)` if they differ. The list below the
table has the answers that the paper's pipeline parses differently, and those that name no winner. The exit code is 1 if
a count differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml
from llmbar_replay import COUNTS, OTHER, SHARED, paper_extraction, published

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("GPT-4/Vanilla_NoRules", "GPT-4/CoT", "ChatGPT/Vanilla_NoRules", "ChatGPT/CoT")
FIGURES = ("accuracy_original", "accuracy_swapped", "accuracy_both_orders")


class Group(NamedTuple):
    """One judge on one subset: the summary's figures and the published counts."""

    name: str
    figures: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """Return the counts that are also published."""
        return {key: figure["count"] for key, figure in self.figures.items() if key in COUNTS}


def configuration(shared: Path, url: str, directory: Path) -> dict[str, Any]:
    """Return the panel's configuration."""
    judges = [
        {
            "name": model.replace("/", "-"),
            "kind": "template",
            "model": model,
            "swap": True,
            "user": "{question}\n=====A=====\n{answer1}\n=====B=====\n{answer2}",
            "verdict": {"format": "output_ab"},
        }
        for model in MODELS
    ]
    return {
        "name": "llmbar-panel",
        "dataset": {
            "path": str((shared / "datasets/llmbar/llmbar.jsonl").resolve()),
            "human_label": "label",
            "keep": {"subset": "meta.subset"},
        },
        "judges": judges,
        "service": {"base_url": url, "token_env": None, "dialect": "openai", "limits": {"concurrency": 16}},
        "output": {"directory": str(directory.resolve()), "tolerate": 0.01},
        "report": {"group_by": ["subset"]},
    }


@contextmanager
def recorded_judges(shared: Path) -> Iterator[str]:
    """Serve the recorded answers on a free local port; yields the base URL."""
    spec = importlib.util.spec_from_file_location("replay_serve", shared / "replay" / "serve.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Server(("127.0.0.1", 0), module.Judge)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def judge(shared: Path, directory: Path) -> None:
    """Run the panel with the console command; exits with its code if it fails."""
    directory.mkdir(parents=True, exist_ok=True)
    with recorded_judges(shared) as url:
        path = directory.with_name(f"{directory.name}.yaml")
        path.write_text(yaml.safe_dump(configuration(shared, url, directory), sort_keys=False), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "runner", "run", str(path)]
        code = subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode
    if code:
        sys.exit(code)


def groups(summary: Mapping[str, Any], published: Mapping[str, Mapping[str, int]]) -> list[Group]:
    """Return every judge on every subset, in the order of the published figures."""
    found = []
    for one in summary["agreement"]:
        for group in one["groups"]["subset"] if one["judge"] else ():
            winners = group["comparison"]["winners"]
            original, swapped, both = (winners["with_ties"][name] for name in FIGURES)
            name = f"{one['judge'].replace('-Vanilla', ' Vanilla').replace('-CoT', ' CoT')} {group['value']}"
            figures = {
                "accuracy_original": original,
                "accuracy_swapped": swapped,
                "accuracy_average": winners["with_ties"]["accuracy_mean_of_orders"],
                "both_right": both,
                "orders_agree": winners["orders_agree"],
            }
            found.append(Group(name, figures, published[name]))
    return sorted(found, key=lambda group: list(published).index(group.name))


def table(found: list[Group]) -> Iterator[str]:
    """Generate the table's lines."""
    headings = ("original", "swapped", "average", "both right", "orders agree")
    yield f"{'judge, method, subset':<36}{'n':>5}" + "".join(f"{head:>17}" for head in headings) + f"{'unread':>8}"
    for group in found:
        n = group.published["n"]
        mean = (group.published["accuracy_original"] + group.published["accuracy_swapped"]) / (2 * n)
        cells = [
            _share(figure["value"], mean)
            if key == "accuracy_average"
            else _count(figure["count"], figure["n"], group.published[key], n)
            for key, figure in group.figures.items()
        ]
        unread = group.figures["accuracy_original"]["left_out"] + group.figures["accuracy_swapped"]["left_out"]
        yield f"{group.name:<36}{n:>5}" + "".join(f"{cell:>17}" for cell in cells) + f"{unread or '':>8}"


def differences(directory: Path) -> Iterator[str]:
    """Generate the answers that the paper's pipeline parses differently, or that name no winner."""
    columns = ["sample_id", "judge", "judge_model", "swapped", "winner", "status", "error_type", "response"]
    rows = [
        row
        for part in sorted(directory.glob("results/*.parquet"))
        for row in pq.read_table(part, columns=columns).to_pylist()
    ]
    for row in sorted(rows, key=lambda row: (row["judge"], row["sample_id"], row["swapped"])):
        paper = paper_extraction(row["judge_model"].partition("/")[2], row["response"])
        paper = OTHER[paper] if row["swapped"] else paper
        if row["winner"] != paper or row["winner"] is None:
            order = "swapped" if row["swapped"] else "original"
            difference = f"{row['winner'] or row['error_type']}, the paper's pipeline: {paper}"
            yield f"{row['judge']} {row['sample_id']} {order}: {difference}\n    ... {row['response'].strip()[-160:]!r}"


def main() -> None:
    """Run or resume the panel, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--run", type=Path, default=Path("runs/llmbar_panel"), help="the run directory")
    given = parser.parse_args()
    judge(given.shared, given.run)
    summary = json.loads((given.run / "report" / "summary.json").read_bytes())
    found = groups(summary, published(given.shared))
    print("\n".join(table(found)))
    print("\nparsed differently by the paper's pipeline, or without a winner:")
    print("\n".join(differences(given.run)) or "none")
    differing = [group.name for group in found if group.counts != {key: group.published[key] for key in COUNTS}]
    if differing:
        sys.exit(f"counts differ: {', '.join(differing)}")


def _count(count: int, n: int, published: int, of: int) -> str:
    ours, theirs = f"{count}/{n}", f"{published}/{of}"
    return ours if ours == theirs else f"{ours} ({theirs})"


def _share(value: float, published: float) -> str:
    ours, theirs = f"{value:.1%}", f"{published:.1%}"
    return ours if ours == theirs else f"{ours} ({theirs})"


if __name__ == "__main__":
    main()
