"""A file system without locks: writers say so, readers go on, and `output.lock: none` is the user's own risk."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runner import load_config, run
from runner.cli.commands import app
from runner.errors import RunDirectoryError

CONFIG = """
dataset: {path: data.jsonl}
judge: {kind: pai_single}
service: {kind: emulator}
output: {directory: run}
monitor: {progress: false}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    lines = [f'{{"id": "s{n}", "question": "q", "answer": "a{n}"}}' for n in range(5)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    path = tmp_path / "judge.yaml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_writers_are_refused_and_readers_go_on(config: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    directory = config.parent / "run"
    assert run(load_config(config)).exit_code == 0

    def no_lock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    with pytest.raises(RunDirectoryError, match=r"has no locks .*output.lock: none"):
        run(load_config(config))
    for command in (["status", str(directory)], ["export", str(directory), str(config.parent / "rows.jsonl")]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    assert "finished" in CliRunner().invoke(app, ["status", str(directory)]).output
    config.write_text(CONFIG.replace("{directory: run}", "{directory: run, lock: none}"))
    summary = run(load_config(config))
    assert (summary.exit_code, summary.asked) == (0, 0)
