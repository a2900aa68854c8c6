"""What came from a variable is shown nowhere in clear, and files of questions and answers are their owner's."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import load_config, run
from runner.cli.commands import app
from runner.errors import ConfigError, RunDirectoryError
from runner.planning.fingerprints import VARIABLE

SECRET = "gateway-secret-0123456789"
CONFIG = """
dataset: {path: data.jsonl}
judge:
  parameters: {api_key: "${GATEWAY}", nested: {list: [1, "${GATEWAY}"]}, temperature: 0}
  pai: {scene: "${GATEWAY}"}
service: {kind: emulator}
tags: {team: "${GATEWAY}", plain: text}
output: {directory: run}
monitor: {progress: false}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY", SECRET)
    (tmp_path / "data.jsonl").write_text('{"id": "a", "question": "q", "answer": "a"}\n')
    path = tmp_path / "judge.yaml"
    path.write_text(CONFIG)
    return path


def test_the_value_of_a_variable_is_in_no_file_and_a_new_value_is_noticed(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(load_config(config)).exit_code == 0
    files = [path for path in (config.parent / "run").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    data = json.loads((config.parent / "run" / "run.json").read_text())
    assert data["asking"]["judge"]["parameters"]["api_key"][VARIABLE] == "${GATEWAY}"
    assert data["tags"] == {"team": "${GATEWAY}", "plain": "text"}
    assert run(load_config(config)).exit_code == 0
    monkeypatch.setenv("GATEWAY", "another-value-1")
    with pytest.raises(RunDirectoryError, match="belongs to another run") as caught:
        run(load_config(config))
    assert SECRET not in str(caught.value)
    assert "another-value-1" not in str(caught.value)


def test_a_run_directory_of_an_earlier_version_has_the_value_in_clear_and_goes_on(config: Path) -> None:
    assert run(load_config(config)).exit_code == 0
    path = config.parent / "run" / "run.json"
    data = json.loads(path.read_text())
    data["asking"]["judge"]["parameters"] = {"api_key": SECRET, "nested": {"list": [1, SECRET]}, "temperature": 0}
    data["asking"]["judge"]["pai"] = {"scene": SECRET}
    path.write_text(json.dumps(data))
    summary = run(load_config(config))
    assert (summary.exit_code, summary.asked) == (0, 0)
    assert SECRET not in path.read_text()


def test_validate_shows_the_variables(config: Path) -> None:
    output = CliRunner().invoke(app, ["validate", str(config)]).output
    assert SECRET not in output
    assert output.count("${GATEWAY}") == 4


@pytest.mark.parametrize(
    "override",
    [
        "judge.parameters.api_key=sk-literal-1",
        "judge.parameters.extra={auth: {token: sk-literal-1}}",
        "judge.pai.secret=sk-literal-1",
    ],
)
def test_secrets_in_the_body_come_from_variables(config: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="secrets do not belong in this file") as caught:
        load_config(config, [override])
    assert "sk-literal-1" not in str(caught.value)


def test_files_of_questions_and_answers_are_their_owners(config: Path) -> None:
    assert run(load_config(config)).exit_code == 0
    directory = config.parent / "run"
    private = [directory / name for name in ("results/part-00000.parquet", "samples.parquet", "run.log")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600] * 3
