"""Unsupported features are refused with a message, never ignored; and the JSON Schema for editors."""

from __future__ import annotations

import pytest

from runner.config import RunConfig, json_schema
from runner.config.unsupported import UNSUPPORTED_FEATURES, find_unsupported

HEAD = "dataset: {path: a.jsonl}\n"
JUDGE = "judge: {}\n"

REFUSED = [
    ("dataset: {path: s3://a/b}\njudge: {}\n", "judge.yaml:1: dataset.path: a dataset at s3://"),
    (HEAD + JUDGE + "monitor: {listen: '127.0.0.1:8701'}\n", "judge.yaml:3: monitor.listen: a live page"),
    (HEAD + JUDGE + "cluster: {workers: 2}\n", "judge.yaml:3: cluster: a run on many machines"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_unsupported_features_are_refused(load_error, text, expected):
    lines = [line for line in load_error(text).splitlines() if expected in line]
    assert lines
    assert lines[0].endswith(" is not available in this version")


def test_every_unsupported_feature_is_tested(load_error):
    messages = {line.rsplit(": ", 1)[1] for text, _ in REFUSED for line in load_error(text).splitlines()}
    assert {f"{feature.name} is not available in this version" for feature in UNSUPPORTED_FEATURES} <= messages


def test_a_feature_that_is_not_listed_is_allowed(load):
    config = load(HEAD + JUDGE)
    changed = config.model_copy(update={"monitor": config.monitor.model_copy(update={"listen": "127.0.0.1:1"})})
    assert [problem.path for problem in find_unsupported(changed)] == [("monitor", "listen")]
    assert not list(find_unsupported(changed, ()))


@pytest.mark.parametrize(
    "text",
    [
        HEAD + JUDGE + "router: {mode: auto}\nbreaker: {window: 20, share: 0.9}\nbudget: {requests: 5}\nreport: {}\n",
        HEAD
        + JUDGE
        + "service: {limits: {tpm: 5, concurrency: {start: 3, max: 9}}, kind: emulator, emulator: {seed: 4}}\n",
        "dataset: {path: hf://datasets/a/b}\n" + JUDGE,
        HEAD + "judge: {service: [a, b]}\nservices: [{name: a}, {name: b}]\n",
        HEAD + "judges: [{name: a, kind: pai_pairwise, swap: true, repeats: 3}, {name: b, reask: 0, repeats: 2}]\n",
        HEAD + "judges: [{name: a}, {name: b, dimension: tone}, {name: c, kind: pai_pairwise, dimension: tone}]\n",
        *(
            HEAD + f"judge: {{kind: template, user: hi, dimension: tone, verdict: {verdict}}}\n"
            for verdict in ("judgelm", "alignbench", "{format: json, score: s}", "{pattern: a, kind: score}")
        ),
        *(
            HEAD + f"judge: {{kind: template, user: hi, verdict: {verdict}}}\n"
            for verdict in (
                *("pai_single", "pai_pairwise", "mt_bench_single", "{format: mt_bench_pair}", "arena_hard"),
                *("auto_j_single", "auto_j_pair", "pandalm", "judgelm", "prometheus", "prometheus_pair", "output_ab"),
                *("alignbench", "first_number", "last_number", "{format: json, winner: w, map: {A: 1}}"),
                *(
                    "{pattern: a, kind: label, map: {a: b}}",
                    "{pattern: (A|B), kind: winner, map: {A: 1, B: 2}, pick: last}",
                ),
            )
        ),
    ],
)
def test_supported_features_are_allowed(load, text):
    assert load(text).judges


def test_the_schema_names_every_key():
    schema = json_schema()
    assert set(schema["properties"]) == {*RunConfig.model_fields, "judge", "service"}
    assert schema["patternProperties"] == {"^x-": {}}
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["dataset"]
    for name, model in schema["$defs"].items():
        assert model["additionalProperties"] is False, name
        for key, section in model["properties"].items():
            assert section.get("description"), f"{name}.{key}"
    count = schema["$defs"]["RetryConfig"]["properties"]["attempts"]
    assert (count["type"], count["minimum"], count["default"]) == ("integer", 1, 6)
