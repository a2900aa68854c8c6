"""The benchmark configurations match their data, and the programs for them work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config import load_config
from runner.dataset import chunks
from runner.planning import RunInputs, check_inputs
from runner.types import Sample

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "benchmarks").glob("*.yaml"))
TOOLS = ROOT / "benchmarks"

Tool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tool() -> Tool:
    """Return a function that runs one of the programs of benchmarks/ to its end."""

    def run(name: str, *args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TOOLS / name), *map(str, args)]
        merged = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        return subprocess.run(command, env=merged, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def data(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that the configurations read, with every dataset that is beside the repository."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in shared.glob("datasets/*/*.jsonl"):
        (folder / path.name).symlink_to(path.resolve())
    monkeypatch.setenv("DATA", str(folder))
    return folder


def samples(inputs: RunInputs) -> Iterator[Sample]:
    """Generate all samples of a configuration's dataset."""
    return (inputs.reader.sample(raw) for chunk in chunks(inputs.files) for raw in chunk)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_names_the_source_of_its_data(path: Path) -> None:
    about = yaml.safe_load(path.read_text(encoding="utf-8"))["x-benchmark"]
    assert about["type"] in ("pairwise", "single")
    assert about["source"].startswith("https://")
    assert about["licence"]
    assert "arXiv" in about["citation"]
    figures = {"accuracy", "both_orders", "orders_combined", "kappa", "spearman", "orders_agree"}
    for published in about["published"]:
        assert set(published) - {"judge", "where"} <= figures
        assert all(-1 <= published[name] <= 1 for name in figures & set(published))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_matches_its_data(path: Path, data: Path) -> None:
    config = load_config(path)
    about = yaml.safe_load(path.read_text(encoding="utf-8"))["x-benchmark"]
    if not Path(config.dataset.path).exists():
        pytest.skip(f"{Path(config.dataset.path).name} is not beside the repository")
    inputs = check_inputs(config)
    label = "human_winner" if about["type"] == "pairwise" else "human_score"
    kept = [column.name for column in config.dataset.keep]
    count = 0
    for sample in samples(inputs):
        assert sample.problem is None
        assert sample.columns[label] is not None
        assert all(sample.columns[name] is not None for name in kept if name != "annotator")
        for variant in range(len(inputs.panel.variants)):
            assert inputs.panel.request(sample, variant).body
        count += 1
    assert count == about["rows"]
    assert len(inputs.panel.variants) == (2 if about["type"] == "pairwise" else 1)
    assert set(config.report.group_by if config.report else ()) <= set(kept)


def public_form(name: str, rows: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Generate path and content of each file that a dataset has in its public repository."""
    if name in ("llmbar", "mt_bench_human"):
        parts = Counter(row["meta"]["subset"] for row in rows)
        for part in parts:
            folder = {"Natural": "LLMBar", "MT-Bench": "Processed"}.get(part, "LLMBar/Adversarial")
            yield (
                f"Dataset/{folder}/{part}/dataset.json",
                [
                    {
                        key: row[own]
                        for key, own in (("input", "question"), ("output_1", "answer1"), ("output_2", "answer2"))
                    }
                    | {"label": int(row["label"])}
                    for row in rows
                    if row["meta"]["subset"] == part
                ],
            )
    elif name == "judgebench":
        for model in {row["meta"]["response_model"] for row in rows}:
            lines = [
                {
                    "pair_id": row["id"].removeprefix("judgebench-"),
                    "source": row["meta"]["source"],
                    "question": row["question"],
                    "response_A": row["answer1"],
                    "response_B": row["answer2"],
                    "label": "A>B" if row["label"] == "1" else "B>A",
                }
                for row in rows
                if row["meta"]["response_model"] == model
            ]
            yield f"data/dataset=judgebench,response_model={model}.jsonl", "".join(json.dumps(x) + "\n" for x in lines)
    elif name == "sfhot":
        yield (
            "reproduce/data/data2text/sfhot.json",
            [
                {
                    "source": row["meta"]["dialogue_act"],
                    "reference": row["meta"]["reference"],
                    "system_output": row["answer"],
                    "scores": row["meta"]["scores"],
                }
                for row in rows
            ],
        )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("llmbar", "llmbar.jsonl"),
        ("mt_bench_human", "mtbench_human_llmbar.jsonl"),
        ("judgebench", "judgebench.jsonl"),
        ("sfhot", "sfhot.jsonl"),
    ],
)
def test_a_public_dataset_is_converted(tool: Tool, data: Path, tmp_path: Path, name: str, file: str) -> None:
    expected = [json.loads(line) for line in (data / file).read_text(encoding="utf-8").splitlines()]
    for relative, content in public_form(name, expected):
        path = tmp_path / "clone" / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    done = tool("public_datasets.py", name, tmp_path / "clone")
    converted = [json.loads(line) for line in done.stdout.splitlines()]
    fields = ("id", "question", "answer1", "answer2", "label", "answer", "label_score", "label_scale")
    assert [{key: row.get(key) for key in fields} for row in converted] == [
        {key: row.get(key) for key in fields} for row in expected
    ]


def test_pandalm_and_hhh_are_converted_from_their_own_formats(tool: Tool, tmp_path: Path) -> None:
    votes = [(0, 0, 1), (1, 2, 2), (0, 1, 2)]
    items = [
        {"idx": n, "motivation_app": "Mail", "cmp_key": "a_b", "instruction": "Do", "input": text, "response1": one}
        | {"response2": "two", **{f"annotator{k + 1}": vote for k, vote in enumerate(votes[n])}}
        for n, (text, one) in enumerate([("this", "one"), (float("nan"), True), ("", float("nan"))])
    ]
    prompt = "###The instruction to evaluate:\n{}\n\n###Response to evaluate:\n{}\n\n###Score Rubrics:\n[x]"
    both = [
        {
            "source": "helpful",
            "chosen_instruction": prompt.format(n, "good"),
            "rejected_instruction": prompt.format(n, "bad"),
        }
        for n in range(20)
    ]
    for relative, content in {
        "data/testset-v1.json": items,
        "eval/benchmark/data/hhh_alignment_eval.json": both,
    }.items():
        (tmp_path / relative).parent.mkdir(parents=True)
        (tmp_path / relative).write_text(json.dumps(content), encoding="utf-8")
    rows = [json.loads(line) for line in tool("public_datasets.py", "pandalm", tmp_path).stdout.splitlines()]
    assert [(row["question"], row["answer1"], row["label"]) for row in rows] == [
        ("Do\n\nthis", "one", "tie"),
        ("Do", "True", "2"),
        ("Do", "", "tie"),
    ]
    rows = [json.loads(line) for line in tool("public_datasets.py", "hhh", tmp_path).stdout.splitlines()]
    assert [row["question"] for row in rows] == [str(n) for n in range(20)]
    assert all(row["answer" + row["label"]] == "good" for row in rows)
    assert {row["label"] for row in rows} == {"1", "2"}


def figure(value: float | None = None, n: int = 40, left_out: int = 10) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {"value": value, "low": ends[0], "high": ends[1], "n": n, "left_out": left_out}


SHARES = dict.fromkeys(
    ("accuracy_original", "accuracy_swapped", "accuracy_mean_of_orders", "accuracy_both_orders"), figure(0.7)
) | {"accuracy": figure(0.7), "accuracy_orders_combined": figure(0.65), "kappa": figure(0.4)}
WINNERS = {"winners": {"with_ties": SHARES}, "scores": None}
CONSISTENCY = {"position": {"orders_agree": figure(0.9), "first_shown_wins": figure(0.55)}}


def summary(compared: dict[str, Any], groups: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the parts of a run's summary.json that the table uses."""
    return {
        "agreement": [{"judge": name, "overall": compared, "groups": groups or {}} for name in ("ours", None)],
        "consistency": {"judges": [{"judge": "ours", "overall": CONSISTENCY, "groups": {}}]},
    }


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of the table."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return __import__("judge_quality")


def test_the_table_has_our_figures_and_the_published_ones(quality: Any) -> None:
    published = [
        {"judge": "theirs", "accuracy": 0.8},
        {"judge": "on one split", "orders_combined": 0.5, "where": {"split": "gpt"}},
    ]
    groups = {"split": [{"value": "gpt", "comparison": WINNERS}]}
    text = "\n".join(quality.rendered(list(quality.table(summary(WINNERS, groups), published))))
    head, ours, theirs, split, other = text.splitlines()
    assert " ".join(head.split()) == "n accuracy both right together kappa unread orders agree first wins"
    assert ours.split()[:3] == ["ours", "40", "0.700"]
    assert "[0.600, 0.800]" in ours
    assert "20.0%" in ours
    assert theirs.split() == ["published:", "theirs", "0.800"]
    assert split.startswith("  ours, split gpt")
    assert other.split()[-1] == "0.500"


def test_scores_have_their_own_columns(quality: Any) -> None:
    scores = {"winners": None, "scores": {"spearman": figure(0.3), "quadratic_kappa": figure(None)}}
    head, ours = quality.rendered(list(quality.table(summary(scores), [])))
    assert head.split() == ["n", "rho", "unread"]
    assert ours.split() == ["ours", "40", "0.300", "[0.200,", "0.400]", "20.0%"]


def test_a_judge_overrides_keys_of_the_benchmarks_own(quality: Any, tmp_path: Path) -> None:
    benchmark = yaml.safe_load(CONFIGS[0].read_text(encoding="utf-8"))
    own = benchmark["judge"]
    merged = quality.merged(benchmark, {"judge": {"model": "m"}, "service": {"kind": "emulator"}}, tmp_path)
    assert merged["judge"] == {**own, "model": "m"}
    assert merged["service"] == {"kind": "emulator"}
    assert merged["dataset"] == benchmark["dataset"]
    typed = {"x-pairwise": {"kind": "pai_pairwise"}, "x-single": {"kind": "pai_single"}, "judge": {"model": "m"}}
    kind = f"pai_{benchmark['x-benchmark']['type']}"
    assert quality.merged(benchmark, typed, tmp_path)["judge"] == {"kind": kind}
    panel = {"judges": [{"name": "a"}, {"name": "b", "user": "file://p.txt"}], "services": [{"name": "default"}]}
    merged = quality.merged(benchmark, panel, tmp_path)
    assert [one["name"] for one in merged["judges"]] == ["a", "b"]
    assert merged["judges"][1]["user"] == f"file://{tmp_path / 'p.txt'}"
    assert "judge" not in merged
    assert "service" not in merged


def test_a_judge_file_that_names_a_dataset_is_refused(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text("dataset: {path: x}\n", encoding="utf-8")
    done = tool("judge_quality.py", path)
    assert done.returncode == 1
    assert "dataset: is set by the benchmarks" in done.stderr


def test_a_judge_runs_on_a_benchmark(tool: Tool, data: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge.yaml"
    judge.write_text(
        "judge: {kind: pai_pairwise, swap: true}\nservice: {kind: emulator, emulator: {latency: {median: 0}}}\n",
        encoding="utf-8",
    )
    given = ("--benchmarks", "llmbar", "--limit", "12", "--data", data, "--runs", tmp_path / "runs")
    done = tool("judge_quality.py", judge, *given)
    assert done.returncode == 0, done.stderr
    ours = next(line for line in done.stdout.splitlines() if line.startswith("  judge"))
    assert ours.split()[1] == "24"
    assert "published: GPT-4" in done.stdout
