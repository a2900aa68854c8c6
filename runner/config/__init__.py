"""The configuration: one YAML file, validated and frozen, or a clear message about every mistake in it."""

from __future__ import annotations

from runner.config.cli_values import parse_duration, parse_value, read_mapping
from runner.config.dataset import FIELDS_BY_NAME, Column, Constant, DatasetConfig, HumanLabel, KeepColumn
from runner.config.dataset_files import CsvConfig
from runner.config.json_schema import json_schema
from runner.config.judges import AggregateConfig, JudgeConfig, VerdictConfig
from runner.config.load import load_config, masked, shown_tags
from runner.config.models import (
    BatchConfig,
    BreakerConfig,
    BudgetConfig,
    ClusterConfig,
    ModelPrice,
    MonitorConfig,
    OnlineConfig,
    OutputConfig,
    PollConfig,
    PricesConfig,
    ReportConfig,
    RetryConfig,
    RouterConfig,
    RunConfig,
)
from runner.config.problems import KeyPath
from runner.config.services import Adaptive, LimitsConfig, ServiceConfig, TimeoutConfig, TokenLimits, is_loopback
from runner.config.unmatched import find_unmatched

__all__ = [
    "FIELDS_BY_NAME",
    "Adaptive",
    "AggregateConfig",
    "BatchConfig",
    "BreakerConfig",
    "BudgetConfig",
    "ClusterConfig",
    "Column",
    "Constant",
    "CsvConfig",
    "DatasetConfig",
    "HumanLabel",
    "JudgeConfig",
    "KeepColumn",
    "KeyPath",
    "LimitsConfig",
    "ModelPrice",
    "MonitorConfig",
    "OnlineConfig",
    "OutputConfig",
    "PollConfig",
    "PricesConfig",
    "ReportConfig",
    "RetryConfig",
    "RouterConfig",
    "RunConfig",
    "ServiceConfig",
    "TimeoutConfig",
    "TokenLimits",
    "VerdictConfig",
    "find_unmatched",
    "is_loopback",
    "json_schema",
    "load_config",
    "masked",
    "parse_duration",
    "parse_value",
    "read_mapping",
    "shown_tags",
]
