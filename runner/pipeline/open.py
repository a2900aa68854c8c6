"""Everything before the first request: check what was given, open the run directory, find out what is left to ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from runner.config import RunConfig
from runner.core import Price, counted, write_text
from runner.dataset import (
    DatasetFingerprint,
    growth,
    take_fingerprint,
)
from runner.errors import RunDirectoryError, UsageError
from runner.lanes.batch import Ledger, ShardBudget, claim, refresh, replaced
from runner.limits import NO_CAPS, Budget, bounds_of, caps_of, spent_in_parts
from runner.monitor import logged_to
from runner.pipeline.reparse import ReparseContext, check_requests, reparse_rows
from runner.planning import (
    RunInputs,
    RunOptions,
    check_inputs,
    check_request_fingerprint,
    parsing_fingerprint,
    prices_by_variant,
    request_fingerprint,
    row_lookup,
    shared_columns,
    variant_keys,
    what_is_stale,
)
from runner.results import CompletionIndex, RunDirectory, move_aside, own_floats, recover, scan
from runner.types import Row

log = logging.getLogger(__name__)


class OpenRun(msgspec.Struct, frozen=True):
    """A run directory that is held, in order, and known."""

    inputs: RunInputs
    options: RunOptions
    directory: RunDirectory
    ledger: Ledger
    fingerprint: DatasetFingerprint
    done: CompletionIndex
    next_part: int
    shared: tuple[Row, ...]
    prices: tuple[Price, ...]
    earlier: dict[str, Any]
    fingerprints: dict[str, Any]
    budget: Budget | None = None
    shard_budget: ShardBudget | None = None

    @property
    def total(self) -> int:
        """How many requests the run is about."""
        return self.done.samples * len(self.done.variants)


@contextmanager
def open_run(config: RunConfig, options: RunOptions) -> Iterator[OpenRun]:
    """Hold the run directory, bring it into order, and find out what is left; raises UsageError, nothing was sent."""
    checked = check_inputs(config)
    if options.detach and any(service.kind == "emulator" for service in config.services):
        raise UsageError("--detach: the embedded emulator ends with the run, and its batches with it")
    directory = RunDirectory(config.output.directory)
    if options.fresh and directory.path.exists() and directory.is_run():
        if directory.is_held():
            raise RunDirectoryError(f"{directory.path}: another judge-runner works in this run directory")
        aside = move_aside(directory.path)
        log.warning("the earlier run was moved to %s", aside)
        if open_shards := len(Ledger(RunDirectory(aside).batches).open_shards):
            log.warning(
                "%s of it %s open at the service: `judge-runner run %s` collects them, `cancel` cancels them",
                counted(open_shards, "batch", "batches"),
                "is" if open_shards == 1 else "are",
                aside,
            )
    directory.prepare()
    with directory.held(), logged_to(directory.log):
        yield _writing(directory, partial(_take_stock, checked, options, directory))


def _writing(directory: RunDirectory, work: Callable[[], OpenRun]) -> OpenRun:
    """Do what writes into the run directory before anything is sent; raises RunDirectoryError where it cannot."""
    try:
        return work()
    except (OSError, pa.ArrowException) as error:
        raise RunDirectoryError(f"{directory.path}: cannot be brought into order: {error}") from error


def _take_stock(checked: RunInputs, options: RunOptions, directory: RunDirectory) -> OpenRun:
    config = checked.config
    earlier = directory.read_run()
    if not earlier and (directory.has_rows() or directory.has_shards()):
        raise RunDirectoryError(f"{directory.path}: there are rows but no run.json; put it back, or use --fresh")
    asked = request_fingerprint(config)
    check_request_fingerprint(str(directory.path), earlier.get("asking", {}), asked)
    known = DatasetFingerprint.from_data(earlier["dataset"]) if earlier else None
    counted = take_fingerprint(checked.files, known)
    written = directory.read_schema() or checked.schema
    next_part = recover(directory.path, written, config.output.compression)
    ledger = _ledger(directory, config)
    samples_again = row_lookup(checked, counted, checked.reader.sample)
    again = ReparseContext(
        checked.panel, variant_keys(checked.panel), prices_by_variant(config, checked.panel), samples_again
    )
    changed = known is not None and growth(known, counted) == "changed"
    if changed:
        check_requests(directory.path, again, ledger)
    if earlier and (directory.has_rows() or ledger.open_shards):
        stale = what_is_stale(earlier, parsing_fingerprint(config))
        columns = changed or stale.columns or written != checked.schema
        if columns or stale.verdicts:
            _read_again(directory, checked, earlier, again if columns else msgspec.structs.replace(again, cursor=None))
        if columns:
            refresh(ledger, samples_again, own_floats(checked.schema))
    samples = counted.rows if options.limit is None else min(options.limit, counted.rows)
    done = scan(directory.path, samples, again.variants, options.retry, replaced(ledger))
    claim(ledger, checked.panel, done, directory.path)
    write_text(directory.config, config.document)
    budget, purse = _budget(checked, directory, ledger, again.prices, done)
    return OpenRun(
        checked,
        options,
        directory,
        ledger,
        counted,
        done,
        next_part,
        tuple(shared_columns(config, variant) for variant in checked.panel.variants),
        again.prices,
        earlier,
        {
            "asking": {**earlier.get("asking", {}), **asked},
            "reading": parsing_fingerprint(config),
            "dataset": counted.to_data(),
        },
        budget,
        purse,
    )


def _budget(
    inputs: RunInputs, directory: RunDirectory, ledger: Ledger, prices: tuple[Price, ...], done: CompletionIndex
) -> tuple[Budget | None, ShardBudget | None]:
    """The budget and its batch side, with what was used so far; None without a cap."""
    caps, panel = inputs.config.budget, inputs.panel
    if caps_of(caps) == NO_CAPS:
        return None, None
    bounds = bounds_of(caps, panel.judges, panel.variants, prices)
    budget = Budget(caps, directory.path / "budget.json", bounds, spent_in_parts(directory.results), done.missing)
    shard_budget = ShardBudget(budget, ledger, panel)
    shard_budget.restore()
    return budget, shard_budget


def _ledger(directory: RunDirectory, config: RunConfig) -> Ledger:
    """The shards there are; those of an embedded emulator ended with it, but for what was collected already."""
    ledger = Ledger(directory.batches)
    ledger.clean_up()
    embedded = {service.name for service in config.services if service.kind == "emulator"}
    for shard in ledger.open_shards:
        if shard.service in embedded and shard.step not in ("reconcile", "delete"):
            ledger.drop(shard, "its batch ended with the embedded emulator that held it")
    return ledger


def _read_again(directory: RunDirectory, checked: RunInputs, earlier: Mapping[str, Any], again: ReparseContext) -> None:
    """Read the stored answers again.

    Until `run.json` is written with the new reading it says that none is known: were this cut off, parts of both
    readings would stand there, and even the old configuration would have to read them again.
    """
    directory.write_run({**earlier, "reading": None})
    rows = reparse_rows(directory.results, checked.schema, checked.config.output.compression, again)
    log.info("read %d stored answers again", rows)
