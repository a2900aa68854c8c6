"""Importing the program leaves the process as it was, but for where Arrow's memory comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LOOK = """
import gc, json, os, sys
if "off" in sys.argv:
    gc.disable()
if "frozen" in sys.argv:
    gc.freeze()
import runner, pyarrow
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
