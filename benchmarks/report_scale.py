"""Measure the time and memory of the report of a large run.

    python benchmarks/report_scale.py [--rows 1000000] [--kind pair|single] [--keep FOLDER]

The program writes a run of three judges with the runner's own writers: pairs in both orders, texts of 700 characters,
human labels, models, a grouping column, and rows that could not be parsed. Then it measures the report in its own
process, as `judge-runner report` starts it. The exit code is 1 if the report takes 60 s or 1 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import Cost, execute

from runner.results import Aggregation, VariantKey, results_schema, write_samples
from runner.results.parts import PartWriter, part_path

JUDGES = ("alpha", "beta", "gamma")
MODELS = np.array([f"model-{number:02d}" for number in range(12)])
WORDS = np.array([f"{first}{last}" for first in ("ka", "lo", "mi", "su", "te", "vo") for last in ("r", "lin", "dam")])
SAMPLES_PER_STEP = 2_000
ROWS_PER_PART = 50_000
MAX_SECONDS, MAX_MEGABYTES = 60, 1000
# The dataset's own columns.
EXTRA = {
    "pair": ("human_winner", "human_score", "human_label", "model1", "model2", "category"),
    "single": ("human_winner", "human_score", "human_label", "model", "category"),
}

CONSTANT = {
    "judge_model": "judge-model", "kind": "template", "service": "default", "repeat": 0, "route": "online",
    "attempts": 1, "prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360, "cost": 0.001,
}  # fmt: skip


def main() -> None:
    """Parse the command line, write the run, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("pair", "single"), default="pair")
    parser.add_argument("--keep", type=Path, help="the folder of the run; a run that is there is reused")
    given = parser.parse_args()
    with run_folder(given.keep) as directory:
        if not (directory / "run.json").exists():
            started = time.monotonic()
            make_run(directory, given.rows, given.kind)
            print(f"written in {time.monotonic() - started:.0f} s", file=sys.stderr)
        size = sum(path.stat().st_size for path in directory.rglob("*.parquet")) / 1e6
        cost = measure_report(directory)
        print(
            f"report of {given.rows:,} rows ({given.kind}, {size:,.0f} MB of Parquet): {cost.wall:.1f} s, "
            f"{cost.cpu:.1f} s of CPU, at most {cost.peak_mb:,.0f} MB"
        )
    sys.exit(1 if cost.wall >= MAX_SECONDS or cost.peak_mb >= MAX_MEGABYTES else 0)


@contextmanager
def run_folder(keep: Path | None) -> Iterator[Path]:
    """Yield the folder of the run: the given one, or a temporary one."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="judge-report-") as folder:
        yield Path(folder) / "run"


def measure_report(directory: Path) -> Cost:
    """Make the report of a run in its own process; exits if it fails."""
    options = {"run_dir": str(directory), "group_by": ["category"]}
    command = [sys.executable, "-m", "runner.report", json.dumps(options)]
    with tempfile.TemporaryFile() as log:
        cost = execute(command, log, 20 * MAX_SECONDS)
        if cost.exit_code:
            log.seek(0)
            sys.exit(log.read().decode())
    return cost


def make_run(directory: Path, rows: int, kind: str) -> None:
    """Write results, samples.parquet and run.json of a finished run."""
    (directory / "results").mkdir(parents=True)
    draw = np.random.default_rng(1)
    orders = (False, True) if kind == "pair" else (False,)
    variants: list[VariantKey] = [(judge, swapped, 0) for judge in JUDGES for swapped in orders]
    samples = rows // len(variants)
    extra = [pa.field(name, pa.float64() if name == "human_score" else pa.string()) for name in EXTRA[kind]]
    schema = results_schema(extra)
    writer, part = PartWriter(part_path(directory / "results", 0), schema, "zstd"), 0
    for start in range(0, samples, SAMPLES_PER_STEP):
        ordinals = np.arange(start, min(samples, start + SAMPLES_PER_STEP))
        dataset = dataset_columns(draw, ordinals, kind)
        for variant in variants:
            columns = {**dataset, **answer_columns(draw, ordinals, variant, dataset)}
            writer.add_batch(batch(columns, schema, len(ordinals)))
        if (start + SAMPLES_PER_STEP) * len(variants) >= (part + 1) * ROWS_PER_PART:
            writer.finish()
            part += 1
            writer = PartWriter(part_path(directory / "results", part), schema, "zstd")
    writer.finish()
    names = ["question", "answer1", "answer2"] if kind == "pair" else ["question", "answer"]

    def texts(ordinals: Sequence[int]) -> list[pa.Array]:
        questions = [f"What of {ordinal // 4}, in a hundred words?" for ordinal in ordinals]
        return [pa.array(questions), *(pa.array(text(draw, len(ordinals))) for _ in names[1:])]

    how = Aggregation("mean", 1, frozenset(variants), kind == "pair")
    write_samples(directory, extra, how, "zstd", names, texts)
    facts = {"schema_version": 1, "id": "scale", "name": "scale", "emulated": True, "state": "finished"}
    (directory / "run.json").write_text(json.dumps(facts), encoding="utf-8")


def batch(columns: dict[str, Any], schema: pa.Schema, n: int) -> pa.RecordBatch:
    """Return columns as an Arrow batch, with null for a missing column or NaN."""
    found = [(field.type, columns.get(field.name)) for field in schema]
    arrays = [
        pa.nulls(n, kind) if values is None else pa.array(values, kind, from_pandas=True) for kind, values in found
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def dataset_columns(draw: np.random.Generator, ordinals: Any, kind: str) -> dict[str, Any]:
    """Draw the dataset's columns of these samples."""
    n = len(ordinals)
    first = draw.integers(len(MODELS), size=n)
    pair = kind == "pair"
    return {
        "sample_id": ordinals.astype(str),
        "ordinal": ordinals,
        "human_winner": draw.choice(["1", "2", "tie"], n, p=[0.45, 0.45, 0.1]) if pair else None,
        "human_score": None if pair else draw.integers(1, 6, n).astype(float),
        "model": None if pair else MODELS[first],
        "model1": MODELS[first] if pair else None,
        "model2": MODELS[(first + 1 + draw.integers(len(MODELS) - 1, size=n)) % len(MODELS)] if pair else None,
        "category": draw.choice([f"category {number}" for number in range(8)], n),
    }


def answer_columns(
    draw: np.random.Generator, ordinals: Any, variant: VariantKey, dataset: dict[str, Any]
) -> dict[str, Any]:
    """Draw one judge's answers in one order: the label with probability 0.7, else a guess; 3 % have no verdict."""
    n, (judge, swapped, _) = len(ordinals), variant
    status = draw.choice(["ok", "unparsed", "failed"], n, p=[0.97, 0.02, 0.01])
    read, answered = status == "ok", status != "failed"
    human = dataset["human_winner"] if dataset["human_score"] is None else None
    winner = None if human is None else np.where(draw.random(n) < 0.7, human, draw.choice(["1", "2", "tie"], n))
    guess = np.clip((dataset["human_score"] if human is None else 0) * 2 + draw.normal(0, 2, n), 1, 10).round()
    order = "s" if swapped else "o"
    return {
        **{name: [value] * n for name, value in CONSTANT.items()},
        "judge": [judge] * n,
        "swapped": [swapped] * n,
        "custom_id": [f"{ordinal}-{judge}-{order}-0" for ordinal in ordinals],
        "request_hash": [f"{value:016x}" for value in draw.integers(1 << 62, size=n)],
        "status": status,
        "winner": None if winner is None else np.where(read, winner, None),
        "score": None if winner is not None else np.where(read, guess, np.nan),
        "dimensions": [[{"name": "depth", "answer": None, "score": float(score)}] for score in guess],
        "response": np.where(answered, text(draw, n), None),
        "rule": np.where(read, "mt_bench.bracket", None),
        "error_type": np.select([status == "unparsed", status == "failed"], ["no_verdict", "timeout"], None),
        "error_message": np.where(read, None, "the text has no verdict"),
        "latency_s": np.where(answered, draw.lognormal(0, 0.5, n), np.nan),
        "finished_at": 1_700_000_000_000_000 + ordinals * 1000,
    }


def text(draw: np.random.Generator, n: int) -> list[str]:
    """Draw texts of 150 words, all different."""
    return [" ".join(words) for words in WORDS[draw.integers(len(WORDS), size=(n, 150))]]


if __name__ == "__main__":
    main()
