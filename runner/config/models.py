"""The whole YAML as frozen models: the sections of a run, in the order a sample meets them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from runner.config.dataset import DatasetConfig
from runner.config.fields import (
    Amount,
    AutoOrFlag,
    Duration,
    EnvVarName,
    Flag,
    Frozen,
    LocalPath,
    NonEmptyText,
    NonNegativeInt,
    Positive,
    PositiveDuration,
    PositiveInt,
    PositiveShare,
    Share,
    Text,
    Words,
    expected,
    refused,
)
from runner.config.judges import AggregateConfig, JudgeConfig
from runner.config.services import ServiceConfig


class RouterConfig(Frozen):
    """Which requests go online and which by batch."""

    mode: Literal["online", "batch", "auto"] = Field(default="auto", description="Which lane is used.")
    batch_from: NonNegativeInt = Field(default=20000, description="auto: this many open requests or more go by batch.")
    online_within: Duration = Field(default=21600.0, description="auto: and so does what online would take longer for.")
    leftovers: Literal["online", "resubmit"] = Field(default="online", description="What batches did not answer.")
    on_exhausted_quota: Literal["batch", "stop"] = Field(
        default="batch", description="What to do when the online quota is gone for good."
    )


class RetryConfig(Frozen):
    """How often and how patiently a request is tried again."""

    attempts: PositiveInt = Field(default=6, description="Attempts per request, the first one included.")
    base: PositiveDuration = Field(default=0.5, description="The first wait, which doubles from there.")
    ceiling: PositiveDuration = Field(default=30.0, description="The longest wait between two attempts.")
    patience: Duration = Field(default=1800.0, description="How long an outage may last before the run stops.")


class OnlineConfig(Frozen):
    """The online lane."""

    retry: RetryConfig = Field(default=RetryConfig(), description="How a request is tried again.")


class PollConfig(Frozen):
    """How often a batch job is asked for its state, in seconds."""

    first: PositiveDuration = Field(default=10.0, description="The first wait.")
    ceiling: PositiveDuration = Field(default=60.0, description="The longest wait.")


class BatchConfig(Frozen):
    """The batch lane."""

    shard_mb: Positive = Field(default=10.0, description="The size of one upload file; 1 MB is 1,000,000 bytes.")
    shard_lines: PositiveInt = Field(default=50000, description="Requests in one upload file at most.")
    parallel: PositiveInt = Field(default=8, description="Batch jobs open at once.")
    poll: PollConfig = Field(default=PollConfig(), description="How often a job is asked for its state.")
    window: PositiveDuration = Field(default=86400.0, description="The completion window that is asked for.")
    resubmits: NonNegativeInt = Field(default=2, description="How often what a batch lost is submitted again.")
    delete_files: Flag = Field(default=True, description="Delete this run's files at the service when collected.")

    @property
    def shard_bytes(self) -> int:
        """The size of one upload file in bytes: 1 MB is 1,000,000 bytes."""
        return int(self.shard_mb * 1_000_000)


class ModelPrice(Frozen):
    """What `per` tokens of one model cost."""

    input: Amount = Field(description="Price of prompt tokens.")
    output: Amount = Field(description="Price of completion tokens.")
    batch: Amount = Field(default=1.0, description="By what the price is multiplied in batches.")


class PricesConfig(Frozen):
    """What tokens cost, in one currency."""

    currency: NonEmptyText = Field(default="CNY", description="The currency of all prices.")
    per: PositiveInt = Field(default=1_000_000, description="How many tokens a price is for.")
    models: Mapping[str, ModelPrice] = Field(description="The price of each model.")


class BudgetConfig(Frozen):
    """Hard caps on what the run may use; null: none."""

    cost: Positive | None = Field(default=None, description="In the currency of the prices.")
    requests: PositiveInt | None = Field(default=None, description="Attempts.")
    tokens: PositiveInt | None = Field(default=None, description="Prompt and completion together.")


class BreakerConfig(Frozen):
    """When so much fails that going on makes no sense."""

    window: PositiveInt = Field(default=100, description="How many finished requests are looked at.")
    share: PositiveShare = Field(default=0.5, description="The share of them that may fail.")


class OutputConfig(Frozen):
    """Where the rows go."""

    directory: LocalPath = Field(
        default="runs/<name>",
        validate_default=True,
        description="The run directory; <name> stands for the run's name.",
    )
    rows_per_part: PositiveInt = Field(default=50000, description="Rows in one Parquet file.")
    compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = Field(
        default="zstd", description="How the Parquet files are compressed."
    )
    texts: Flag = Field(default=True, description="Keep question, answers and reference in samples.parquet.")
    tolerate: Share = Field(default=0.0, description="The share of rows that may be not ok, with exit code 0.")


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+", host) or not port.isdecimal() or int(port) > 65535:
        raise expected("host:port, such as 127.0.0.1:8701")
    return value


class MonitorConfig(Frozen):
    """How a run is watched."""

    progress: AutoOrFlag = Field(default="auto", description="The progress line; auto: on a terminal.")
    listen: Annotated[Text, AfterValidator(_listen)] | None = Field(
        default=None, description="host:port of the live page and /metrics."
    )
    token_env: EnvVarName | None = Field(default=None, description="The variable with the token that page asks for.")


class ReportConfig(Frozen):
    """A report at the end of the run."""

    group_by: Words = Field(default=(), description="Kept columns by which the report is broken down.")


class ClusterConfig(Frozen):
    """The same run on many machines."""

    engine: Literal["ray"] = Field(default="ray", description="What starts the workers.")
    address: NonEmptyText = Field(default="auto", description="The cluster's address.")
    workers: PositiveInt = Field(default=4, description="How many workers share the dataset.")


def _run_name(value: str) -> str:
    if value in (".", "..") or any(character in "/\\" or not character.isprintable() for character in value):
        raise refused("expected a name that can be a folder's: no '/', no '\\' and no control characters")
    return value


def one_or_many(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the YAML's mapping with `judge` and `service` as lists of one.

    A judge that names no service is asked by the only one there is, whatever its name.
    """
    sections = dict(data)
    for one, many in (("judge", "judges"), ("service", "services")):
        if one in sections and many not in sections:
            sections[many] = [{} if sections[one] is None else sections[one]]
            del sections[one]
    judges, services = sections.get("judges"), sections.get("services")
    only = services[0] if isinstance(services, list) and len(services) == 1 else None
    if isinstance(only, Mapping) and isinstance(only.get("name"), str) and isinstance(judges, list):
        sections["judges"] = [{"service": only["name"], **j} if isinstance(j, Mapping) else j for j in judges]
    return {**sections, "output": {} if sections.get("output") is None else sections["output"]}


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise refused("expected at least one entry, found none")
    return value


def _no_prices(value: Any) -> Any:
    return None if value == {} else value


class RunConfig(Frozen):
    """A whole run: what is judged, by whom, how, and where the rows go.

    `judges` and `services` are always tuples, whichever of `judge` / `judges` and `service` / `services` was written.
    """

    name: Annotated[NonEmptyText, AfterValidator(_run_name)] = Field(
        default="run", description="Default: the file's name."
    )
    tags: Mapping[str, Text] = Field(default={}, description="Carried into run.json, status.json and the metrics.")
    dataset: DatasetConfig = Field(description="Where samples come from.")
    judges: Annotated[tuple[JudgeConfig, ...], AfterValidator(_some)] = Field(description="A panel of judges.")
    aggregate: AggregateConfig = Field(default=AggregateConfig(), description="How votes become one verdict.")
    services: Annotated[tuple[ServiceConfig, ...], AfterValidator(_some)] = Field(
        default=(ServiceConfig(),), description="Several services, each with its own name."
    )
    router: RouterConfig = Field(default=RouterConfig(), description="Which lanes are used, and when.")
    online: OnlineConfig = Field(default=OnlineConfig(), description="One request at a time.")
    batch: BatchConfig = Field(default=BatchConfig(), description="One file of requests at a time.")
    prices: Annotated[PricesConfig | None, BeforeValidator(_no_prices)] = Field(
        default=None, description="What tokens cost; {} for unknown."
    )
    budget: BudgetConfig = Field(default=BudgetConfig(), description="Hard caps on what the run may use.")
    breaker: BreakerConfig = Field(default=BreakerConfig(), description="When so much fails that the run stops.")
    output: OutputConfig = Field(description="Where the rows go.")
    monitor: MonitorConfig = Field(default=MonitorConfig(), description="How the run is watched.")
    report: ReportConfig | None = Field(default=None, description="The report at the end; null: none.")
    cluster: ClusterConfig | None = Field(default=None, description="Run on many machines; null: on this one.")

    _source: Path = PrivateAttr(default=Path())
    _base: Path = PrivateAttr(default=Path())
    _document: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _as_lists(cls, data: Any) -> Any:
        return one_or_many(data) if isinstance(data, dict) else data

    @property
    def source(self) -> Path:
        """The YAML file this came from, absolute."""
        return self._source

    @property
    def base(self) -> Path:
        """The folder that relative paths start from."""
        return self._base

    @property
    def document(self) -> str:
        """The text to keep beside the results: as given, or with the overrides merged; variables unexpanded."""
        return self._document

    def came_from(self, source: Path, base: Path, document: str) -> RunConfig:
        """Return the same configuration with a note of where it came from."""
        copy = self.model_copy()
        copy._source, copy._base, copy._document = source, base, document
        return copy
