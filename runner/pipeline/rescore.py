"""Parse every stored response again, with the current parsing settings; no request is sent."""

from __future__ import annotations

from runner.config import RunConfig
from runner.errors import RunDirectoryError, RunStopped, UsageError
from runner.lanes.batch import Ledger
from runner.pipeline.finish import RunSummary, finish_run
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import open_run
from runner.planning import RunOptions, check_inputs
from runner.results import RunDirectory


def rescore_run(config: RunConfig) -> RunSummary:
    """Parse the stored responses of a run directory again, and write its samples.parquet.

    Every response is parsed, even if the configuration has not changed: the rules of a verdict format may have. No
    token is needed, because no request is sent.

    Raises:
        UsageError: the configuration, the dataset or the run directory is not valid, or there is no run.
    """
    config = _without_tokens(config)
    check_inputs(config)
    directory = RunDirectory(config.output.directory)
    limit = _clear_parsing_fingerprint(directory, config)
    with open_run(config, RunOptions(limit=limit)) as run:
        run.done.keep_all_old(run.inputs.panel.place)  # a run would send these requests again
        manifest = RunManifest(run)
        missing = run.total - manifest.counts.done
        stop = None
        if missing:
            message = f"{missing:,} requests have no row yet; `judge-runner run {directory.path}` sends them"
            stop = RunStopped("incomplete", message, exit_code=4)
        return finish_run(run, manifest, stop)


def _without_tokens(config: RunConfig) -> RunConfig:
    services = [service.model_copy(update={"token_env": None, "token_file": None}) for service in config.services]
    return config.model_copy(update={"services": tuple(services)})


def _clear_parsing_fingerprint(directory: RunDirectory, config: RunConfig) -> int | None:
    """Remove the parsing fingerprint from `run.json`, so that every response is parsed; returns the run's limit."""
    if not directory.is_run():
        raise UsageError(f"{directory.path}: not a run directory")
    with directory.held(config.output.lock):
        earlier = directory.read_run()
        Ledger(directory.batches, earlier.get("id"))
        if earlier:
            try:
                directory.write_run({**earlier, "reading": None})
            except OSError as error:
                raise RunDirectoryError(f"{directory.path}: run.json cannot be written: {error.strerror}") from error
    limit: int | None = earlier.get("limit")
    return limit
