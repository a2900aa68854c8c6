"""run.log as the library's user gets it: loggers may have been used before the run."""

from __future__ import annotations

import logging
from pathlib import Path

from runner.monitor.run_log import log_to_file


def test_a_logger_that_was_used_before_the_run_is_in_its_log(tmp_path: Path) -> None:
    """`logging` remembers that a level is off until `setLevel` is called."""
    logger = logging.getLogger("runner.used_before")
    assert not logger.isEnabledFor(logging.INFO)
    with log_to_file(tmp_path / "run.log"):
        logger.info("seen")
    assert "seen" in (tmp_path / "run.log").read_text(encoding="utf-8")
