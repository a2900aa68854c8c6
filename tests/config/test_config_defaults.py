"""Defaults of the configuration, the forms of its values, and how paths are resolved."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runner.config import Adaptive, Column, Constant, KeepColumn, TokenLimits, load_config, masked

MINIMAL = "dataset: {path: data/a.jsonl}\njudge: {}\n"

# The defaults of docs/configuration.md, section by section.
DEFAULTS = {
    "name": "judge",
    "tags": {},
    "aggregate": {"winner": "majority", "score": "mean", "min_valid": 1},
    "router": {
        "mode": "auto",
        "batch_from": 20000,
        "online_within": 21600.0,
        "leftovers": "online",
        "on_exhausted_quota": "batch",
    },
    "online": {"retry": {"attempts": 6, "base": 0.5, "ceiling": 30.0, "patience": 1800.0, "max_retry_after": None}},
    "batch": {
        "shard_mb": 10.0,
        "shard_lines": 50000,
        "parallel": 8,
        "poll": {"first": 10.0, "ceiling": 60.0},
        "window": 86400.0,
        "resubmits": 2,
        "delete_files": True,
    },
    "prices": None,
    "budget": {"cost": None, "requests": None, "tokens": None},
    "breaker": {"window": 100, "share": 0.5, "refusals": 20},
    "monitor": {"progress": "auto", "listen": None, "token_env": None},
    "report": None,
    "cluster": None,
}
JUDGE = {
    "name": "judge",
    "kind": "pai_single",
    "model": "pai-judge",
    "service": ["default"],
    "parameters": {},
    "swap": False,
    "repeats": 1,
    "reask": 1,
    "scale": None,
    "dimension": None,
    "pai": {},
    "system": None,
    "user": None,
    "verdict": None,
}
SERVICE = {
    "name": "default",
    "kind": "http",
    "base_url": "https://aiservice.cn-hangzhou.aliyuncs.com/v1",
    "token_env": "JUDGE_MODEL_TOKEN",
    "token_file": None,
    "authorization": "plain",
    "dialect": "pai",
    "batch": "auto",
    "limits": {"rpm": None, "tpm": None, "concurrency": {"start": 20, "max": 512}},
    "timeout": {"connect": 10.0, "total": 300.0},
    "headers": {},
    "query": {},
    "stream": False,
    "max_reply_mb": 16,
    "proxy": None,
    "ca_file": None,
    "client_cert": None,
    "client_key": None,
    "allow_http": False,
    "emulator": {},
}


def test_defaults_are_as_documented(load, tmp_path):
    data = masked(load(MINIMAL))
    assert data.pop("dataset") == {
        "path": str(tmp_path / "data/a.jsonl"),
        "format": "auto",
        "fields": {},
        "human_label": None,
        "keep": [],
        "records": None,
        "optional": [],
        "csv": {"delimiter": "auto", "quote": '"', "encoding": "utf-8"},
    }
    assert data.pop("output") == {
        "directory": str(tmp_path / "runs/judge"),
        "rows_per_part": 50000,
        "lock": "file",
        "compression": "zstd",
        "texts": True,
        "tolerate": 0.0,
    }
    assert data.pop("judges") == [JUDGE]
    assert data.pop("services") == [SERVICE]
    assert data == DEFAULTS


def test_empty_sections_get_their_defaults(load):
    sections = "service:\n  limits:\n  headers:\nonline:\nbatch:\noutput:\nprices: {}\nreport:\nname:\nrouter:\n"
    assert masked(load(MINIMAL + sections)) == masked(load(MINIMAL))


def test_the_configuration_is_immutable(load):
    config = load(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"


def test_paths_are_relative_to_the_yaml_file(load, tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/user.txt").write_text("Rate ${this}: {answer} 好\n", encoding="utf-8")
    config = load(
        "name: n1\ndataset: {path: 'data/**/*.jsonl'}\noutput: {directory: 'out/<name>'}\n"
        "judge: {kind: template, user: 'file://prompts/user.txt', verdict: mt_bench_single}\n"
        "service: {token_file: secrets/token, ca_file: /etc/ca.pem}\n"
    )
    assert config.source == tmp_path / "judge.yaml"
    assert config.base == tmp_path
    assert config.dataset.path == f"{tmp_path}/data/**/*.jsonl"
    assert config.output.directory == tmp_path / "out/n1"
    assert config.services[0].token_file == tmp_path / "secrets/token"
    assert config.services[0].ca_file == Path("/etc/ca.pem")
    assert config.judges[0].user == "Rate ${this}: {answer} 好\n"


def test_the_folder_of_the_yaml_is_never_a_glob(tmp_path):
    folder = tmp_path / "runs[1]"
    folder.mkdir()
    for path, expected in (("*.jsonl", f"{tmp_path}/runs[[]1]/*.jsonl"), ("a.jsonl", f"{folder}/a.jsonl")):
        (folder / "judge.yaml").write_text(f"dataset: {{path: '{path}'}}\njudge: {{}}\n")
        assert load_config(folder / "judge.yaml").dataset.path == expected


def test_a_copy_in_a_run_directory_keeps_base_and_name(load, tmp_path):
    first = load(MINIMAL)
    moved = tmp_path / "elsewhere" / "config.yaml"
    moved.parent.mkdir()
    moved.write_text(first.document)
    again = load_config(moved, base=first.base, name=first.name)
    assert masked(again) == masked(first)
    assert again.base == tmp_path


def test_fields_come_from_columns_of_the_same_name_unless_mapped(load):
    dataset = load(
        "judge: {}\ndataset:\n  path: a\n  fields: {question: prompt.text, model: {value: {a: 1}}, answer: 2024}\n"
    ).dataset
    assert dataset.source_of("question") == Column(path="prompt.text")
    assert dataset.source_of("model") == Constant(value={"a": 1})
    assert dataset.source_of("answer") == Column(path="2024")
    assert dataset.source_of("id") == Column(path="id")
    assert dataset.source_of("answer2") == Column(path="answer2")
    assert dataset.source_of("reference") is None


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("[category, meta.subset]", [("category", "category", None), ("subset", "meta.subset", None)]),
        ("{subset: meta.lang}", [("subset", "meta.lang", None)]),
        ("{x: {column: c, type: int64}}", [("x", "c", "int64")]),
        ("", []),
    ],
)
def test_kept_columns(load, keep, expected):
    kept = load(f"judge: {{}}\ndataset:\n  path: a\n  keep: {keep}\n").dataset.keep
    assert kept == tuple(KeepColumn(name=name, column=column, type=type_) for name, column, type_ in expected)


def test_human_labels(load):
    short = load("judge: {}\ndataset: {path: a, human_label: meta.rating}\n").dataset.human_label
    assert (short.column, short.map, short.scale) == ("meta.rating", None, None)
    long = load(
        "judge: {}\ndataset:\n  path: a\n  human_label: {column: w, map: {model_a: 1, no: 2, 0: tie}, scale: [1, 6]}\n"
    ).dataset.human_label
    assert long.map == {"model_a": "1", "no": "2", "0": "tie"}
    assert long.scale == (1.0, 6.0)


def test_panels_and_services(load):
    config = load(
        "dataset: {path: a}\n"
        "judges:\n"
        "  - {name: one, swap: on, kind: pai_pairwise}\n"
        "  - {name: two-2.b, kind: template, user: '{id}', swap: yes, verdict: {pattern: '([12])', kind: winner}}\n"
        "services: [{name: prod, limits: {tpm: 100, concurrency: 7}}]\n"
    )
    assert [judge.swap for judge in config.judges] == [True, True]
    assert [judge.service for judge in config.judges] == [("prod",), ("prod",)]
    assert config.judges[1].verdict.pick == "first"
    assert config.services[0].limits.tpm == 100
    assert config.services[0].limits.concurrency == 7


def test_defaults_of_limits():
    limits = TokenLimits(input=5, output=6)
    assert (limits.input, limits.output) == (5, 6)
    assert Adaptive(start=3) == Adaptive(start=3, max=512)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30", 30), ("0.5", 0.5), ("30s", 30), ("5m", 300), ("6h", 21600), ("2d", 172800), ("'1.5 h'", 5400)],
)
def test_durations(load, written, seconds):
    config = load(MINIMAL + f"router: {{online_within: {written}}}\nservice: {{timeout: {{total: {written}}}}}\n")
    assert config.router.online_within == seconds
    assert config.services[0].timeout.total == seconds


def test_prices(load):
    text = MINIMAL + "prices: {currency: CNY, per: 1000, models: {pai-judge: {input: 4, output: 12, batch: 0.5}}}\n"
    prices = load(text).prices
    assert (prices.currency, prices.per) == ("CNY", 1000)
    assert prices.models["pai-judge"].model_dump() == {"input": 4.0, "output": 12.0, "cached": None, "batch": 0.5}
    text = MINIMAL + "prices: {models: {m: {input: 4, output: 12, cached: 0.8}}}\n"
    assert load(text).prices.models["m"].cached == 0.8


def test_numbers_in_text_fields_keep_their_spelling(load):
    config = load(
        MINIMAL.replace("{}", "{model: 1.10, pai: {max_score: 010}, parameters: {temperature: 1e-3, seed: 007}}")
        + "tags: {build: 0012, when: 2024-01-02}\n"
    )
    assert config.judges[0].model == "1.10"
    assert config.judges[0].pai == {"max_score": "010"}
    assert config.tags == {"build": "0012", "when": "2024-01-02"}
    parameters = config.judges[0].parameters
    assert parameters == {"temperature": 0.001, "seed": 7}
    assert [type(value) for value in parameters.values()] == [float, int]


def test_loading_is_fast(load):
    load(MINIMAL)
    before = time.process_time()
    load(MINIMAL + "service: {limits: {rpm: 5}}\n")
    assert time.process_time() - before < 0.03


def test_the_configuration_of_the_benchmark_loads(load):
    text = """
dataset: {path: "${PERF_INPUT}"}
judge: {kind: pai_pairwise, model: pai-judge, reask: 0}
service:
  base_url: "${PERF_BASE_URL}"
  token_env: OPENAI_API_KEY
  timeout: {connect: 10, total: 60}
  limits: {rpm: "${PERF_RPM}", concurrency: "${PERF_CONCURRENCY}"}
router: {mode: online}
online:
  retry: {attempts: 12, base: 0.1, ceiling: 8}
output: {directory: "${PERF_OUT}", rows_per_part: 50000}
"""
    environ = {
        "PERF_INPUT": "/data/in.jsonl",
        "PERF_BASE_URL": "http://127.0.0.1:8000/v1/",
        "PERF_RPM": "null",
        "PERF_CONCURRENCY": "64",
        "PERF_OUT": "/data/out/run",
    }
    config = load(text, environ=environ)
    service = config.services[0]
    assert config.dataset.path == "/data/in.jsonl"
    assert (service.base_url, service.limits.rpm, service.limits.concurrency) == ("http://127.0.0.1:8000/v1", None, 64)
    assert load(text, environ={**environ, "PERF_RPM": "60000"}).services[0].limits.rpm == 60000
    assert config.output.directory == Path("/data/out/run")
