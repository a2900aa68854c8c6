"""Check what was given, before there is a run directory: tokens, dataset, columns, templates."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec
import pyarrow as pa

from runner.config import Constant, RunConfig, ServiceConfig
from runner.core import Price, no_price, price_of
from runner.dataset import (
    Columns,
    DataFile,
    DatasetFingerprint,
    RawRow,
    Read,
    RowLookup,
    SampleReader,
    check_columns,
    chunks,
    columns,
    discover,
)
from runner.errors import ConfigError
from runner.judge import Panel, Variant
from runner.results import TEXT_FIELDS, VariantKey, results_schema
from runner.service import check_options
from runner.types import Row, Secret


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


class RunInputs(msgspec.Struct, frozen=True):
    """What was given, checked as far as that goes without the run directory: nothing was written or sent."""

    config: RunConfig
    tokens: Mapping[str, Secret | None]
    panel: Panel
    files: tuple[DataFile, ...]
    reader: SampleReader
    texts: tuple[str, ...]
    schema: pa.Schema


def check_inputs(config: RunConfig, environ: Mapping[str, str] = os.environ) -> RunInputs:
    """Check tokens, dataset, columns and templates; raises UsageError. Reads only the beginning of the dataset."""
    try:
        return _inputs(config, environ)
    except ConfigError as error:
        where = f"{config.source}: " if config.source.name else ""
        raise ConfigError(f"{where}{error}") from None


def _inputs(config: RunConfig, environ: Mapping[str, str]) -> RunInputs:
    tokens = {service.name: _token(service, environ) for service in config.services}
    panel = Panel(config.judges)
    files = discover(config.dataset)
    found = columns(files)
    used = {name for names in panel.required_fields().values() for name in names}
    fields = {name for name in used if config.dataset.source_of(name) is not None}
    check_columns(config.dataset, fields, found)
    panel.check_names(fields, found.names)
    reader = SampleReader(config.dataset, found, pairwise="answer2" in used, also=used - fields)
    texts = tuple(name for name in TEXT_FIELDS if _has(config, name, found))
    return RunInputs(config, tokens, panel, files, reader, texts, results_schema(reader.result_fields()))


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


def row_lookup(checked: RunInputs, counted: DatasetFingerprint, read: Callable[[RawRow], Read]) -> RowLookup[Read]:
    """A cursor over the whole dataset, as it was counted."""
    return RowLookup(lambda: chunks(checked.files, known=counted, columns=checked.reader.columns), read)


def variant_keys(panel: Panel) -> dict[VariantKey, int]:
    return {(v.judge, v.swapped, v.repeat): number for number, v in enumerate(panel.variants)}


def prices_by_variant(config: RunConfig, panel: Panel) -> tuple[Price, ...]:
    """What the tokens of each variant cost."""
    prices = config.prices
    if prices is None:
        return (no_price,) * len(panel.variants)
    models = [prices.models.get(config.judges[variant.judge_index].model) for variant in panel.variants]
    return tuple(no_price if m is None else price_of(m.input, m.output, prices.per, m.batch) for m in models)


def shared_columns(config: RunConfig, variant: Variant) -> Row:
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
