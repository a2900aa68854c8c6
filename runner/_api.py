"""The public Python API, imported when one of its names is used."""

from runner._startup import lean_imports

with lean_imports():
    from runner.config import load_config
    from runner.errors import ConfigError, DatasetError, JudgeRunnerError, RunDirectoryError, UsageError
    from runner.pipeline import RunSummary, arun, run
    from runner.planning import RunOptions
    from runner.version import __version__

__all__ = [
    "ConfigError",
    "DatasetError",
    "JudgeRunnerError",
    "RunDirectoryError",
    "RunOptions",
    "RunSummary",
    "UsageError",
    "__version__",
    "arun",
    "load_config",
    "run",
]
