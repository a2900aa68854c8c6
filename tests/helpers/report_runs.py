"""Run directories as a run leaves them, from a few columns of each row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.results import Aggregation, results_schema, write_samples
from runner.results.parts import PartWriter, part_path

Row = dict[str, Any]
_TYPES = {
    "human_winner": pa.string(),
    "human_score": pa.float64(),
    "human_label": pa.string(),
    "model": pa.string(),
    "model1": pa.string(),
    "model2": pa.string(),
}


def row(ordinal: int, judge: str = "j", swapped: bool = False, repeat: int = 0, **more: Any) -> Row:
    """One row: `ok` unless told otherwise, with no verdict."""
    return {
        "sample_id": f"s{ordinal}",
        "ordinal": ordinal,
        "judge": judge,
        "judge_model": "m",
        "kind": "template",
        "service": "default",
        "swapped": swapped,
        "repeat": repeat,
        "custom_id": f"{ordinal}-{judge}-{'s' if swapped else 'o'}-{repeat}",
        "route": "online",
        "status": "ok",
        "attempts": 1,
        "finished_at": datetime(2026, 1, 2, 3, 4, ordinal % 60, tzinfo=UTC),
        **more,
    }


def make_run(
    place: Path,
    rows: Sequence[Row],
    extra: Iterable[str] = ("human_winner", "human_score", "human_label", "category"),
    questions: Mapping[int, str | None] | None = None,
    samples: bool = True,
    score: str = "mean",
) -> Path:
    """Write rows into two parts, samples.parquet by the runner's own code, and a short run.json.

    Args:
        place: the run directory to make.
        rows: of `row`.
        extra: the dataset's own columns; those whose type is not known are texts.
        questions: by ordinal; None leaves texts out, so that every sample is its own question.
        samples: whether samples.parquet is there.
        score: how scores are put together in it.
    """
    fields = [pa.field(name, _TYPES.get(name, pa.string())) for name in extra]
    schema = results_schema(fields)
    (place / "results").mkdir(parents=True)
    for number, begin in enumerate(range(0, len(rows), max(1, -(-len(rows) // 2)))):
        writer = PartWriter(part_path(place / "results", number), schema, "zstd")
        writer.add(rows[begin : begin + -(-len(rows) // 2)])
        writer.finish()
    if samples:
        variants = frozenset((one["judge"], one["swapped"], one["repeat"]) for one in rows)
        how = Aggregation(score, 1, variants, any(swapped for _, swapped, _ in variants))
        known = questions or {}

        def texts(ordinals: Sequence[int]) -> list[pa.Array]:
            return [] if questions is None else [pa.array([known.get(n) for n in ordinals], pa.string())]

        write_samples(place, fields, how, "zstd", [] if questions is None else ["question"], texts)
    (place / "run.json").write_text(json.dumps({"schema_version": 1, "name": "test", "emulated": True}))
    return place
