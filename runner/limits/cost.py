"""Amounts of requests, tokens and money: the largest amount one attempt can use, and what rows say was used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.config import BudgetConfig, JudgeConfig
from runner.core import COMPLETION_CAP_PARAMETERS, Price
from runner.errors import ConfigError
from runner.judge import Variant
from runner.results import part_paths, read_part_batches
from runner.types import Row, Usage

log = logging.getLogger(__name__)

UNITS_PER_CURRENCY = 10**12  # money is counted in whole units of this fraction of the currency, so that sums are exact
UNLIMITED = 10**30  # more than any sum: no cap

# The most tokens that PAI's own prompt has. The service's page shows 790 and 823 tokens in all for tiny texts.
PAI_PROMPT_TOKENS = 2000

# The most tokens that a model's chat template adds beyond those counted for the JSON around the texts.
CHAT_PROMPT_TOKENS = 200

SPEND_COLUMNS = ("attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost")
ROWS_PER_READ = 65536


class Spend(msgspec.Struct, frozen=True, gc=False):
    """An amount that was or may be used; `cost` is in units of 1 / `UNITS_PER_CURRENCY` of the currency."""

    requests: int = 0
    tokens: int = 0
    cost: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.requests + other.requests, self.tokens + other.tokens, self.cost + other.cost)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.requests - other.requests, self.tokens - other.tokens, self.cost - other.cost)

    def __mul__(self, times: int) -> Spend:
        return Spend(self.requests * times, self.tokens * times, self.cost * times)

    def fits_in(self, other: Spend) -> bool:
        """Return True if no part of it is larger than the same part of another amount."""
        return self.requests <= other.requests and self.tokens <= other.tokens and self.cost <= other.cost

    def minimum(self, other: Spend) -> Spend:
        """Return the smaller of both amounts, part by part."""
        return Spend(min(self.requests, other.requests), min(self.tokens, other.tokens), min(self.cost, other.cost))

    def maximum(self, other: Spend) -> Spend:
        """Return the larger of both amounts, part by part."""
        return Spend(max(self.requests, other.requests), max(self.tokens, other.tokens), max(self.cost, other.cost))

    @property
    def money(self) -> float:
        """The cost in the currency."""
        return self.cost / UNITS_PER_CURRENCY


ZERO_SPEND, ONE_REQUEST, NO_CAPS = Spend(), Spend(requests=1), Spend(UNLIMITED, UNLIMITED, UNLIMITED)


def units_of(money: float) -> int:
    """Return an amount of money in units of 1 / `UNITS_PER_CURRENCY`."""
    return round(money * UNITS_PER_CURRENCY)


def caps_of(caps: BudgetConfig) -> Spend:
    """Return the caps as an amount; a missing cap is `UNLIMITED`."""
    return Spend(
        UNLIMITED if caps.requests is None else caps.requests,
        UNLIMITED if caps.tokens is None else caps.tokens,
        UNLIMITED if caps.cost is None else units_of(caps.cost),
    )


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """The largest amount that one attempt can use.

    Attributes:
        amount: the amount of everything that is capped.
        bound: the bound that it was computed from.
        route: `online` or `batch`.
        size: bytes of the body.
        limit: the cap on the answer's tokens in the body.
        prompt, completion: the most tokens of the prompt and of the answer.
    """

    amount: Spend
    bound: CostBound
    route: str
    size: int = 0
    limit: int = 0
    prompt: int = 0
    completion: int = 0


class _Limits(msgspec.Struct):
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


_limits = msgspec.json.Decoder(_Limits).decode


class CostBound:
    """The largest amount that one attempt of a judge can use, by its body; only what the caps need is computed.

    A tokenizer that works on bytes makes at most one token per byte. If the service's own prompt turns out to be longer
    than `template`, the bound is raised.

    Attributes:
        uncounted: the attempts that were charged in full, or in part, because the service did not count them.

    Args:
        caps: the YAML's `budget`.
        template: tokens that the service's own prompt adds.
        price: the price of the judge's model.
    """

    def __init__(self, caps: BudgetConfig, template: int, price: Price) -> None:
        self._needs_tokens = caps.tokens is not None or caps.cost is not None
        self._price = None if caps.cost is None else price
        self._template = template
        self._excess = 0
        self.uncounted = 0

    def at_most(self, body: bytes, route: str) -> Reservation:
        """Return the largest amount that an attempt with this body uses on a route (`online`, `batch`)."""
        if not self._needs_tokens:
            return Reservation(ONE_REQUEST, self, route)
        found, size = _limits(body), len(body)
        limit = max(found.max_tokens or 0, found.max_completion_tokens or 0)
        prompt, completion = size + self._template, limit + self._excess
        return Reservation(self._amount(prompt, completion, route), self, route, size, limit, prompt, completion)

    def counted(self, reservation: Reservation, usage: Usage) -> Spend:
        """Return what an attempt used, as the service counted; a part without a count is charged in full.

        The total counts if it is more than its parts.
        """
        if not self._needs_tokens:
            return ONE_REQUEST
        self.uncounted += usage.prompt is None or usage.completion is None
        prompt = reservation.prompt if usage.prompt is None else usage.prompt
        completion = reservation.completion if usage.completion is None else usage.completion
        completion = max(completion, (usage.total or 0) - prompt)
        if prompt > reservation.prompt or completion > reservation.completion:
            self._raise_bound(prompt - reservation.size, completion - reservation.limit)
        return self._amount(prompt, completion, reservation.route, usage.cached)

    def _raise_bound(self, template: int, excess: int) -> None:
        """Raise the bound: an attempt used more than it should be able to."""
        if template > self._template or excess > self._excess:
            self._template, self._excess = max(self._template, template), max(self._excess, excess)
            log.warning(
                "the service counted more tokens than were reserved for a request: from now on %d more than its bytes "
                "are reserved for a prompt, and %d more than max_tokens for an answer",
                *(self._template, self._excess),
            )

    def _amount(self, prompt: int, completion: int, route: str, cached: int | None = None) -> Spend:
        usage = Usage(prompt, completion, cached=cached)
        price = 0.0 if self._price is None else self._price(usage, route) or 0.0
        return Spend(1, prompt + completion, units_of(price))


def bounds_of(
    caps: BudgetConfig, judges: Sequence[JudgeConfig], variants: Sequence[Variant], prices: Sequence[Price]
) -> list[CostBound]:
    """Return for each variant the bound of its judge; `prices` are by variant, too.

    Raises ConfigError if an answer has no bound although a cap needs one.
    """
    if caps.tokens is not None or caps.cost is not None:
        for judge in judges:
            given = [judge.parameters[name] for name in COMPLETION_CAP_PARAMETERS if name in judge.parameters]
            if not given or any(type(most) is not int or most < 1 for most in given):
                raise ConfigError(
                    f"budget: a cap on cost or tokens needs parameters.max_tokens of the judge '{judge.name}', "
                    f"a whole number of at least 1, found {given[0] if given else 'none'}"
                )
    made: dict[int, CostBound] = {}
    for variant, price in zip(variants, prices, strict=True):
        template = PAI_PROMPT_TOKENS if judges[variant.judge_index].is_builtin else CHAT_PROMPT_TOKENS
        made.setdefault(variant.judge_index, CostBound(caps, template, price))
    return [made[variant.judge_index] for variant in variants]


def spent_by(rows: Iterable[Row]) -> Spend:
    """Return what rows say was used by all their attempts."""
    found = [[row[name] for name in SPEND_COLUMNS] for row in rows]
    return _spent(*zip(*found, strict=True)) if found else ZERO_SPEND


def spent_in_parts(results: Path) -> Spend:
    """Return what all rows in the closed parts say was used; raises RunDirectoryError if one cannot be read."""
    paths = part_paths(results).values()
    some = (one for path in paths for one in read_part_batches(path, SPEND_COLUMNS, ROWS_PER_READ))
    return sum((_spent(*(rows[name].to_pylist() for name in SPEND_COLUMNS)) for rows in some), ZERO_SPEND)


def _spent(
    attempts: Iterable[Any], prompt: Iterable[Any], completion: Iterable[Any], total: Iterable[Any], cost: Iterable[Any]
) -> Spend:
    requests, money = (sum(filter(None, column)) for column in (attempts, cost))
    tokens = sum(
        max((p or 0) + (c or 0), t or 0) for p, c, t in zip(prompt, completion, total, strict=True)
    )  # rows of a version before 2026-12 have less in their parts than in the total
    return Spend(requests, tokens, units_of(money))
