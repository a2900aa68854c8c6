"""`python -m runner` runs the command `judge-runner`."""

import os
import sys
from pathlib import Path


def _leave_working_directory() -> None:
    """Remove the working directory, which `-m` puts first, from the path, unless this package is in it.

    No `statistics.py` or `duckdb.py` of the user is imported then, as with the console command.
    """
    here = Path(__file__).resolve().parents[1]
    if sys.path and sys.path[0] == os.getcwd() and Path(sys.path[0]).resolve() != here:  # noqa: PTH109 - as Python wrote it
        del sys.path[0]


if __name__ == "__main__":
    _leave_working_directory()
    from runner.cli import main

    main()
