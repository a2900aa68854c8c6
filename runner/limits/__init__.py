"""How fast and how much may be sent: concurrency, request and token rates, adaptive control, and the budget."""

from __future__ import annotations

from runner.limits.adaptive import AdaptiveController
from runner.limits.budget import Budget, BudgetQueue, read_spent
from runner.limits.cost import (
    NO_CAPS,
    SPEND_COLUMNS,
    UNITS_PER_CURRENCY,
    UNLIMITED,
    ZERO_SPEND,
    Reservation,
    Spend,
    bounds_of,
    caps_of,
    spent_by,
    spent_in_parts,
    units_of,
)
from runner.limits.limiter import Lease, RequestLimiter
from runner.limits.token_quota import TokenEstimator, TokenQuota

__all__ = [
    "NO_CAPS",
    "SPEND_COLUMNS",
    "UNITS_PER_CURRENCY",
    "UNLIMITED",
    "ZERO_SPEND",
    "AdaptiveController",
    "Budget",
    "BudgetQueue",
    "Lease",
    "RequestLimiter",
    "Reservation",
    "Spend",
    "TokenEstimator",
    "TokenQuota",
    "bounds_of",
    "caps_of",
    "read_spent",
    "spent_by",
    "spent_in_parts",
    "units_of",
]
