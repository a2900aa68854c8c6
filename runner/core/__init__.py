"""Helpers that several rooms share and that depend on none of them."""

from __future__ import annotations

from runner.core.files import TEMPORARY_SUFFIX, put_in_place, sync_directory, write_json, write_text
from runner.core.pricing import Price, no_price, price_of
from runner.core.shutdown import Drained, DrainSignal
from runner.core.text import counted, duration, nearest, storable
from runner.core.tokens import (
    BYTES_PER_TOKEN,
    COMPLETION_CAP_PARAMETERS,
    COMPLETION_TOKENS,
    TEMPLATE_TOKENS,
    estimate_body,
    lower_bound,
)
from runner.core.waiters import WaitQueue

__all__ = [
    "BYTES_PER_TOKEN",
    "COMPLETION_CAP_PARAMETERS",
    "COMPLETION_TOKENS",
    "TEMPLATE_TOKENS",
    "TEMPORARY_SUFFIX",
    "DrainSignal",
    "Drained",
    "Price",
    "WaitQueue",
    "counted",
    "duration",
    "estimate_body",
    "lower_bound",
    "nearest",
    "no_price",
    "price_of",
    "put_in_place",
    "storable",
    "sync_directory",
    "write_json",
    "write_text",
]
