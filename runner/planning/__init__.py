"""What a run will ask and what that will cost; nothing is sent."""

from __future__ import annotations

from runner.planning.estimate import estimate_requests
from runner.planning.fingerprints import (
    check_request_fingerprint,
    parsing_fingerprint,
    request_fingerprint,
    what_is_stale,
)
from runner.planning.inputs import (
    RunInputs,
    RunOptions,
    check_inputs,
    prices_by_variant,
    row_lookup,
    shared_columns,
    variant_keys,
)
from runner.planning.plan import make_plan, route_of
from runner.planning.preview import first_requests, show_rows
from runner.planning.routing import Route, batch_lack, batch_services

__all__ = [
    "Route",
    "RunInputs",
    "RunOptions",
    "batch_lack",
    "batch_services",
    "check_inputs",
    "check_request_fingerprint",
    "estimate_requests",
    "first_requests",
    "make_plan",
    "parsing_fingerprint",
    "prices_by_variant",
    "request_fingerprint",
    "route_of",
    "row_lookup",
    "shared_columns",
    "show_rows",
    "variant_keys",
    "what_is_stale",
]
