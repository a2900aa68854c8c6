"""Importing the program changes no process-wide setting except Arrow's memory pool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINT_SETTINGS = """
import gc, json, os, sys
at_start = gc.get_freeze_count()  # Python 3.12 freezes some objects itself
if "off" in sys.argv:
    gc.disable()
if "frozen" in sys.argv:
    gc.freeze()
from runner import run
import pyarrow
print(json.dumps([
    pyarrow.default_memory_pool().backend_name, os.environ.get("ARROW_DEFAULT_MEMORY_POOL"), gc.isenabled(),
    gc.get_freeze_count() > at_start,
]))
"""


@pytest.mark.parametrize(
    ("given", "variable", "pool", "enabled", "frozen"),
    [
        ([], None, "system", True, False),
        (["off"], None, "system", False, False),
        (["frozen"], None, "system", True, True),
        ([], "mimalloc", "mimalloc", True, False),
    ],
)
def test_import_restores_the_settings(
    given: list[str], variable: str | None, pool: str, enabled: bool, frozen: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    if variable is not None:
        environment["ARROW_DEFAULT_MEMORY_POOL"] = variable
    command = [sys.executable, "-c", PRINT_SETTINGS, *given]
    imported = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert json.loads(imported.stdout) == [pool, variable, enabled, frozen]


PRINT_AT_EXIT = """
import atexit, sys
def print_imported():
    if "numpy" not in sys.modules:
        import pyarrow
        pyarrow.array([1])
    print("numpy" in sys.modules or "pandas" in sys.modules, file=sys.stderr)
atexit.register(print_imported)
"""


@pytest.mark.parametrize(
    ("command", "hidden"),
    [
        (["judge-runner"], True),
        (["-m", "runner"], True),
        (["-m", "runner.report"], False),
        (["program.py", "-m", "runner"], False),
    ],
)
def test_only_the_command_hides_numpy(command: list[str], hidden: bool, tmp_path: Path) -> None:
    """Each program imports a `sitecustomize` that prints at exit whether NumPy or pandas was imported."""
    (tmp_path / "sitecustomize.py").write_text(PRINT_AT_EXIT, encoding="utf-8")
    (tmp_path / "judge-runner").write_text("from runner.cli import main\nmain()\n", encoding="utf-8")
    (tmp_path / "program.py").write_text(
        "from runner import run\nimport pyarrow\npyarrow.array([1]).to_numpy()\n", encoding="utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    arguments = [str(tmp_path / word) if (tmp_path / word).exists() else word for word in command]
    ran = subprocess.run(
        [sys.executable, *arguments, "schema"], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stderr.splitlines()[-1] == str(not hidden)
