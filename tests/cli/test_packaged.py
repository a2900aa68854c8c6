"""The packaged data and the example configurations: all of them load, and every sample can be sent."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config import RunConfig, load_config
from runner.dataset import SampleReader, check_columns, chunks, columns, discover
from runner.emulator.options import EmulatorOptions
from runner.judge import Panel, reader_for
from runner.planning.labels import label_kind
from runner.types import Sample

CONFIGS = Path(__file__).parents[2] / "configs"
KEYS = {"AZURE_OPENAI_API_KEY": "k"}  # of services that take no token but a header
PACKAGED = Path(str(resources.files("runner.packaged")))
EXAMPLES = sorted(CONFIGS.glob("*.yaml"))
STARTERS = sorted(PACKAGED.glob("*.yaml"))
COLUMNS = {
    "pairs.jsonl": {"id", "question", "answer1", "answer2", "category", "human"},
    "answers.jsonl": {"id", "question", "answer", "reference", "category", "human_score"},
}


def lines(name: str) -> list[dict[str, Any]]:
    text = resources.files("runner.packaged").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def is_chinese(row: dict[str, Any]) -> bool:
    """Returns True if the question is in Chinese, apart from quotations."""
    return re.search("[\u4e00-\u9fff]", re.sub('"[^"]*"', "", row["question"])) is not None


def samples(config: RunConfig) -> list[Sample]:
    files = discover(config.dataset)
    found = columns(files)
    panel = Panel(config.judges)
    check_columns(
        config.dataset, ("id", *(name for names in panel.required_fields().values() for name in names)), found
    )
    reader = SampleReader(config.dataset, found, label_kind=label_kind(config))
    panel.check_names(reader.fields, found.names)
    return [reader.sample(raw) for chunk in chunks(files, columns=reader.columns) for raw in chunk]


def commented_blocks(text: str) -> Iterator[dict[str, Any]]:
    """Yield every commented-out block of settings (`#key: ...` without a blank after the #)."""
    for block in re.findall(r"(?:^#(?:\w|  +\S).*\n)+", text, re.MULTILINE):
        if block.startswith(("#service", "#judge")):
            yield yaml.safe_load(re.sub("^#", "", block, flags=re.MULTILINE))


def test_all_files_are_present() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "pai_batch",
        "pai_pairwise",
        "pai_single",
        "template_azure",
        "template_json_pair",
        "template_mt_bench",
        "template_pattern_zh",
    ]
    assert [path.stem for path in STARTERS] == ["judge", "quickstart"]
    assert {path.name for path in PACKAGED.glob("*.jsonl")} == set(COLUMNS)


@pytest.mark.parametrize("path", [*EXAMPLES, *STARTERS], ids=lambda path: path.stem)
def test_every_config_loads_without_a_token(path: Path) -> None:
    config = load_config(path, environ=KEYS)
    assert config.name == path.stem
    Panel(config.judges)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_use_the_folders_next_to_the_configs(path: Path) -> None:
    config = load_config(path, environ=KEYS)
    assert Path(config.dataset.path).parent.resolve() == CONFIGS.parent / "data"
    assert config.output.directory.resolve() == CONFIGS.parent / "runs" / path.stem
    assert f"`{path.name}`" in (CONFIGS / "README.md").read_text(encoding="utf-8")


def test_the_judge_yaml_of_init_is_short_and_its_alternatives_load(tmp_path: Path) -> None:
    text = (PACKAGED / "judge.yaml").read_text(encoding="utf-8")
    assert text.count("\n") < 70
    blocks = list(commented_blocks(text))
    assert [set(block) for block in blocks] == [{"service", "output"}, {"service", "judge"}]
    for block in blocks:
        path = tmp_path / "judge.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(text), **block}), encoding="utf-8")
        service = load_config(path, environ={}).services[0]
        assert service.token({}) is None
        EmulatorOptions.from_mapping(service.emulator)


def test_the_quickstart_needs_neither_token_nor_network() -> None:
    service = load_config(PACKAGED / "quickstart.yaml", environ={}).services[0]
    assert service.kind == "emulator" and service.token({}) is None
    options = EmulatorOptions.from_mapping(service.emulator)
    assert (options.latency.median, options.latency.sigma, options.seed) == (0.05, 0.4, 7)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_line_has_the_columns_and_its_own_id(name: str) -> None:
    rows = lines(name)
    for row in rows:
        assert set(row) == COLUMNS[name]
        texts = [value for key, value in row.items() if key not in ("human_score", "reference")]
        assert all(isinstance(text, str) and text == text.strip() and text for text in texts), row["id"]
    assert len({row["id"] for row in rows}) == len({row["question"] for row in rows}) == len(rows)


@pytest.mark.parametrize("name", COLUMNS)
def test_half_of_the_rows_are_chinese_and_every_category_has_both_languages(name: str) -> None:
    rows = lines(name)
    languages = Counter(is_chinese(row) for row in rows)
    assert languages[True] == languages[False]
    seen = {(row["category"], is_chinese(row)) for row in rows}
    assert len(seen) == 2 * len({row["category"] for row in rows}) == 16


def test_winners_are_balanced_in_both_languages() -> None:
    rows = lines("pairs.jsonl")
    assert {row["human"] for row in rows} == {"1", "2", "tie"}
    for chinese in (True, False):
        count = Counter(row["human"] for row in rows if is_chinese(row) is chinese)
        assert count == {"1": 7, "2": 7, "tie": 6}
    won_by_the_shorter = [
        row for row in rows if row["human"] != "tie"
        and (len(row["answer1"]) > len(row["answer2"])) != (row["human"] == "1")
    ]  # fmt: skip
    assert len(won_by_the_shorter) >= 5


def test_scores_use_the_whole_scale_and_some_rows_have_a_reference() -> None:
    rows = lines("answers.jsonl")
    assert {row["human_score"] for row in rows} == {1, 2, 3, 4, 5}
    assert {type(row["human_score"]) for row in rows} == {int}
    references = [row["reference"] for row in rows]
    assert None in references
    assert all(isinstance(text, str) and text for text in references if text is not None)


@pytest.mark.parametrize("path", STARTERS, ids=lambda path: path.stem)
def test_every_packaged_sample_can_be_sent(path: Path) -> None:
    config = load_config(path, environ={})
    panel, label = Panel(config.judges), "human_winner" if path.stem == "quickstart" else "human_score"
    read = samples(config)
    assert len(read) == {"quickstart": 40, "judge": 30}[path.stem]
    for sample in read:
        assert sample.problem is None and sample.columns[label] is not None and sample.columns["category"]
        body = json.loads(panel.request(sample, 0).body)["messages"][0]["content"][0]["json"]
        assert ("ref_answer" in body) is (sample.fields.get("reference") is not None)


@pytest.mark.parametrize(
    ("name", "reply", "score"),
    [
        ("template_mt_bench", "Clear and right, but short.\nRating: [[7]]", 7.0),
        ("template_pattern_zh", "内容正确，若更完整，最终得分：9 也不为过。\n最终得分：8", 8.0),
        ("template_pattern_zh", "表达清楚。\n最终得分: 7.5", 7.5),
    ],
)
def test_the_templates_parse_the_form_that_they_request(name: str, reply: str, score: float) -> None:
    judge = load_config(CONFIGS / f"{name}.yaml", environ={}).judges[0]
    assert reader_for(judge)(reply).score == score
    assert judge.user is not None and reader_for(judge)(judge.user).score is not None


def test_the_pattern_rejects_scores_outside_its_scale() -> None:
    judge = load_config(CONFIGS / "template_pattern_zh.yaml", environ={}).judges[0]
    assert reader_for(judge)("最终得分：11").problem == "out_of_scale"
