"""Helpers that several rooms share and that depend on none of them."""

from __future__ import annotations

from runner.core.child import python_command
from runner.core.files import (
    TEMPORARY_SUFFIX,
    damaged,
    open_private,
    put_in_place,
    read_json,
    read_small,
    sync_directory,
    write_json,
    write_text,
)
from runner.core.finish_reason import Ending, ending_of
from runner.core.open_files import (
    NO_MORE_FILES,
    RESERVED_OPEN_FILES,
    connections_per_service,
    open_file_limit,
    raise_open_file_limit,
)
from runner.core.pricing import Price, no_price, price_of
from runner.core.regex_check import check_regex_engine
from runner.core.shutdown import Drained, DrainSignal
from runner.core.text import (
    counted,
    duration,
    escape_controls,
    escape_controls_in_json,
    nearest,
    now,
    storable,
    without_ids,
    without_values,
)
from runner.core.tokens import (
    BYTES_PER_TOKEN,
    COMPLETION_CAP_PARAMETERS,
    COMPLETION_TOKENS,
    TEMPLATE_TOKENS,
    estimate_body,
    lower_bound,
)
from runner.core.value_paths import MISSING, has_position, is_position, list_problem, splits, value_at
from runner.core.waiters import WaitQueue

__all__ = [
    "BYTES_PER_TOKEN",
    "COMPLETION_CAP_PARAMETERS",
    "COMPLETION_TOKENS",
    "MISSING",
    "NO_MORE_FILES",
    "RESERVED_OPEN_FILES",
    "TEMPLATE_TOKENS",
    "TEMPORARY_SUFFIX",
    "DrainSignal",
    "Drained",
    "Ending",
    "Price",
    "WaitQueue",
    "check_regex_engine",
    "connections_per_service",
    "counted",
    "damaged",
    "duration",
    "ending_of",
    "escape_controls",
    "escape_controls_in_json",
    "estimate_body",
    "has_position",
    "is_position",
    "list_problem",
    "lower_bound",
    "nearest",
    "no_price",
    "now",
    "open_file_limit",
    "open_private",
    "price_of",
    "put_in_place",
    "python_command",
    "raise_open_file_limit",
    "read_json",
    "read_small",
    "splits",
    "storable",
    "sync_directory",
    "value_at",
    "without_ids",
    "without_values",
    "write_json",
    "write_text",
]
