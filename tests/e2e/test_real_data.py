"""Public human-labelled datasets, whole: one row per sample, labels and kept columns as they were."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest


class Dataset(NamedTuple):
    """How a dataset is judged: its kind, its label, and the column of `meta` that is kept."""

    kind: str
    label: Any
    kept: str


PAIRS = "pai_pairwise"
SINGLE = "pai_single"
DATASETS = {
    "llmbar": Dataset(PAIRS, "label", "subset"),
    "llmeval2_zh": Dataset(PAIRS, "label", "component"),
    "wpb_zh_scores": Dataset(SINGLE, {"column": "label_score", "scale": [0, 3]}, "annotator"),
    "sfhot": Dataset(SINGLE, {"column": "label_score", "scale": [1, 6]}, "dialogue_act"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_real_dataset_is_judged_whole(name, cli, tmp_path, shared, plain_emulator):
    path = shared / "datasets" / name / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"{name} is not among the shared data")
    how = DATASETS[name]
    document = {
        "dataset": {"path": str(path), "human_label": how.label, "keep": {"kept": f"meta.{how.kept}"}},
        "judge": {"kind": how.kind},
        "service": {"base_url": plain_emulator.url, "token_env": None, "limits": {"concurrency": 64}},
        "output": {"directory": "out", "rows_per_part": 300},
    }
    (tmp_path / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")
    done = cli("run", "judge.yaml", timeout=120)
    assert done.returncode == 0, done.stderr

    data = [json.loads(line) for line in path.read_text("utf-8").strip().split("\n")]
    human = "human_winner" if how.kind == PAIRS else "human_score"
    label = "label" if how.kind == PAIRS else "label_score"
    expected = [(row["id"], row[label], row["meta"][how.kept]) for row in data]
    parts = tmp_path / "out" / "results"
    columns = ["sample_id", human, "kept"]
    table = pq.read_table(parts).sort_by("ordinal")
    assert list(zip(*table.select(columns).to_pydict().values(), strict=True)) == expected
    query = f"select {', '.join(columns)} from '{parts}/*.parquet' order by ordinal"
    assert duckdb.sql(query).fetchall() == expected
    assert pl.read_parquet(parts / "*.parquet").sort("ordinal").select(columns).rows() == expected

    verdicts = table.column("winner" if how.kind == PAIRS else "score").to_pylist()
    assert set(verdicts) <= ({"1", "2", "tie"} if how.kind == PAIRS else {1.0, 2.0, 3.0, 4.0, 5.0})
    samples = pq.read_table(tmp_path / "out" / "samples.parquet")
    texts = ["question", "answer1", "answer2"] if how.kind == PAIRS else ["question", "answer"]
    assert samples.select(texts).to_pylist() == [{text: row[text] for text in texts} for row in data]
    assert samples.column("kept").to_pylist() == [row[2] for row in expected]
