"""The user's folder and machine: modules of the user in the working directory, and no time zone database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runner.core import python_command

Cli = Callable[..., subprocess.CompletedProcess[str]]

# `judge-runner` as an installed console script starts it: the working directory is not on its path.
SCRIPT = "import sys; sys.argv[0] = 'judge-runner'; from runner.cli import main; main()"


@pytest.fixture
def judge_runner(
    tmp_path: Path, cli_environment: Callable[..., dict[str, str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the console script in the test's folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", SCRIPT, *arguments]
        env = cli_environment()
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parametrize(
    "names", [("runner.py", "duckdb.py", "statistics.py"), ("runner/__init__.py", "numpy/__init__.py")]
)
def test_modules_in_the_working_directory_are_not_executed(
    names: tuple[str, ...], judge_runner: Cli, tmp_path: Path
) -> None:
    for module in (tmp_path / name for name in names):
        module.parent.mkdir(exist_ok=True)
        text = "open('executed', 'w')\nprint('the module of the user')\nraise SystemExit(9)\n"
        module.write_text(text, encoding="utf-8")
    ran = judge_runner("quickstart")
    assert (ran.returncode, "the module of the user" in ran.stdout + ran.stderr) == (0, False)
    assert (tmp_path / "quickstart" / "report" / "index.html").exists()
    assert judge_runner("report", "quickstart").returncode == 0
    assert not (tmp_path / "executed").exists()


def test_the_emulate_command_does_not_execute_them(judge_runner: Cli, tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    started = judge_runner("emulate", "--host", "256.0.0.1")
    assert (started.returncode, started.stderr.startswith("error: ")) == (2, True), started.stderr


def test_a_child_has_the_package_of_its_parent_and_no_working_directory(tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("raise SystemExit(9)\n", encoding="utf-8")
    (tmp_path / "program.py").write_text("", encoding="utf-8")
    show = "import runner, runner.report, sys, json; print(json.dumps([runner.__file__, sys.path]))"
    program, folder = python_command("runner.report")[3:5]
    command = [sys.executable, "-P", "-c", program.partition("runpy.run_module")[0] + show, folder, "runner.report"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    file, path = json.loads(printed)
    assert Path(file) == Path(__file__).parents[2] / "runner" / "__init__.py"
    assert not {"", str(tmp_path)} & set(path)
    assert path.count(folder) == 1


def test_the_time_zone_database_is_a_dependency() -> None:
    assert any(line.startswith("tzdata") for line in requires("judge-runner") or ())


def test_everything_works_on_a_machine_without_time_zones(cli: Cli, tmp_path: Path) -> None:
    """An empty PYTHONTZPATH hides the machine's database: a container without one."""
    import pyarrow as pa

    numbers = [1_700_000_000_000_000 + n for n in range(4)]
    moments = {zone: pa.array(numbers, pa.timestamp("us", zone)) for zone in ("UTC", "Asia/Shanghai")}
    texts = [f"text {n}" for n in range(4)]
    pq.write_table(pa.table({"id": texts, "question": texts, "answer": texts, **moments}), tmp_path / "d.parquet")
    config = {
        "dataset": {"path": "d.parquet", "keep": list(moments)},
        "judge": {"kind": "pai_single"},
        "service": {"kind": "emulator", "emulator": {"latency": {"median": 0.0, "sigma": 0}}},
        "output": {"directory": "out"},
        "report": {},
    }
    (tmp_path / "judge.yaml").write_text(json.dumps(config), encoding="utf-8")
    for line in (
        "run judge.yaml",
        "run judge.yaml --retry failed",
        "rescore out",
        "report out",
        "export out out.csv",
        "export out out.jsonl",
        "export out out.parquet",
    ):
        ran = cli(*line.split(), env={"PYTHONTZPATH": ""})
        assert ran.returncode == 0, (line, ran.stderr)
    assert (tmp_path / "out" / "report" / "index.html").exists()
    kept = pq.read_table(tmp_path / "out.parquet").sort_by("ordinal")  # rows are in the order of their answers
    for zone, values in moments.items():
        assert kept[zone].combine_chunks().equals(values)
