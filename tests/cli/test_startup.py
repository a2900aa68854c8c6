"""Importing the program leaves the process as it was, but for where Arrow's memory comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import gc, json, os, sys
if "off" in sys.argv:
    gc.disable()
if "frozen" in sys.argv:
    gc.freeze()
from runner import run
import pyarrow
print(json.dumps([
    pyarrow.default_memory_pool().backend_name, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"), gc.isenabled(),
    gc.get_freeze_count() > 0,
]))
"""


@pytest.mark.parametrize(
    ("given", "chosen", "pool", "enabled", "frozen"),
    [
        ([], None, "system", True, False),
        (["off"], None, "system", False, False),
        (["frozen"], None, "system", True, True),
        ([], "mimalloc", "mimalloc", True, False),
    ],
)
def test_import(given: list[str], chosen: str | None, pool: str, enabled: bool, frozen: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if chosen is not None:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = chosen
    command = [sys.executable, "-c", LOOK, *given]
    looked = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert json.loads(looked.stdout) == [pool, chosen, enabled, frozen]


LOOK_AT_THE_END = """
import atexit, sys
def look():
    if "numpy" not in sys.modules:
        import pyarrow
        pyarrow.array([1])
    print("numpy" in sys.modules or "pandas" in sys.modules, file=sys.stderr)
atexit.register(look)
"""


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        (["judge-runner"], True),
        (["-m", "runner"], True),
        (["-m", "runner.report"], False),
        (["program.py", "-m", "runner"], False),
    ],
)
def test_only_the_command_does_without_numpy(command: list[str], spared: bool, tmp_path: Path) -> None:
    """A module that looks at the end what was imported stands in the way of each program."""
    (tmp_path / "sitecustomize.py").write_text(LOOK_AT_THE_END, encoding="utf-8")
    (tmp_path / "judge-runner").write_text("from runner.cli import main\nmain()\n", encoding="utf-8")
    (tmp_path / "program.py").write_text(
        "from runner import run\nimport pyarrow\npyarrow.array([1]).to_numpy()\n", encoding="utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    arguments = [str(tmp_path / word) if (tmp_path / word).exists() else word for word in command]
    looked = subprocess.run(
        [sys.executable, *arguments, "schema"], env=environment, capture_output=True, text=True, check=False
    )
    assert looked.stderr.splitlines()[-1] == str(not spared)
