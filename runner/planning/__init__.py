"""Plan a run: the requests it would send, by which lane, for how long and at what cost. Nothing is sent."""

from __future__ import annotations

from runner.planning.estimate import estimate_requests
from runner.planning.fingerprints import (
    check_request_fingerprint,
    find_stale_columns,
    parsing_fingerprint,
    request_fingerprint,
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
from runner.planning.plan import make_plan, route_requests
from runner.planning.preview import preview_requests, preview_rows
from runner.planning.routing import Route, batch_services, why_not_batch
from runner.planning.run_state import known_dataset, requests_asked
from runner.planning.same_requests import check_requests_differ, find_same_requests

__all__ = [
    "Route",
    "RunInputs",
    "RunOptions",
    "batch_services",
    "check_inputs",
    "check_request_fingerprint",
    "check_requests_differ",
    "estimate_requests",
    "find_same_requests",
    "find_stale_columns",
    "known_dataset",
    "make_plan",
    "parsing_fingerprint",
    "preview_requests",
    "preview_rows",
    "prices_by_variant",
    "request_fingerprint",
    "requests_asked",
    "route_requests",
    "row_lookup",
    "shared_columns",
    "variant_keys",
    "why_not_batch",
]
