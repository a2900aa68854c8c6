"""What a program that imports `runner` gets."""

from runner._startup import starting

with starting():
    from runner.config import load_config
    from runner.pipeline import RunSummary, arun, run
    from runner.planning import RunOptions
    from runner.version import __version__

__all__ = ["RunOptions", "RunSummary", "__version__", "arun", "load_config", "run"]
