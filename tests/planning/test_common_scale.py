"""Scores of judges on different scales are averaged as positions, or refused if a scale is unknown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from runner.config import JudgeConfig, load_config
from runner.errors import ConfigError
from runner.planning import check_inputs
from runner.planning.scales import common_scale

Cli = Callable[..., subprocess.CompletedProcess[str]]
RATE = {"kind": "template", "user": "Rate {answer}."}
FIVE = {"name": "five", "kind": "pai_single"}
TEN = {"name": "ten", **RATE, "verdict": "mt_bench_single"}
PAIR5 = {"name": "pair5", "kind": "pai_pairwise"}
PAIR10 = {"name": "pair10", **RATE, "verdict": "judgelm"}
NUMBER = {"name": "number", **RATE, "verdict": "last_number"}
KEYS = {"name": "keys", **RATE, "verdict": {"format": "json", "score": "s", "dimensions": "d"}}
WINNER = {"name": "winner", **RATE, "verdict": "mt_bench_pair"}


def judges(*given: dict[str, Any]) -> list[JudgeConfig]:
    return [JudgeConfig.model_validate({"model": "m", **judge}) for judge in given]


@pytest.mark.parametrize(
    ("panel", "names"),
    [
        ((FIVE,), None),
        ((FIVE, {**FIVE, "name": "other"}), None),
        ((FIVE, {**TEN, "scale": [1, 5]}), None),
        ((FIVE, WINNER), None),
        ((FIVE, TEN), ("score",)),
        ((FIVE, {**NUMBER, "scale": [0, 100]}), ("score",)),
        ((PAIR5, PAIR10), ("score1", "score2")),
        ((FIVE, PAIR10), None),  # one gives `score`, the other `score1` and `score2`
        ((FIVE, {**TEN, "dimension": "tone"}), ("dimensions",)),
        ((WINNER, {**TEN, "dimension": "tone"}), None),
        ((WINNER, {**TEN, "dimension": "tone"}, {**FIVE, "dimension": "depth"}), None),
        ((WINNER, {**TEN, "dimension": "tone"}, {**FIVE, "dimension": "tone"}), ("dimensions",)),
        ((FIVE, {**KEYS, "scale": [0, 1]}), ("score", "dimensions")),
        ((NUMBER, {**NUMBER, "name": "same_prompt", "model": "n"}), None),
    ],
)
def test_which_columns_hold_positions(panel: tuple[dict[str, Any], ...], names: tuple[str, ...] | None) -> None:
    found = common_scale(judges(*panel))
    assert (None if found is None else found.names) == names


@pytest.mark.parametrize(
    ("panel", "says"),
    [
        (
            (FIVE, NUMBER),
            "the scale of 'number' is unknown, and 'five' scores from 1 to 5; set scale: [lowest, highest]",
        ),
        ((NUMBER, {**NUMBER, "name": "zh", "user": "打分"}), "the scale of 'number', 'zh' is unknown; set scale"),
        ((NUMBER, {**KEYS, "scale": [1, 5]}), "the scale of 'number' is unknown"),
        ((FIVE, {**FIVE, "name": "own", "pai": {"max_score": "{top}"}}), "the scale of 'own' is unknown"),
        ((FIVE, {**KEYS, "dimension": "tone"}), "the scale of 'keys' is unknown"),
    ],
)
def test_an_unknown_scale_is_refused(panel: tuple[dict[str, Any], ...], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        common_scale(judges(*panel))
    assert says in str(caught.value)


def write(folder: Path, *panel: dict[str, Any], **more: Any) -> Path:
    rows = [{"question": f"q {n}", "answer": f"an answer of {n} words", "source": "ab"[n % 2]} for n in range(20)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "dataset": {"path": "data.jsonl", "fields": {"model": "source"}},
        "judges": [{"model": "pai-judge", **judge} for judge in panel],
        "service": {"kind": "emulator"},
        "output": {"directory": "out", "tolerate": 1.0},
        **more,
    }
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return path


def test_validate_refuses_it_and_sends_nothing(tmp_path: Path, cli: Cli) -> None:
    write(tmp_path, FIVE, NUMBER)
    for command in ("validate", "plan", "run"):
        process = cli(command, "judge.yaml")
        assert process.returncode == 2
        assert "judge.yaml: judges: scores of different scales cannot be averaged" in process.stderr
    assert not (tmp_path / "out").exists()


def test_the_run_says_so_and_writes_positions(tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path, FIVE, TEN, report={})
    process = cli("run", "judge.yaml")
    assert process.returncode == 0, process.stderr
    said = "the judges use different scales (five 1 to 5, ten 1 to 10): in samples.parquet, score is made of posit"
    assert said in process.stderr
    assert check_inputs(load_config(path)).common_scale is not None
    lows = {"five": (1, 4), "ten": (1, 9)}
    read = 0
    for line in pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist():
        scores = [(vote["score"] - lows[vote["judge"]][0]) / lows[vote["judge"]][1] for vote in line["votes"]]
        if scores:
            read += 1
            assert line["score"] == pytest.approx(sum(scores) / len(scores))
    assert read == 20
    summary = json.loads((tmp_path / "out" / "report" / "summary.json").read_bytes())
    assert summary["settings"]["positions"] == ["score"]
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "The judges use different scales (five: 1 to 5, ten: 1 to 10)" in page
