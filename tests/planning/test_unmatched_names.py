"""`validate` and `run` warn of names that match nothing, and of labels that no verdict can be compared with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config import find_unmatched, load_config
from runner.planning import check_inputs, preview_requests
from runner.planning.labels import label_kind

Cli = Callable[..., subprocess.CompletedProcess[str]]
PAIR = {"kind": "pai_pairwise"}
OWN = {"kind": "template", "user": "{reply_a} or {reply_b}?"}
SCORED = {**OWN, "verdict": {"pattern": r"(\d)", "kind": "score"}}
NAMED = {**OWN, "verdict": {"pattern": "(yes|no)", "kind": "label"}}


def write(folder: Path, labels: list[Any], judge: dict[str, Any], human: Any = "human", **more: Any) -> Path:
    rows = [
        {"question": "q", "answer": "a", "answer1": "a", "answer2": "b", "reply_a": "a", "reply_b": "b", "human": label}
        for label in labels
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dataset = {"path": "data.jsonl", **({} if human is None else {"human_label": human}), **more.pop("dataset", {})}
    config = {"dataset": dataset, "judge": judge, "service": {"kind": "emulator"}, **more}
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def warnings(path: Path, *overrides: str) -> list[str]:
    return preview_requests(check_inputs(load_config(path, overrides)), 0).warnings


NOTHING = "; nothing is compared with people"


@pytest.mark.parametrize(
    ("judge", "human", "labels", "expected"),
    [
        (PAIR, {"column": "human", "map": {"A": 1, "B": 2}}, ["model_a"] * 3,
         f"human_label: none of the first 3 labels ('model_a') is in map (A, B){NOTHING}"),
        (PAIR, {"column": "human", "map": {"Model_A": 1, "Model_B": 2}}, ["model_a", "model_b"],
         f"human_label: none of the first 2 labels ('model_a', 'model_b') is in map (Model_A, Model_B){NOTHING}; "
         "did you mean 'model_a' for 'Model_A'?"),
        (PAIR, {"column": "human", "map": {"A": 1, "B": 2}}, ["A", "both", None],
         "human_label: 1 of the first 2 labels ('both') is not in map (A, B); it is not compared with people"),
        (PAIR, "human", ["A", "B"],
         f"human_label: none of the first 2 labels ('A', 'B') is 1, 2 or tie{NOTHING}; "
         "add a map such as {a: 1, b: 2, both: tie}"),
        (PAIR, "human", [1, 2, 5, 4],
         "human_label: 2 of the first 4 labels ('5', '4') are not 1, 2 or tie; they are not compared with people; "
         "add a map such as {a: 1, b: 2, both: tie}"),
        ({"kind": "pai_single"}, "human", ["good"],
         f"human_label: the first label ('good') is not a number{NOTHING}; add a map to numbers"),
        (PAIR, "human", [None, ""],
         f"human_label: the first 2 rows have no label in column 'human'{NOTHING}"),
        (PAIR, {"column": "human", "kind": "score"}, [1, 2],
         "human_label: 2 of the first 2 labels are a score, but no judge gives an overall score; nothing is compared "
         "with them; if they mean something else, set human_label.kind: winner"),
        (SCORED, {"column": "human", "kind": "winner"}, [1, "tie"],
         "human_label: 2 of the first 2 labels are a winner (1, 2 or tie), but no judge names a winner; nothing is "
         "compared with them; if they mean something else, set human_label.kind: score"),
    ],
)  # fmt: skip
def test_labels_that_nothing_is_compared_with(
    tmp_path: Path, judge: dict[str, Any], human: Any, labels: list[Any], expected: str
) -> None:
    assert warnings(write(tmp_path, labels, judge, human)) == [expected]


@pytest.mark.parametrize(
    ("judge", "human", "labels"),
    [
        (PAIR, "human", [1, "2", "1.0", "TIE", None]),
        (PAIR, {"column": "human", "map": {"A": 1, "B": 2, "=": "tie"}}, ["A", "B", "="]),
        ({"kind": "pai_single"}, "human", [4, "4.5"]),
        (SCORED, {"column": "human", "kind": "score"}, [1, 2]),
        (NAMED, "human", ["yes", "no", 3]),
        (PAIR, None, [1]),
    ],
)
def test_labels_that_fit_give_no_warning(tmp_path: Path, judge: dict[str, Any], human: Any, labels: list[Any]) -> None:
    assert warnings(write(tmp_path, labels, judge, human)) == []


@pytest.mark.parametrize(
    ("judge", "human", "kind"),
    [
        ({**OWN, "verdict": "mt_bench_pair"}, "human", "winner"),
        ({**OWN, "verdict": "mt_bench_single"}, "human", "score"),
        ({**OWN, "verdict": {"format": "json", "score": "s", "winner": "w"}}, "human", "winner"),
        (NAMED, "human", "label"),
        (PAIR, "human", "winner"),
        ({"kind": "pai_single"}, "human", "score"),
        ({**OWN, "verdict": "mt_bench_single"}, {"column": "human", "kind": "winner"}, "winner"),
        ({**OWN, "verdict": "mt_bench_pair"}, {"column": "human", "kind": "score"}, "score"),
    ],
)
def test_what_a_label_means_follows_from_the_verdict(
    tmp_path: Path, judge: dict[str, Any], human: Any, kind: str
) -> None:
    """The prompt names the columns of the answers itself: no field `answer2` is used."""
    path = write(tmp_path, ["1", "2"], judge, human)
    assert label_kind(load_config(path)) == kind


@pytest.mark.parametrize(
    ("more", "overrides", "expected"),
    [
        ({"prices": {"models": {"pai-jugde": {"input": 1, "output": 1}}}}, (),
         "prices.models.pai-jugde: no judge has this model; did you mean 'pai-judge'?"),
        ({"prices": {"models": {"x": {"input": 1, "output": 1}}}}, (),
         "prices.models.x: no judge has this model; the judges' models are pai-judge"),
        ({}, ("x-note=1",), "--set x-note: keys that begin with x- are ignored, so this has no effect"),
        ({}, ("report=",),
         "--set report=: is empty, which means no report; expected `report: {}` for one, or `report: null` for none"),
        ({}, ("judge.pai={scenee: chat}",),
         "judge 'judge': pai.scenee: PAI-Judge documents no such field; did you mean 'scene'?"),
    ],
)  # fmt: skip
def test_values_without_an_effect(
    tmp_path: Path, more: dict[str, Any], overrides: tuple[str, ...], expected: str
) -> None:
    path = write(tmp_path, [1], PAIR, None, **more)
    assert warnings(path, *overrides) == [expected]


@pytest.mark.parametrize(
    ("text", "warns"), [("report:\n", True), ("report: # later\n", True), ("report: {}\n", False),
                        ("report: null\n", False), ("report: ~\n", False), ("", False)]
)  # fmt: skip
def test_an_empty_report_is_no_report(tmp_path: Path, text: str, warns: bool) -> None:
    path = write(tmp_path, [1], PAIR, None)
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    for overrides in ((), ("judge.repeats=2",)):
        assert bool(list(find_unmatched(load_config(path, overrides)))) == warns, overrides


def test_a_service_that_no_judge_uses(tmp_path: Path) -> None:
    services = [{"name": name, "kind": "emulator"} for name in ("a", "b")]
    path = write(tmp_path, [1], {**PAIR, "service": "a"}, None)
    config = {**yaml.safe_load(path.read_text(encoding="utf-8")), "services": services}
    del config["service"]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert warnings(path) == ["services: no judge uses the service 'b'"]


def test_columns_without_a_value(tmp_path: Path) -> None:
    dataset = {"keep": {"topic": "human", "q": "question"}}
    path = write(tmp_path, [None, ""], PAIR, None, dataset=dataset, report={"group_by": ["topic", "q"]})
    assert warnings(path) == ["report.group_by: 'topic' has no value in the first 2 rows"]


def test_the_command_prints_them(tmp_path: Path, cli: Cli) -> None:
    write(tmp_path, ["A", "B"], PAIR)
    process = cli("validate", "judge.yaml", "--set", "x-note=1")
    assert process.returncode == 0
    first, second, last = process.stderr.splitlines()
    assert first == "warning: --set x-note: keys that begin with x- are ignored, so this has no effect"
    assert second.startswith("warning: human_label: none of the first 2 labels ('A', 'B') is 1, 2 or tie")
    assert last.startswith("judge.yaml: valid;")
    process = cli("run", "judge.yaml", "--set", "x-note=1")
    assert (process.returncode, "x-note: keys that begin" in process.stderr) == (0, True)
