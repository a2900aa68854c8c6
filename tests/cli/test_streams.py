"""Standard streams that are closed, full, gone, or of a small encoding: no traceback, and the run's own exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

JUDGE_RUNNER = f"{sys.executable} -m runner"
QUESTION = "哪个更好？ 😀 é"
EMULATOR: dict[str, Any] = {"kind": "emulator", "emulator": {"latency": {"median": 0.01, "sigma": 0}}}

Shell = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def shell(tmp_path: Path, cli_environment: Callable[..., dict[str, str]]) -> Shell:
    """Run a line of shell in the test's folder; `$J` is the command."""
    rows = [{"id": f"名{n}😀", "question": QUESTION, "answer": "因为", "group": "组😀"} for n in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "name": "评测😀",
        "dataset": {"path": "data.jsonl", "keep": ["group"]},
        "judge": {"kind": "pai_single"},
        "service": EMULATOR,
        "output": {"directory": "结果😀", "tolerate": 1.0},
        "report": {"group_by": ["group"]},
    }
    (tmp_path / "judge.yaml").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")

    def run(line: str, **env: str | None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("$J", JUDGE_RUNNER)],
            cwd=tmp_path,
            env=cli_environment(env),
            capture_output=True,
            timeout=60,
            check=False,
        )

    return run


def row_count(folder: Path) -> int:
    return sum(pq.read_table(part).num_rows for part in (folder / "结果😀" / "results").glob("*.parquet"))


@pytest.mark.parametrize(
    "redirection", ["2>&-", ">&- 2>&- <&-", "2>/dev/full >/dev/full", "2>&1 | head -0", "2>&1 | head -1"]
)
def test_a_run_goes_on_without_its_terminal(redirection: str, shell: Shell, tmp_path: Path) -> None:
    ran = shell(f"$J run judge.yaml {redirection}")
    assert ran.returncode == 0, ran.stderr
    assert b"Traceback" not in ran.stderr + ran.stdout
    assert row_count(tmp_path) == 3
    assert (tmp_path / "结果😀" / "report" / "index.html").exists()
    assert json.loads((tmp_path / "结果😀" / "run.json").read_bytes())["exit_code"] == 0


OPEN_A_FILE = """
from runner.cli.streams import guard_streams
guard_streams()
with open(__file__) as file:
    print(file.fileno() > 2)
"""


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str, shell: Shell, tmp_path: Path) -> None:
    """A child process writes its messages into the file that has the number 2."""
    (tmp_path / "open_a_file.py").write_text(OPEN_A_FILE, encoding="utf-8")
    assert shell(f"{sys.executable} open_a_file.py {closed}").stdout == b"True\n"


@pytest.mark.parametrize(("line", "code"), [("schema | head -1", 0), ("schema >&-", 0), ("schema >/dev/full", 2)])
def test_data_that_nobody_gets_is_no_traceback(line: str, code: int, shell: Shell) -> None:
    ran = shell(f"$J {line}")
    assert ran.returncode == code, ran.stderr
    full = b"error: standard output: cannot be written: No space left on device\n"
    assert ran.stderr == (full if code else b"")


def test_a_watch_ends_with_its_reader(shell: Shell, tmp_path: Path) -> None:
    assert shell("$J run judge.yaml").returncode == 0
    status = tmp_path / "结果😀" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_bytes()), "state": "running"}), encoding="utf-8")
    held = "exec 9<>结果😀/lock; flock 9;"
    assert shell(f"{held} $J status 结果😀 --watch | head -1").returncode == 0


OTHERS = ("validate judge.yaml", "plan judge.yaml", "status 结果😀", "report 结果😀")


@pytest.mark.parametrize(("encoding", "others"), [("gbk", ()), ("latin-1", ()), ("ascii", ()), ("gbk:strict", OTHERS)])
def test_any_encoding_is_shown_and_data_in_a_pipe_is_utf_8(
    encoding: str, others: tuple[str, ...], shell: Shell, tmp_path: Path
) -> None:
    shown = shell("$J validate judge.yaml --show 1", PYTHONIOENCODING=encoding)
    assert shown.returncode == 0, shown.stderr
    assert QUESTION in json.loads(shown.stdout)["messages"][0]["content"][0]["json"]["question"]
    for line in ("run judge.yaml", *others):
        ran = shell(f"$J {line}", PYTHONIOENCODING=encoding)
        assert ran.returncode == 0, (line, ran.stderr)
        assert b"Traceback" not in ran.stderr
    assert (tmp_path / "结果😀" / "report" / "index.html").exists()


def test_a_terminal_without_a_character_shows_its_escape(
    tmp_path: Path, shell: Shell, cli_environment: Callable[..., dict[str, str]]
) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "runner", "validate", "judge.yaml", "--show", "1"]
    env = cli_environment({"PYTHONIOENCODING": "gbk"})
    subprocess.run(command, cwd=tmp_path, env=env, stdout=terminal, stderr=subprocess.PIPE, check=True)
    os.close(terminal)
    shown = os.read(controller, 65536).decode("gbk")
    os.close(controller)
    assert "哪个更好？ \\U0001f600 \\xe9" in shown or "哪个更好？ \\U0001f600 é" in shown


ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_without_chinese(shell: Shell) -> None:
    for line in ("validate judge.yaml", "run judge.yaml --run-dir out", "status out", "export out out.csv"):
        ran = shell(f"$J {line} --set name=n" if line.startswith(("validate", "run")) else f"$J {line}", **ASCII_ONLY)
        assert ran.returncode == 0, (line, ran.stderr)
        assert b"Traceback" not in ran.stderr


def test_what_a_locale_cannot_spell_is_named(shell: Shell) -> None:
    for line in ("run judge.yaml", "plan judge.yaml"):
        ran = shell(f"$J {line}", **ASCII_ONLY)
        assert ran.returncode == 2
        assert rb"error: this locale's encoding (ascii) has no '\u7ed3\u679c" in ran.stderr
    ran = shell("$J validate judge.yaml --set name=名", **ASCII_ONLY)
    assert (ran.returncode, b"error: --set: expected ascii text" in ran.stderr) == (2, True)
