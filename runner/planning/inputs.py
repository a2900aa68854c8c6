"""Check the inputs before there is a run directory: tokens, dataset, columns, templates."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec
import pyarrow as pa

from runner.config import Column, Constant, RunConfig, ServiceConfig, find_unmatched
from runner.core import Price, check_regex_engine, no_price, price_of
from runner.dataset import (
    Columns,
    DataFile,
    DatasetFingerprint,
    RawRow,
    Read,
    RowLookup,
    SampleReader,
    check_columns,
    check_template_paths,
    chunks,
    columns,
    discover,
)
from runner.errors import ConfigError
from runner.judge import Panel, Variant
from runner.planning.labels import label_kind
from runner.planning.scales import common_scale, describe_scales
from runner.planning.template_names import check_constants, known_fields, lookalikes_of, used_paths
from runner.results import CommonScale, VariantKey, results_schema
from runner.service import check_connection, check_options
from runner.types import TEXT_FIELDS, Row, Secret


class RunOptions(msgspec.Struct, frozen=True):
    """The options of the command line.

    Attributes:
        limit: judge only the first `limit` samples.
        retry: statuses (`failed`, `unparsed`) whose requests are sent again.
        fresh: rename an existing run directory and start over.
        max_time: seconds after which the run is drained.
        grace: seconds that requests in flight get when the run is drained; None: their own timeout.
        quiet: show errors only.
        detach: submit batches, collect those that are ready, and exit.
        cancel: cancel the open batches, keep their answers, and send nothing else.
        resubmit_unknown: send requests again whose batch may have been paid for but whose state cannot be determined.
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
    """The configuration and what was loaded for it, checked without a run directory: nothing was written or sent.

    Attributes:
        config: the configuration.
        tokens: the API token of each service; None if it needs none.
        panel: the judges.
        files: the dataset's files.
        reader: turns their rows into samples.
        texts: the text columns that samples.parquet can show.
        schema: the schema of the results.
        warnings: what in the configuration has no effect, a line each.
        common_scale: which scores are averaged as positions; None if the judges' scales do not differ.
        first_rows: the first rows of the dataset, as far as they had to be read.
        lookalikes: by judge, the first text in its prompts that looks like a placeholder and is none.
    """

    config: RunConfig
    tokens: Mapping[str, Secret | None]
    panel: Panel
    files: tuple[DataFile, ...]
    reader: SampleReader
    texts: tuple[str, ...]
    schema: pa.Schema
    warnings: tuple[str, ...] = ()
    common_scale: CommonScale | None = None
    first_rows: tuple[RawRow, ...] = ()
    lookalikes: Mapping[str, str] = {}


def check_inputs(config: RunConfig, environ: Mapping[str, str] | None = None) -> RunInputs:
    """Check tokens, dataset, columns and templates; reads only the beginning of the dataset.

    Raises:
        UsageError: something is not valid; a ConfigError names the configuration file.
    """
    check_regex_engine()
    try:
        return _inputs(config, os.environ if environ is None else environ)
    except ConfigError as error:
        where = f"{config.source}: " if config.source.name else ""
        raise ConfigError(f"{where}{error}") from None


def _inputs(config: RunConfig, environ: Mapping[str, str]) -> RunInputs:
    tokens = {service.name: _token(service, environ) for service in config.services}
    for service in config.services:
        check_connection(service)
    panel = Panel(config.judges)
    common = common_scale(config.judges)
    notes: list[str] = []
    files = discover(config.dataset, notes)
    required = panel.required_fields()
    used = {name for names in required.values() for name in names}
    fields = {name for name in used if config.dataset.source_of(name) is not None}
    found = columns(files, config.dataset.optional, used_paths(config.dataset, used))
    config = with_default_id(config, found)
    check_columns(config.dataset, fields, found)
    panel.check_names(fields - {"id"} | known_fields(config.dataset, found), found.names)
    check_constants(config.dataset, required)
    check_template_paths(config.dataset, sorted(used - fields), found)
    reader = SampleReader(config.dataset, found, label_kind=label_kind(config), also=used - fields)
    texts = tuple(name for name in TEXT_FIELDS if _has_source(config, name, found))
    schema = results_schema(reader.result_fields())
    scales = () if common is None else (describe_scales(config.judges, common),)
    alike = [(judge.name, item) for judge in config.judges for item in lookalikes_of(judge, config.dataset, found)]
    placeholders = (f"judge `{name}`: {item.described}" for name, item in alike)
    warnings = (*find_unmatched(config), *scales, *notes, *found.missing_optional(), *placeholders)
    meant = {name: item.described for name, item in reversed(alike)}
    return RunInputs(config, tokens, panel, files, reader, texts, schema, warnings, common, found.first_rows, meant)


def with_default_id(config: RunConfig, found: Columns) -> RunConfig:
    """Take the id from `sample_id`, as samples.parquet calls it, if no id is mapped and there is no column `id`."""
    dataset = config.dataset
    if "id" in dataset.fields or found.has("id") or not found.has("sample_id"):
        return config
    fields = {**dataset.fields, "id": Column(path="sample_id")}
    return config.model_copy(update={"dataset": dataset.model_copy(update={"fields": fields})})


def _token(service: ServiceConfig, environ: Mapping[str, str]) -> Secret | None:
    """Returns the service's token; also checks the options of an embedded emulator."""
    try:
        if service.kind == "emulator":
            check_options(service.emulator)
        return service.token(environ)
    except ConfigError as error:
        keys = {"emulator": "emulator", "http": "token_env" if service.token_file is None else "token_file"}
        raise ConfigError(f"service.{keys[service.kind]}: {error}") from None


def _has_source(config: RunConfig, field: str, found: Columns) -> bool:
    source = config.dataset.source_of(field)
    return source is not None and (isinstance(source, Constant) or found.has(source.path))


def row_lookup(inputs: RunInputs, fingerprint: DatasetFingerprint, read: Callable[[RawRow], Read]) -> RowLookup[Read]:
    """Returns a lookup of the dataset's rows by ordinal; `read` converts each row."""
    return RowLookup(lambda: chunks(inputs.files, known=fingerprint, columns=inputs.reader.columns), read)


def variant_keys(panel: Panel) -> dict[VariantKey, int]:
    """Returns the number of each variant by its judge, order and repeat."""
    return {(v.judge, v.swapped, v.repeat): number for number, v in enumerate(panel.variants)}


def prices_by_variant(config: RunConfig, panel: Panel) -> tuple[Price, ...]:
    """Returns the price of the tokens of each variant."""
    prices = config.prices
    if prices is None:
        return (no_price,) * len(panel.variants)
    models = [prices.models.get(config.judges[variant.judge_index].model) for variant in panel.variants]
    return tuple(no_price if m is None else price_of(m.input, m.output, prices.per, m.batch, m.cached) for m in models)


def shared_columns(config: RunConfig, variant: Variant) -> Row:
    """Returns the columns that have the same value for all rows of a variant."""
    judge = config.judges[variant.judge_index]
    return {
        "judge": judge.name,
        "judge_model": judge.model,
        "kind": judge.kind,
        "service": judge.service[0],
        "swapped": variant.swapped,
        "repeat": variant.repeat,
    }
