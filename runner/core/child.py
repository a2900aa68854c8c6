"""The command line of a child process that runs another program of this package."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parents[2]

# Imports `runner` from the folder that this process has it from. The folder is appended to the path only afterwards, so
# that in a checkout no file of the folder hides a module of the standard library.
_PROGRAM = """
import runpy, sys
folder, module = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, folder)
import runner
del sys.path[0]
if folder not in sys.path:
    sys.path.append(folder)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package as a program, with this Python and this `runner`.

    The working directory is not on the child's path: a user's `runner.py` or `statistics.py` there is never executed.

    Args:
        module: the module, such as `runner.report`.
        arguments: its arguments. They need to be ASCII: a terminal's encoding can be too small for anything else.
    """
    return [sys.executable, "-P", "-c", _PROGRAM, str(PACKAGE_FOLDER), module, *arguments]
