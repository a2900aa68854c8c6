"""`import runner` as a library: the public names, the errors that `run` raises, and event loops."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner import ConfigError, DatasetError, JudgeRunnerError, RunDirectoryError, UsageError, arun, load_config, run
from runner.config import RunConfig

ANSWERS = '{"id": "a", "question": "Why?", "answer": "So."}\n'

IMPORT_ONLY = """
import sys
import runner
heavy = {"pyarrow", "pydantic", "aiohttp", "yaml", "runner._api", "runner.errors"}
print(sorted(heavy & sys.modules.keys()))
runner.UsageError
print("runner._api" in sys.modules)
"""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    (tmp_path / "answers.jsonl").write_text(ANSWERS, encoding="utf-8")
    (tmp_path / "judge.yaml").write_text(
        json.dumps({"dataset": {"path": "answers.jsonl"}, "judge": {}, "service": {"kind": "emulator"}})
    )
    return load_config(tmp_path / "judge.yaml")


def test_every_public_name_exists():
    assert {name for name in runner.__all__ if getattr(runner, name, None) is not None} == set(runner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = runner.nothing


def test_the_errors_are_one_tree():
    for error in (ConfigError, DatasetError, RunDirectoryError):
        assert issubclass(error, UsageError)
    assert issubclass(UsageError, JudgeRunnerError)


def test_importing_the_package_loads_nothing_else():
    imported = subprocess.run([sys.executable, "-c", IMPORT_ONLY], capture_output=True, text=True, check=True)
    assert imported.stdout.splitlines() == ["[]", "True"]


def test_each_kind_of_usage_error_can_be_caught_by_its_public_name(config, tmp_path):
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(tmp_path / "judge.yaml", ["judge.modle=x"])
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(DatasetError, match="there are no rows"):
        run(config)
    (tmp_path / "answers.jsonl").write_text(ANSWERS)
    (tmp_path / "runs").write_text("not a directory")
    with pytest.raises(RunDirectoryError):
        run(config)


def test_run_in_an_event_loop_names_arun_and_touches_nothing(config, tmp_path):
    async def in_a_notebook() -> None:
        run(config)

    with pytest.raises(UsageError, match="await arun"):
        asyncio.run(in_a_notebook())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "judge.yaml"]


def test_arun_works_in_an_event_loop(config):
    summary = asyncio.run(arun(config))
    assert (summary.exit_code, summary.counts.ok) == (0, 1)


def test_a_mapping_is_a_configuration(tmp_path, monkeypatch):
    (tmp_path / "answers.jsonl").write_text(ANSWERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = {
        "dataset": {"path": Path("answers.jsonl"), "keep": ("question",)},
        "judge": {"kind": "template", "user": "{question}: {answer}? 好", "verdict": {"format": "last_number"}},
        "service": {"kind": "emulator"},
        "output": {"directory": "there"},
        "monitor": {"progress": False},
    }
    summary = run(load_config(given, ["judge.reask=0"]))
    assert summary.total == 1
    assert summary.directory == tmp_path / "there"
    kept = load_config(tmp_path / "there" / "config.yaml", base=tmp_path)
    assert kept.judges[0].user == given["judge"]["user"]
    assert kept.judges[0].reask == 0


def test_a_wrong_mapping_is_refused_as_a_wrong_file_is():
    with pytest.raises(ConfigError, match=r"unknown key.*did you mean 'model'"):
        load_config({"dataset": {"path": "x"}, "judge": {"modle": "m"}})
    with pytest.raises(ConfigError, match="expected text, numbers, lists and mappings"):
        load_config({"dataset": {"path": object()}})
