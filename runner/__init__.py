"""Run an LLM judge over a dataset, exactly one row per request, into Parquet.

>>> from runner import load_config, run
>>> summary = run(load_config("judge.yaml"))  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner._api import RunOptions, RunSummary, __version__, arun, load_config, run

__all__ = ["RunOptions", "RunSummary", "__version__", "arun", "load_config", "run"]


def __getattr__(name: str) -> Any:
    """Load all of it when something of it is asked for: the emulator and the report are programs that need nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runner import _api as api

    return getattr(api, name)
