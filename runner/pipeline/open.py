"""Open a run: check the inputs, lock and recover the run directory, and find the requests that are still missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import msgspec
import pyarrow as pa

from runner.config import RunConfig
from runner.core import Price, connections_per_service, counted, now, write_text
from runner.dataset import DatasetFingerprint, growth, take_fingerprint
from runner.errors import RunDirectoryError, UsageError
from runner.lanes.batch import (
    Ledger,
    ShardBudget,
    batches_replacing_rows,
    mark_submitted,
    refresh_submitted_columns,
)
from runner.limits import NO_CAPS, Budget, bounds_of, caps_of, read_spent, spent_in_parts
from runner.monitor import log_to_file
from runner.pipeline.reparse import ReparseContext, check_requests, reparse_rows
from runner.planning import (
    RunInputs,
    RunOptions,
    check_inputs,
    check_request_fingerprint,
    check_requests_differ,
    find_same_requests,
    find_stale_columns,
    known_dataset,
    parsing_fingerprint,
    prices_by_variant,
    request_fingerprint,
    requests_asked,
    row_lookup,
    shared_columns,
    variant_keys,
)
from runner.results import (
    CompletionIndex,
    Rejected,
    RunDirectory,
    add_missing_columns,
    dataset_fields,
    extra_float_columns,
    load_completion_index,
    move_aside,
    recover_results,
)
from runner.types import Row

log = logging.getLogger(__name__)


class OpenRun(msgspec.Struct, frozen=True):
    """A run whose directory is locked and recovered.

    Attributes:
        inputs: the configuration and what was loaded for it.
        options: the options of the command line.
        directory: the run directory.
        ledger: the shards of the run.
        fingerprint: row counts and content hashes of the dataset's files.
        done: the index of finished requests.
        next_part: the number of the next journal segment and part.
        rejected: what of the journal cannot become a row.
        shared: for each variant, the columns that have the same value for all its rows.
        prices: for each variant, the price of its tokens.
        earlier: run.json as the last call left it; empty in a new directory.
        id: the id of the run, which its state files name.
        started_at: when this call opened it, as run.json holds times.
        fingerprints: the entries `asking`, `reading` and `dataset` of run.json.
        budget: the budget; None without a cap.
        shard_budget: its reservations for shards; None without a cap.
    """

    inputs: RunInputs
    options: RunOptions
    directory: RunDirectory
    ledger: Ledger
    fingerprint: DatasetFingerprint
    done: CompletionIndex
    next_part: int
    rejected: Rejected
    shared: tuple[Row, ...]
    prices: tuple[Price, ...]
    earlier: dict[str, Any]
    id: str
    started_at: str
    fingerprints: dict[str, Any]
    budget: Budget | None = None
    shard_budget: ShardBudget | None = None

    @property
    def total(self) -> int:
        """The number of requests of the run."""
        return self.done.samples * len(self.done.variants)


@contextmanager
def open_run(config: RunConfig, options: RunOptions) -> Iterator[OpenRun]:
    """Lock the run directory, recover it and find the missing requests; sends nothing.

    Raises:
        UsageError: the configuration, the dataset, an option or the run directory is not valid.
    """
    inputs = check_inputs(config)
    connections_per_service(len(config.services))
    for warning in inputs.warnings:
        log.warning("%s", warning)
    if options.detach and any(service.kind == "emulator" for service in config.services):
        raise UsageError("--detach: the embedded emulator ends with the run, and its batches with it")
    directory = RunDirectory(config.output.directory)
    _check_requests_differ(inputs, options, directory)
    if options.fresh and directory.is_run():
        _move_earlier_run(directory, config.output.lock)
    directory.prepare()
    with directory.held(config.output.lock), log_to_file(directory.log):
        yield _report_write_errors(directory, partial(_build_open_run, inputs, options, directory))


def _check_requests_differ(inputs: RunInputs, options: RunOptions, directory: RunDirectory) -> None:
    """Refuse a new run whose requests are all alike; the requests of an earlier run cannot change any more."""
    if options.fresh or not directory.is_run():
        check_requests_differ(inputs)
    elif (problem := find_same_requests(inputs)) is not None:
        log.warning("%s", problem)


def _move_earlier_run(directory: RunDirectory, lock: Literal["file", "none"]) -> None:
    with directory.held(lock):
        aside = move_aside(directory.path)
    log.warning("the earlier run was moved to %s", aside)
    try:
        open_shards = len(Ledger(RunDirectory(aside).batches).open_shards)
    except RunDirectoryError as error:
        log.warning("whether batches of it are open is unknown: %s", error)
        return
    if open_shards:
        log.warning(
            "%s of it %s open at the service: `judge-runner run %s` collects them, `cancel` cancels them",
            counted(open_shards, "batch", "batches"),
            "is" if open_shards == 1 else "are",
            aside,
        )


def _report_write_errors(directory: RunDirectory, work: Callable[[], OpenRun]) -> OpenRun:
    """Run `work`, which writes into the run directory; raises RunDirectoryError if it cannot."""
    try:
        return work()
    except (OSError, pa.ArrowException) as error:
        raise RunDirectoryError(f"{directory.path}: cannot be recovered: {error}") from error


def _read_earlier_run(directory: RunDirectory, config: RunConfig) -> dict[str, Any]:
    """Returns run.json; raises RunDirectoryError if it is missing beside rows or belongs to other requests."""
    earlier = directory.read_run()
    if not earlier and (directory.has_rows() or directory.has_shards()):
        raise RunDirectoryError(f"{directory.path}: there are rows but no run.json; put it back, or use --fresh")
    asked = requests_asked(directory, earlier)
    check_request_fingerprint(str(directory.path), asked, request_fingerprint(config))
    return earlier and {**earlier, "asking": asked}


def _build_open_run(inputs: RunInputs, options: RunOptions, directory: RunDirectory) -> OpenRun:
    config = inputs.config
    earlier, started_at = _read_earlier_run(directory, config), now()
    run_id = earlier.get("id") or f"{config.name}-{started_at}"
    ledger = Ledger(directory.batches, run_id)  # before anything is changed: a file that does not fit is refused
    _check_budget(directory, config, run_id)
    known = known_dataset(directory, earlier)
    fingerprint = take_fingerprint(inputs.files, known)
    stored_schema = directory.read_schema() or inputs.schema
    rejected = Rejected(directory.journal)
    next_part = recover_results(directory.path, stored_schema, config.output.compression, rejected)
    _clear_ledger(ledger, config)
    lookup = row_lookup(inputs, fingerprint, inputs.reader.sample)
    context = ReparseContext(inputs.panel, variant_keys(inputs.panel), prices_by_variant(config, inputs.panel), lookup)
    dataset_changed = known is not None and growth(known, fingerprint) == "changed"
    if dataset_changed:
        check_requests(directory.path, context, ledger)
    if earlier and (directory.has_rows() or ledger.open_shards):
        has_new_columns = dataset_changed or dataset_fields(stored_schema) != dataset_fields(inputs.schema)
        _update_stored_rows(directory, inputs, earlier, context, ledger, has_new_columns)
    samples = fingerprint.rows if options.limit is None else min(options.limit, fingerprint.rows)
    replaced = batches_replacing_rows(ledger)
    done = load_completion_index(directory.path, samples, context.variants, options.retry, replaced)
    mark_submitted(ledger, inputs.panel, done, directory.path)
    write_text(directory.config, config.document)
    return OpenRun(
        inputs,
        options,
        directory,
        ledger,
        fingerprint,
        done,
        next_part,
        rejected,
        tuple(shared_columns(config, variant) for variant in inputs.panel.variants),
        context.prices,
        earlier,
        run_id,
        started_at,
        {
            "asking": {**earlier.get("asking", {}), **request_fingerprint(config)},
            "reading": parsing_fingerprint(config),
            "dataset": fingerprint.to_data(),
        },
        *_open_budget(inputs, directory, ledger, context.prices, done, run_id),
    )


def _check_budget(directory: RunDirectory, config: RunConfig, run_id: str) -> None:
    """Refuse a budget.json that is damaged or belongs to another run, if there is a budget."""
    if caps_of(config.budget) != NO_CAPS:
        read_spent(directory.budget, run_id)


def _open_budget(
    inputs: RunInputs,
    directory: RunDirectory,
    ledger: Ledger,
    prices: tuple[Price, ...],
    done: CompletionIndex,
    run_id: str,
) -> tuple[Budget | None, ShardBudget | None]:
    """Returns the budget and its reservations for shards, with what was used so far; None without a cap."""
    caps, panel = inputs.config.budget, inputs.panel
    if caps_of(caps) == NO_CAPS:
        return None, None
    bounds = bounds_of(caps, panel.judges, panel.variants, prices)
    spent = spent_in_parts(directory.results)
    budget = Budget(caps, directory.budget, bounds, spent, done.missing, run=run_id)
    shard_budget = ShardBudget(budget, ledger, panel)
    shard_budget.restore()
    return budget, shard_budget


def _clear_ledger(ledger: Ledger, config: RunConfig) -> None:
    """Remove what a crash left; shards of an embedded emulator ended with it, unless their results are downloaded."""
    ledger.clean_up()
    embedded = {service.name for service in config.services if service.kind == "emulator"}
    for shard in ledger.open_shards:
        if shard.service in embedded and shard.step not in ("reconcile", "delete"):
            ledger.drop(shard, "its batch ended with the embedded emulator that held it")


def _update_stored_rows(
    directory: RunDirectory,
    inputs: RunInputs,
    earlier: Mapping[str, Any],
    context: ReparseContext,
    ledger: Ledger,
    has_new_columns: bool,
) -> None:
    """Parse the stored responses again, and refresh the dataset's columns, if either is out of date.

    Parts of an earlier version get the columns that they lack.

    Until run.json is written with the new parsing fingerprint, it holds none. If this is interrupted, some parts follow
    the old settings and some the new ones, and even a run with the old configuration has to parse them all again.
    """
    stale = find_stale_columns(earlier, parsing_fingerprint(inputs.config))
    refreshes_columns = has_new_columns or stale.columns
    if refreshes_columns or stale.verdicts:
        directory.write_run({**earlier, "reading": None})
        context = context if refreshes_columns else msgspec.structs.replace(context, lookup=None)
        rows = reparse_rows(directory.results, inputs.schema, inputs.config.output.compression, context)
        log.info("parsed %d stored responses again", rows)
    elif parts := add_missing_columns(directory.path, inputs.schema, inputs.config.output.compression):
        log.info("%d parts of an earlier version have all columns now", parts)
    if refreshes_columns and context.lookup is not None:
        refresh_submitted_columns(ledger, context.lookup, extra_float_columns(inputs.schema))
