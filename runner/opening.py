"""Everything before the first request: check what was given, open the run directory, find out what is left to ask."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from runner.batch.ledger import Ledger
from runner.batch.members import claim, refresh, replaced
from runner.batch.purse import Purse
from runner.budget import Budget
from runner.changes import asking, check_asking, reading, what_is_stale
from runner.config import Constant, RunConfig, ServiceConfig
from runner.cursor import Cursor, Read
from runner.dataset import (
    Columns,
    DataFile,
    RawRow,
    SampleReader,
    Survey,
    check_columns,
    chunks,
    columns,
    discover,
    growth,
    survey,
)
from runner.embedded import check_options
from runner.errors import ConfigError, RunDirectoryError, UsageError
from runner.judge import Panel, Variant
from runner.monitor.log import logged_to
from runner.monitor.progress import counted
from runner.reread import Again, check_requests, reread
from runner.results.directory import RunDirectory, move_aside
from runner.results.disk import write_text
from runner.results.recorder import Price, no_price, price_of
from runner.results.resume import Done, VariantKey, recover, scan
from runner.results.samples import TEXTS
from runner.results.schema import own_floats, results_schema
from runner.spend import UNCAPPED, bounds_of, caps_of, spent_in_parts
from runner.types import Row, Secret

log = logging.getLogger(__name__)


class RunOptions(msgspec.Struct, frozen=True):
    """What the command line adds to the configuration.

    Attributes:
        limit: judge only the first so many samples.
        retry: statuses (`failed`, `unparsed`) whose rows are asked again.
        fresh: move an existing run directory aside and start anew.
        max_time: drain after so many seconds.
        grace: seconds that requests under way get when the run is drained; None: as long as their own timeout.
        quiet: show errors only.
        detach: submit or collect what is ready by batch, and leave.
        cancel: cancel the open batches, keep what they answered, and ask nothing else.
        resubmit_unknown: ask requests again whose batch may have been paid for, but cannot be found out about.
    """

    limit: int | None = None
    retry: tuple[str, ...] = ()
    fresh: bool = False
    max_time: float | None = None
    grace: float | None = None
    quiet: bool = False
    detach: bool = False
    cancel: bool = False
    resubmit_unknown: bool = False


class Checked(msgspec.Struct, frozen=True):
    """What was given, checked as far as that goes without the run directory: nothing was written or sent."""

    config: RunConfig
    tokens: Mapping[str, Secret | None]
    panel: Panel
    files: tuple[DataFile, ...]
    reader: SampleReader
    texts: tuple[str, ...]
    schema: pa.Schema


class OpenRun(msgspec.Struct, frozen=True):
    """A run directory that is held, in order, and known."""

    checked: Checked
    options: RunOptions
    directory: RunDirectory
    ledger: Ledger
    survey: Survey
    done: Done
    next_part: int
    shared: tuple[Row, ...]
    prices: tuple[Price, ...]
    earlier: dict[str, Any]
    fingerprints: dict[str, Any]
    budget: Budget | None = None
    purse: Purse | None = None

    @property
    def total(self) -> int:
        """How many requests the run is about."""
        return self.done.samples * len(self.done.variants)


def check(config: RunConfig, environ: Mapping[str, str] = os.environ) -> Checked:
    """Check tokens, dataset, columns and templates; raises UsageError. Reads only the beginning of the dataset."""
    try:
        return _checked(config, environ)
    except ConfigError as error:
        where = f"{config.source}: " if config.source.name else ""
        raise ConfigError(f"{where}{error}") from None


def _checked(config: RunConfig, environ: Mapping[str, str]) -> Checked:
    tokens = {service.name: _token(service, environ) for service in config.services}
    panel = Panel(config.judges)
    files = discover(config.dataset)
    found = columns(files)
    used = {name for names in panel.required_fields().values() for name in names}
    fields = {name for name in used if config.dataset.source_of(name) is not None}
    check_columns(config.dataset, fields, found)
    panel.check_names(fields, found.names)
    reader = SampleReader(config.dataset, found, pairwise="answer2" in used, also=used - fields)
    texts = tuple(name for name in TEXTS if _has(config, name, found))
    return Checked(config, tokens, panel, files, reader, texts, results_schema(reader.result_fields()))


def _token(service: ServiceConfig, environ: Mapping[str, str]) -> Secret | None:
    """The service's token; an embedded service's options are tried here too, before there is a run directory."""
    try:
        if service.kind == "emulator":
            check_options(service.emulator)
        return service.token(environ)
    except ConfigError as error:
        keys = {"emulator": "emulator", "http": "token_env" if service.token_file is None else "token_file"}
        raise ConfigError(f"service.{keys[service.kind]}: {error}") from None


def _has(config: RunConfig, field: str, found: Columns) -> bool:
    source = config.dataset.source_of(field)
    return source is not None and (isinstance(source, Constant) or found.has(source.path))


@contextmanager
def open_run(config: RunConfig, options: RunOptions) -> Iterator[OpenRun]:
    """Hold the run directory, bring it into order, and find out what is left; raises UsageError, nothing was sent."""
    checked = check(config)
    if options.detach and any(service.kind == "emulator" for service in config.services):
        raise UsageError("--detach: the embedded emulator ends with the run, and its batches with it")
    directory = RunDirectory(config.output.directory)
    if options.fresh and directory.path.exists() and directory.is_run():
        if directory.is_held():
            raise RunDirectoryError(f"{directory.path}: another judge-runner works in this run directory")
        aside = move_aside(directory.path)
        log.warning("the earlier run was moved to %s", aside)
        if open_shards := len(Ledger(RunDirectory(aside).batches).open):
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


def _take_stock(checked: Checked, options: RunOptions, directory: RunDirectory) -> OpenRun:
    config = checked.config
    earlier = directory.read_run()
    if not earlier and (directory.has_rows() or directory.has_shards()):
        raise RunDirectoryError(f"{directory.path}: there are rows but no run.json; put it back, or use --fresh")
    asked = asking(config)
    check_asking(str(directory.path), earlier.get("asking", {}), asked)
    known = Survey.from_data(earlier["dataset"]) if earlier else None
    counted = survey(checked.files, known)
    written = directory.read_schema() or checked.schema
    next_part = recover(directory.path, written, config.output.compression)
    ledger = _ledger(directory, config)
    samples_again = cursor(checked, counted, checked.reader.sample)
    again = Again(checked.panel, _variants(checked.panel), _prices(config, checked.panel), samples_again)
    changed = known is not None and growth(known, counted) == "changed"
    if changed:
        check_requests(directory.path, again, ledger)
    if earlier and (directory.has_rows() or ledger.open):
        stale = what_is_stale(earlier, reading(config))
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
        tuple(_shared(config, variant) for variant in checked.panel.variants),
        again.prices,
        earlier,
        {
            "asking": {**earlier.get("asking", {}), **asked},
            "reading": reading(config),
            "dataset": counted.to_data(),
        },
        budget,
        purse,
    )


def _budget(
    checked: Checked, directory: RunDirectory, ledger: Ledger, prices: tuple[Price, ...], done: Done
) -> tuple[Budget | None, Purse | None]:
    """The budget and its batch side, with what was used so far; None without a cap."""
    caps, panel = checked.config.budget, checked.panel
    if caps_of(caps) == UNCAPPED:
        return None, None
    bounds = bounds_of(caps, panel.judges, panel.variants, prices)
    budget = Budget(caps, directory.path / "budget.json", bounds, spent_in_parts(directory.results), done.missing)
    purse = Purse(budget, ledger, panel)
    purse.take_stock()
    return budget, purse


def _ledger(directory: RunDirectory, config: RunConfig) -> Ledger:
    """The shards there are; those of an embedded emulator ended with it, but for what was collected already."""
    ledger = Ledger(directory.batches)
    ledger.tidy()
    embedded = {service.name for service in config.services if service.kind == "emulator"}
    for shard in ledger.open:
        if shard.service in embedded and shard.step not in ("reconcile", "delete"):
            ledger.give_up(shard, "its batch ended with the embedded emulator that held it")
    return ledger


def _read_again(directory: RunDirectory, checked: Checked, earlier: Mapping[str, Any], again: Again) -> None:
    """Read the stored answers again.

    Until `run.json` is written with the new reading it says that none is known: were this cut off, parts of both
    readings would stand there, and even the old configuration would have to read them again.
    """
    directory.write_run({**earlier, "reading": None})
    rows = reread(directory.results, checked.schema, checked.config.output.compression, again)
    log.info("read %d stored answers again", rows)


def cursor(checked: Checked, counted: Survey, read: Callable[[RawRow], Read]) -> Cursor[Read]:
    """A cursor over the whole dataset, as it was counted."""
    return Cursor(lambda: chunks(checked.files, known=counted, columns=checked.reader.columns), read)


def _variants(panel: Panel) -> dict[VariantKey, int]:
    return {(v.judge, v.swapped, v.repeat): number for number, v in enumerate(panel.variants)}


def _prices(config: RunConfig, panel: Panel) -> tuple[Price, ...]:
    """What the tokens of each variant cost."""
    prices = config.prices
    if prices is None:
        return (no_price,) * len(panel.variants)
    models = [prices.models.get(config.judges[variant.judge_index].model) for variant in panel.variants]
    return tuple(no_price if m is None else price_of(m.input, m.output, prices.per, m.batch) for m in models)


def _shared(config: RunConfig, variant: Variant) -> Row:
    """The columns that all rows of a variant share."""
    judge = config.judges[variant.judge_index]
    return {
        "judge": judge.name,
        "judge_model": judge.model,
        "kind": judge.kind,
        "service": judge.service[0],
        "swapped": variant.swapped,
        "repeat": variant.repeat,
    }
