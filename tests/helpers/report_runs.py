"""Write run directories from a few columns of each row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.results import Aggregation, CommonScale, results_schema, write_samples
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
    """Returns one row without a verdict; its status is `ok` unless `more` says otherwise."""
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
    directory: Path,
    rows: Sequence[Row],
    extra: Iterable[str | pa.Field] = ("human_winner", "human_score", "human_label", "category"),
    questions: Mapping[int, str | None] | None = None,
    samples: bool = True,
    score: str = "mean",
    common: CommonScale | None = None,
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run directory: rows in two parts, samples.parquet (by the runner's own code) and a short run.json.

    Args:
        directory: the run directory to create.
        rows: made by `row`.
        extra: the dataset's own columns: names, or Arrow fields; columns of unknown type are strings.
        questions: texts by ordinal; None omits them, which makes every sample its own question.
        samples: False omits samples.parquet.
        score: how scores are aggregated.
        common: which scores are aggregated as positions.
        run: more keys of run.json.
    """
    fields = [name if isinstance(name, pa.Field) else pa.field(name, _TYPES.get(name, pa.string())) for name in extra]
    schema = results_schema(fields)
    (directory / "results").mkdir(parents=True)
    for number, begin in enumerate(range(0, len(rows), max(1, -(-len(rows) // 2)))):
        writer = PartWriter(part_path(directory / "results", number), schema, "zstd")
        writer.add(rows[begin : begin + -(-len(rows) // 2)])
        writer.finish()
    if samples:
        variants = frozenset((one["judge"], one["swapped"], one["repeat"]) for one in rows)
        swap = any(swapped for _, swapped, _ in variants)
        aggregation = Aggregation(score, 1, variants, swap, common_scale=common)
        known = questions or {}

        def texts(ordinals: Sequence[int]) -> list[pa.Array]:
            return [] if questions is None else [pa.array([known.get(n) for n in ordinals], pa.string())]

        write_samples(directory, fields, aggregation, "zstd", [] if questions is None else ["question"], texts)
    known = {"schema_version": 1, "name": "test", "emulated": True, **(run or {})}
    (directory / "run.json").write_text(json.dumps(known))
    return directory
