"""What a program that imports `runner` gets."""

from runner.starting import starting

with starting():
    from runner.closing import RunSummary
    from runner.config import load_config
    from runner.opening import RunOptions
    from runner.pipeline import arun, run
    from runner.version import __version__

__all__ = ["RunOptions", "RunSummary", "__version__", "arun", "load_config", "run"]
