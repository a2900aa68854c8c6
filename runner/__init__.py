"""Run an LLM judge over a dataset; the results are exactly one row per request, in Parquet.

>>> from runner import UsageError, load_config, run
>>> try:  # doctest: +SKIP
...     summary = run(load_config("judge.yaml"))
... except UsageError as error:  # the configuration, the dataset or the run directory is wrong; nothing was sent
...     print(error)

In async code and in notebooks, use `await arun(config)`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner._api import (
        ConfigError,
        DatasetError,
        JudgeRunnerError,
        RunDirectoryError,
        RunOptions,
        RunSummary,
        UsageError,
        __version__,
        arun,
        load_config,
        run,
    )

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


def __getattr__(name: str) -> Any:
    """Import the API when one of its names is used: the emulator and the report are programs that need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runner import _api

    return getattr(_api, name)
