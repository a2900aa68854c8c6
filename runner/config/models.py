"""The whole YAML as frozen models: the sections of a run in the order in which a sample passes through them."""

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
from runner.config.problems import KeyPath
from runner.config.services import ServiceConfig


class RouterConfig(Frozen):
    """Which requests are sent online and which by batch."""

    mode: Literal["online", "batch", "auto"] = Field(
        default="auto", description="The lane; auto: chosen by count and time."
    )
    batch_from: NonNegativeInt = Field(
        default=20000, description="auto: from this many open requests on, the batch lane is used."
    )
    online_within: Duration = Field(
        default=21600.0, description="auto: the batch lane is used if the online lane would take longer than this."
    )
    leftovers: Literal["online", "resubmit"] = Field(
        default="online", description="How requests that batches did not answer are sent again."
    )
    on_exhausted_quota: Literal["batch", "stop"] = Field(
        default="batch", description="What to do when the online quota is exhausted for good."
    )


class RetryConfig(Frozen):
    """How often and after which waits a request is tried again."""

    attempts: PositiveInt = Field(default=6, description="Attempts per request, including the first.")
    base: PositiveDuration = Field(default=0.5, description="The first wait; each later wait is twice as long.")
    ceiling: PositiveDuration = Field(default=30.0, description="The longest wait between two attempts.")
    patience: Duration = Field(default=1800.0, description="How long an outage may last before the run stops.")
    max_retry_after: PositiveDuration | None = Field(
        default=None,
        description="The longest wait that a service may ask for (Retry-After); null: as long as `patience`.",
    )

    @property
    def longest_wait(self) -> float:
        """Seconds that a service may ask to wait; if it asks for more, the run stops, to be run again later."""
        return self.patience if self.max_retry_after is None else self.max_retry_after


class OnlineConfig(Frozen):
    """The online lane."""

    retry: RetryConfig = Field(default=RetryConfig(), description="How a request is tried again.")


class PollConfig(Frozen):
    """How often the state of a batch job is polled, in seconds."""

    first: PositiveDuration = Field(default=10.0, description="The first wait.")
    ceiling: PositiveDuration = Field(default=60.0, description="The longest wait.")


class BatchConfig(Frozen):
    """The batch lane."""

    shard_mb: Positive = Field(default=10.0, description="The size of one upload file; 1 MB is 1,000,000 bytes.")
    shard_lines: PositiveInt = Field(default=50000, description="The most requests in one upload file.")
    parallel: PositiveInt = Field(default=8, description="The most batch jobs open at once.")
    poll: PollConfig = Field(default=PollConfig(), description="How often the state of a job is polled.")
    window: PositiveDuration = Field(default=86400.0, description="The completion window to request.")
    resubmits: NonNegativeInt = Field(
        default=2, description="How often requests that a batch lost are submitted again."
    )
    delete_files: Flag = Field(
        default=True, description="Delete this run's files at the service once they are collected."
    )

    @property
    def shard_bytes(self) -> int:
        """The size of one upload file in bytes: 1 MB is 1,000,000 bytes."""
        return int(self.shard_mb * 1_000_000)


class ModelPrice(Frozen):
    """The price of `per` tokens of one model."""

    input: Amount = Field(description="Price of prompt tokens.")
    output: Amount = Field(description="Price of completion tokens.")
    cached: Amount | None = Field(
        default=None, description="Price of prompt tokens that the service had cached; null: the same as `input`."
    )
    batch: Amount = Field(default=1.0, description="The factor on all prices in batches.")

    @model_validator(mode="after")
    def _cached_is_cheaper(self) -> ModelPrice:
        if self.cached is not None and self.cached > self.input:
            raise refused(f"expected `cached` to be at most `input`, {self.input:g}, found {self.cached:g}")
        return self


class PricesConfig(Frozen):
    """The prices of tokens, in one currency."""

    currency: NonEmptyText = Field(default="CNY", description="The currency of all prices.")
    per: PositiveInt = Field(default=1_000_000, description="How many tokens a price is for.")
    models: Mapping[str, ModelPrice] = Field(description="The price of each model.")


class BudgetConfig(Frozen):
    """Hard limits on what the run may use; null: no limit."""

    cost: Positive | None = Field(default=None, description="The limit on cost, in the currency of the prices.")
    requests: PositiveInt | None = Field(default=None, description="The limit on attempts.")
    tokens: PositiveInt | None = Field(default=None, description="The limit on prompt and completion tokens together.")


class BreakerConfig(Frozen):
    """The failure threshold at which the run stops. It does not close again."""

    window: PositiveInt = Field(default=100, description="How many of the last calls to a service are counted.")
    share: PositiveShare = Field(default=0.5, description="The share of them that may fail.")
    refusals: PositiveInt = Field(
        default=20, description="How many different requests in a row may be refused alike, with no answer between."
    )


class OutputConfig(Frozen):
    """Where and how the rows are written."""

    directory: LocalPath = Field(
        default="runs/<name>",
        validate_default=True,
        description="The run directory; <name> is replaced with the run's name.",
    )
    rows_per_part: PositiveInt = Field(default=50000, description="Rows in one Parquet file.")
    compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = Field(
        default="zstd", description="How the Parquet files are compressed."
    )
    texts: Flag = Field(default=True, description="Keep question, answers and reference in samples.parquet.")
    lock: Literal["file", "none"] = Field(
        default="file",
        description="How two runs are kept from one directory; none: not at all, for file systems without locks.",
    )
    tolerate: Share = Field(default=0.0, description="The share of rows that may be not ok while the exit code is 0.")


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+", host) or not port.isdecimal() or int(port) > 65535:
        raise expected("host:port, such as 127.0.0.1:8701")
    return value


class MonitorConfig(Frozen):
    """How the progress of a run is shown."""

    progress: AutoOrFlag = Field(default="auto", description="The progress line; auto: on a terminal.")
    listen: Annotated[Text, AfterValidator(_listen)] | None = Field(
        default=None, description="host:port of the live page and /metrics."
    )
    token_env: EnvVarName | None = Field(
        default=None, description="The environment variable with the token that the page requires."
    )


class ReportConfig(Frozen):
    """A report at the end of the run."""

    group_by: Words = Field(default=(), description="Columns of the results by which the report is broken down.")


class ClusterConfig(Frozen):
    """The same run on several machines."""

    engine: Literal["ray"] = Field(default="ray", description="What starts the workers.")
    address: NonEmptyText = Field(default="auto", description="The cluster's address.")
    workers: PositiveInt = Field(default=4, description="How many workers share the dataset.")


def _run_name(value: str) -> str:
    if value in (".", "..") or any(character in "/\\" or not character.isprintable() for character in value):
        raise refused("expected a valid folder name: no '/', no '\\' and no control characters")
    return value


def one_or_many(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping of the YAML with `judge` and `service` as lists of one.

    If there is only one service, judges that name none use it, whatever its name is.
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


def _at_least_one(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise refused("expected at least one entry, found none")
    return value


def _no_prices(value: Any) -> Any:
    return None if value == {} else value


class RunConfig(Frozen):
    """A whole run: dataset, judges, services, lanes and output.

    `judges` and `services` are always tuples, even if the YAML has `judge` or `service`.
    """

    name: Annotated[NonEmptyText, AfterValidator(_run_name)] = Field(
        default="run", description="The name of the run; default: the name of the file."
    )
    tags: Mapping[str, Text] = Field(default={}, description="Copied into run.json, status.json and the metrics.")
    dataset: DatasetConfig = Field(description="The samples.")
    judges: Annotated[tuple[JudgeConfig, ...], AfterValidator(_at_least_one)] = Field(description="A panel of judges.")
    aggregate: AggregateConfig = Field(default=AggregateConfig(), description="How votes become one verdict.")
    services: Annotated[tuple[ServiceConfig, ...], AfterValidator(_at_least_one)] = Field(
        default=(ServiceConfig(),), description="Several services, each with its own name."
    )
    router: RouterConfig = Field(default=RouterConfig(), description="Which lanes are used, and when.")
    online: OnlineConfig = Field(default=OnlineConfig(), description="The online lane: one request per call.")
    batch: BatchConfig = Field(default=BatchConfig(), description="The batch lane: files of requests.")
    prices: Annotated[PricesConfig | None, BeforeValidator(_no_prices)] = Field(
        default=None, description="The prices of tokens; {}: unknown."
    )
    budget: BudgetConfig = Field(default=BudgetConfig(), description="Hard limits on what the run may use.")
    breaker: BreakerConfig = Field(default=BreakerConfig(), description="The failure threshold at which the run stops.")
    output: OutputConfig = Field(description="Where and how the rows are written.")
    monitor: MonitorConfig = Field(default=MonitorConfig(), description="How the progress of the run is shown.")
    report: ReportConfig | None = Field(default=None, description="The report at the end; null: none.")
    cluster: ClusterConfig | None = Field(default=None, description="Run on several machines; null: on this one.")

    _source: Path = PrivateAttr(default=Path())
    _base: Path = PrivateAttr(default=Path())
    _document: str = PrivateAttr(default="")
    _overrides: tuple[str, ...] = PrivateAttr(default=())
    _variables: Mapping[KeyPath, str] = PrivateAttr(default={})

    @model_validator(mode="before")
    @classmethod
    def _as_lists(cls, data: Any) -> Any:
        return one_or_many(data) if isinstance(data, dict) else data

    @property
    def source(self) -> Path:
        """The absolute path of the YAML file."""
        return self._source

    @property
    def base(self) -> Path:
        """The folder that relative paths start from."""
        return self._base

    @property
    def document(self) -> str:
        """The YAML to store in the run directory: as given or with the overrides merged, variables not expanded."""
        return self._document

    @property
    def overrides(self) -> tuple[str, ...]:
        """The `KEY=VALUE` of every `--set`."""
        return self._overrides

    @property
    def variables(self) -> Mapping[KeyPath, str]:
        """What was written for each value that came from a variable, by its path; such a value is shown nowhere."""
        return self._variables

    def with_origin(
        self,
        source: Path,
        base: Path,
        document: str,
        overrides: tuple[str, ...] = (),
        variables: Mapping[KeyPath, str] | None = None,
    ) -> RunConfig:
        """Return a copy of the configuration that knows its source, base folder, document and variables."""
        copy = self.model_copy()
        copy._source, copy._base, copy._document, copy._overrides = source, base, document, overrides
        copy._variables = variables or {}
        return copy
