"""Read every stored answer again with a changed reading, and ask nothing."""

from __future__ import annotations

from runner.config import RunConfig
from runner.errors import RunStopped, UsageError
from runner.judge import Panel
from runner.pipeline.finish import RunSummary, finish_run
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import open_run
from runner.planning import RunOptions, check_inputs
from runner.results import CompletionIndex, RunDirectory


def rescore_run(config: RunConfig) -> RunSummary:
    """Read the stored answers of a configuration's run directory again, and write its `samples.parquet`.

    Every answer is read, also where the configuration is the old one: the rules of a format may be newer. Raises
    UsageError where something given does not fit; no token is needed, for nothing is sent.
    """
    config = _without_tokens(config)
    check_inputs(config)
    directory = RunDirectory(config.output.directory)
    limit = _forget_reading(directory)
    with open_run(config, RunOptions(limit=limit)) as opened:
        _take_as_they_are(opened.done, opened.inputs.panel)
        record = RunManifest(opened)
        missing = opened.total - record.counts.done
        stop = None
        if missing:
            message = f"{missing:,} requests have no row yet; `judge-runner run {directory.path}` goes on with them"
            stop = RunStopped("incomplete", message, exit_code=4)
        return finish_run(opened, record, stop)


def _without_tokens(config: RunConfig) -> RunConfig:
    bare = [service.model_copy(update={"token_env": None, "token_file": None}) for service in config.services]
    return config.model_copy(update={"services": tuple(bare)})


def _forget_reading(directory: RunDirectory) -> int | None:
    """Let `run.json` say that no reading is known, so that every answer is read again; returns the run's limit."""
    if not directory.is_run():
        raise UsageError(f"{directory.path}: no run is here")
    with directory.held():
        earlier = directory.read_run()
        if earlier:
            directory.write_run({**earlier, "reading": None})
    limit: int | None = earlier.get("limit")
    return limit


def _take_as_they_are(done: CompletionIndex, panel: Panel) -> None:
    """Count the rows that a run would ask again (they failed for a transient cause): here they are what there is."""
    for custom_id, carried in list(done.earlier.items()):
        place = panel.place(custom_id)
        if place is not None:
            ordinal, variant = place
            status = "unparsed" if custom_id in done.unreadable else "failed"
            done.mark_answered({"ordinal": ordinal, "status": status, **carried}, variant)
