"""Run an LLM judge over a dataset, exactly one row per request, into Parquet.

>>> from runner import load_config, run
>>> summary = run(load_config("judge.yaml"))  # doctest: +SKIP
"""

import gc

_collects, _frozen = gc.isenabled(), gc.get_freeze_count()
gc.disable()  # what is imported stays: to look through it for garbage over and over is a tenth of the start
try:
    from runner.closing import RunSummary
    from runner.config import load_config
    from runner.opening import RunOptions
    from runner.pipeline import arun, run
    from runner.version import __version__
finally:
    if not _frozen:
        gc.freeze()
        gc.unfreeze()  # what came counts as old now, and is not looked through as soon as gc is on again
    if _collects:
        gc.enable()

__all__ = ["RunOptions", "RunSummary", "__version__", "arun", "load_config", "run"]
